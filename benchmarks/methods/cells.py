"""Cells: one method on one calibration at one width and seed; each is a file named after everything that defines it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from inc_laaciq.provenance import sources_sha256
from methods.bench import Bench
from methods.registry import METHOD_VERSION, METHODS, Method

FLOAT = "float"


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One thing to be done; the float model is a cell of its own."""

    method: str
    calibration: str = "none"
    bits: int = 0
    group_size: int = 0
    seed: int = 0

    @property
    def label(self) -> str:
        """For people."""
        if self.method == FLOAT:
            return FLOAT
        return f"{self.method} {self.calibration} {self.bits}b g{self.group_size} seed {self.seed}"


def plan(
    methods: Sequence[Method], *, grids: Sequence[tuple[int, int]], seeds: int
) -> tuple[list[Cell], list[dict[str, Any]]]:
    """Cells to do, and methods that cannot be run with the reason why; the float model comes first.

    A grid is a number of bits and a group size.
    """
    cells, not_run = [Cell(method=FLOAT)], []
    for method in methods:
        refused = {width: reason for width, _ in grids if (reason := method.unavailable(width))}
        not_run += [{"method": method.name, "bits": width, "why": reason} for width, reason in refused.items()]
        cells += _cells(method, [grid for grid in grids if grid[0] not in refused], seeds)
    return cells, not_run


def _cells(method: Method, grids: Sequence[tuple[int, int]], seeds: int) -> list[Cell]:
    return [
        Cell(method=method.name, calibration=calibration, bits=width, group_size=size, seed=seed)
        for width, size in grids
        for calibration in method.calibrations
        for seed in range(1 if calibration == "none" else seeds)
    ]


def finished_elsewhere(
    methods: Sequence[Method], *, grids: Sequence[tuple[int, int]], seeds: int, bench: Bench
) -> dict[Cell, Path]:
    """Finished cells of methods that cannot be run here, made with other packages but otherwise the same."""
    found: dict[Cell, Path] = {}
    for method in methods:
        for cell in _cells(method, [grid for grid in grids if method.unavailable(grid[0])], seeds):
            wanted = definition(cell, bench)
            for path in sorted(bench.options.cells.glob(f"{_stem(cell)}-*.json")):
                have = read_cell(path)["definition"]
                if {**have, "packages": None} != {**wanted, "packages": None}:
                    continue
                if cell in found:
                    raise SystemExit(f"{found[cell]} and {path} are of two installations: remove one")
                found[cell] = path
    return found


def definition(cell: Cell, bench: Bench) -> dict[str, Any]:
    """Everything that the result of a cell depends on."""
    options = bench.options
    found: dict[str, Any] = {
        **asdict(cell),
        "version": METHOD_VERSION,
        "model_sha256": bench.source.weights_sha256,
        "tokenizer_sha256": bench.source.tokenizer_sha256,
        "evaluation_sha256": bench.evaluation.sha256,
        "eval_tokens": options.eval_tokens,
    }
    if cell.method == FLOAT:
        return found
    method = METHODS[cell.method]
    found["packages"] = method.versions()
    if cell.calibration != "none":
        found["calibration_sha256"] = bench.calibration.sha256
        found["calibration_tokens"] = options.calibration_tokens
        found["sequence_length"] = bench.sequence_length
    if method.is_ours:
        found["sources_sha256"] = sources_sha256(_SOLVING)
    return found


_SOLVING = ("calibration", "config", "fair", "layerwise.py", "quant", "scaling.py")
"""Parts of the package that decide what codes come out; the others change no cell."""


def path_of(cell: Cell, bench: Bench) -> Path:
    """File of a cell."""
    text = json.dumps(definition(cell, bench), sort_keys=True)
    return bench.options.cells / f"{_stem(cell)}-{hashlib.sha256(text.encode()).hexdigest()[:16]}.json"


def _stem(cell: Cell) -> str:
    return cell.label.replace(" ", "-")


def read_cell(path: Path) -> dict[str, Any]:
    """Content of a finished cell."""
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content

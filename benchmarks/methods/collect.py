"""Makes the result of a run from its cells."""

from __future__ import annotations

import statistics
import subprocess
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from methods.cells import FLOAT, Cell
from methods.ratios import Runs, figures, ratio, resample, verdict
from methods.registry import METHODS, LayersError
from methods.targets import OURS, target_of

QUESTION = "Does la_aciq harm the worst language less than Neural Compressor's and NNCF's own methods do?"

Group = tuple[str, str, int, int]
"""Method, calibration, bits and group size: what is the same for all seeds."""


def collect(results: Mapping[Cell, dict[str, Any]]) -> dict[str, Any]:
    """Rows, summary and ratios from the content of all cells.

    Parameters
    ----------
    results : mapping of Cell to content
        The float model's among them.

    Raises
    ------
    LayersError
        If two cells have not quantized the same layers.
    """
    baseline = results[Cell(method=FLOAT)]["documents"]
    cells = [cell for cell in results if cell.method != FLOAT]
    layers = _one_list({cell: results[cell]["quantized_layers"] for cell in cells})
    content: dict[str, Any] = {
        "question": QUESTION,
        "quantized_layers": layers,
        "rows": [row for cell in cells for row in _rows(cell, results[cell])],
        "runs": [_run(cell, results[cell]) for cell in cells],
        "summary": [],
        "ratios": [],
    }
    if not cells:
        return content
    documents = [results[cell]["documents"] for cell in cells]
    values = {measure: resample(documents, baseline, measure=measure) for measure in ("degradation", "kl")}
    groups = {key: list(members) for key, members in groupby(range(len(cells)), key=lambda place: _group(cells[place]))}
    for key, members in groups.items():
        runs = [results[cells[place]] for place in members]
        parts = {measure: found[members, :, 0] for measure, found in values.items()}
        content["summary"].append(_summary(key, runs, parts, sorted(baseline)))
    runs_of = {
        key: {
            measure: Runs(seeds=tuple(cells[place].seed for place in members), values=found[members])
            for measure, found in values.items()
        }
        for key, members in groups.items()
    }
    for key in groups:
        if key[0] in OURS and key[1] == "multilingual":
            content["ratios"] += [_ratio(key, other, runs_of) for other in groups if _comparable(key, other)]
    return content


def _group(cell: Cell) -> Group:
    return cell.method, cell.calibration, cell.bits, cell.group_size


def _comparable(ours: Group, other: Group) -> bool:
    return other != ours and other[2:] == ours[2:]


def _one_list(lists: Mapping[Cell, Sequence[str]]) -> list[str]:
    """The list of layers that all cells have in common.

    Raises
    ------
    LayersError
        Naming two cells that differ.
    """
    if not lists:
        return []
    first, wanted = next(iter(lists.items()))
    for cell, found in lists.items():
        if list(found) != list(wanted):
            different = sorted(set(found) ^ set(wanted))
            raise LayersError(f"[{cell.label}] and [{first.label}] did not quantize the same layers: {different}")
    return list(wanted)


def _rows(cell: Cell, content: Mapping[str, Any]) -> list[dict[str, Any]]:
    same = {**_key(_group(cell)), "seed": cell.seed, "scheme": content["scheme"], "seconds": content["seconds"]}
    return [{**same, "language": tag, **found} for tag, found in content["languages"].items()]


def _run(cell: Cell, content: Mapping[str, Any]) -> dict[str, Any]:
    names = ("scheme", "notes", "seconds", "threads", "peak_rss_bytes", "calibration_tokens")
    packages = content["definition"]["packages"]
    return {**_key(_group(cell)), "seed": cell.seed, "packages": packages, **{name: content[name] for name in names}}


def _key(group: Group) -> dict[str, Any]:
    return dict(zip(("method", "calibration", "bits", "group_size"), group, strict=True))


def _summary(
    key: Group, runs: Sequence[Mapping[str, Any]], values: Mapping[str, Any], tags: Sequence[str]
) -> dict[str, Any]:
    """Medians over seeds; the worst language is the one whose median is largest."""
    seconds = [run["seconds"] for run in runs]
    found: dict[str, Any] = {
        **_key(key),
        "scheme": runs[0]["scheme"],
        "seeds": len(runs),
        "seconds": statistics.median(seconds),
        "seconds_range": [min(seconds), max(seconds)],
    }
    for measure, by_seed in values.items():
        statistic = {name: np.median(each) for name, each in figures(by_seed).items()}
        worst = figures(by_seed)["worst"]
        found[measure] = {
            **{name: float(value) for name, value in statistic.items()},
            "worst_language": tags[int(np.argmax(np.median(by_seed, axis=0)))],
            "worst_range": [float(worst.min()), float(worst.max())],
        }
    return found


def _ratio(key: Group, other: Group, runs: Mapping[Group, Mapping[str, Runs]]) -> dict[str, Any]:
    found: dict[str, Any] = {
        "ours": key[0],
        "baseline": other[0],
        "baseline_calibration": other[1],
        "bits": key[2],
        "group_size": key[3],
        **{measure: ratio(runs[key][measure], runs[other][measure]) for measure in ("degradation", "kl")},
    }
    target = target_of(key[0], other[0], other[1], key[2])
    if target is not None:
        found |= {"target": target, "verdict": verdict(found["degradation"]["worst"], target)}
    return found


def ordered(results: Mapping[Cell, dict[str, Any]]) -> dict[Cell, dict[str, Any]]:
    """The float model first, then by width, group size, the table of methods, calibration and seed."""
    place = {FLOAT: -1, **{name: number for number, name in enumerate(METHODS)}}

    def key(cell: Cell) -> tuple[Any, ...]:
        return cell.bits, cell.group_size, place[cell.method], cell.calibration, cell.seed

    return {cell: results[cell] for cell in sorted(results, key=key)}


def commit() -> str:
    """Commit of the code that was run, with a mark where files differ from it."""
    folder = Path(__file__).parent
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
        capture_output=True, text=True, check=False, cwd=folder,
    )  # fmt: skip
    return done.stdout.strip() or "unknown"

"""Cells: the model of one method and its losses in both runtimes; each is a file, and a folder with the model."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from methods.bench import Bench
from methods.cells import FLOAT, Cell, definition, path_of, read_cell
from methods.grids import check_layers
from methods.measure import document_sums, language_figures
from methods.nncf_openvino import read_back
from methods.openvino_ir import read

from deployed.make import BITS, MODEL, calibration_of, make
from inc_laaciq.backends.openvino_model import OpenVINOModel
from inc_laaciq.export_format import RUNTIMES
from inc_laaciq.output import write_json_atomic

TORCH = Cell(method=FLOAT)
"""The float model in PyTorch, which all are measured against."""

IN_OPENVINO = "float in OpenVINO"


def cells_of(methods: Iterable[str], *, group_size: int, seed: int) -> list[Cell]:
    """The float model in PyTorch and in OpenVINO, then a cell for each method."""
    return [
        TORCH,
        Cell(method=FLOAT, bits=32),
        *(
            Cell(method=name, calibration=calibration_of(name), bits=BITS, group_size=group_size, seed=seed)
            for name in methods
        ),
    ]


def label(cell: Cell) -> str:
    """Name of a cell's method, for people."""
    return IN_OPENVINO if cell.method == FLOAT and cell.bits else cell.method


def file_of(cell: Cell, bench: Bench) -> Path:
    """File of a cell; it is written last."""
    path = path_of(cell, bench)
    return path.with_name(f"openvino-{path.name}")


def model_of(cell: Cell, bench: Bench) -> Path:
    """Folder of a cell's model."""
    return file_of(cell, bench).with_suffix("")


def do(cell: Cell, bench: Bench) -> float:
    """Do a cell and write its file; seconds that it took in all.

    Raises
    ------
    LayersError
        If the model has other layers in 4 bits than it was to have.
    """
    started = time.perf_counter()
    content: dict[str, Any] = {"definition": definition(cell, bench), "units": "nats per byte"}
    if cell == TORCH:
        losses = bench.losses(bench.source.model)
        content["documents"] = {tag: document_sums(found) for tag, found in losses.items()}
    else:
        content |= _made(cell, bench)
    write_json_atomic(file_of(cell, bench), content)
    return time.perf_counter() - started


def _made(cell: Cell, bench: Bench) -> dict[str, Any]:
    job = bench.job(cell.calibration, BITS, cell.group_size or -1, cell.seed)
    folder = model_of(cell, bench)
    seconds = make(cell.method, bench, job, folder)
    model = read(folder / MODEL)
    content: dict[str, Any] = {
        "seconds": seconds,
        "threads": torch.get_num_threads(),
        "bytes": sum((folder / MODEL).with_suffix(suffix).stat().st_size for suffix in (".xml", ".bin")),
        "scheme": "sym",
        "notes": {},
        "peak_rss_bytes": None,
        "calibration_tokens": {tag: sum(rows.numel() for rows in batches) for tag, batches in job.batches.items()},
    }
    if cell.method != FLOAT:
        layers, content["notes"] = read_back(model, job)
        check_layers(layers, list(job.layers), cell.method)
        content["quantized_layers"] = sorted(layers)
    baseline = read_cell(file_of(TORCH, bench))["documents"]
    content["runtimes"] = {}
    for runtime in RUNTIMES:
        run = OpenVINOModel(model, bench.source.model.config, runtime=runtime, threads=1)
        documents = {tag: document_sums(found) for tag, found in bench.losses(run).items()}
        figures = {tag: language_figures(sums, baseline[tag], tag) for tag, sums in sorted(documents.items())}
        content["runtimes"][runtime] = {"properties": run.properties, "documents": documents, "languages": figures}
    return content

"""Does one cell: quantizes, measures and writes the file."""

from __future__ import annotations

import time
from typing import Any

import torch

from inc_laaciq.output import write_json_atomic
from methods.bench import Bench, Options
from methods.cells import FLOAT, Cell, definition, path_of, read_cell
from methods.measure import document_sums, language_figures
from methods.registry import METHODS
from methods.resident import forget_peak, peak

_benches: dict[Options, Bench] = {}


def do_in_process(cell: Cell, options: Options) -> float:
    """Do a cell in a process that keeps the model from cell to cell; seconds it took in all."""
    if options not in _benches:
        _benches[options] = Bench(options)
    return do(cell, _benches[options])


def do(cell: Cell, bench: Bench) -> float:
    """Do a cell and write its file; seconds it took in all.

    Raises
    ------
    NotRunError
        If the method cannot be run here.
    LayersError
        If it quantized other layers than it was asked to.
    """
    start = time.perf_counter()
    content: dict[str, Any] = {"definition": definition(cell, bench)}
    if cell.method == FLOAT:
        losses = bench.losses(bench.source.model)
    else:
        job = bench.job(cell.calibration, cell.bits, cell.group_size, cell.seed)
        forget_peak()
        quantized = METHODS[cell.method].run(job)
        content |= {
            "scheme": quantized.scheme,
            "notes": quantized.notes,
            "seconds": quantized.seconds,
            "threads": torch.get_num_threads(),
            "peak_rss_bytes": peak(),
            "quantized_layers": sorted(quantized.layers),
            "calibration_tokens": {tag: sum(rows.numel() for rows in batches) for tag, batches in job.batches.items()},
        }
        losses = bench.losses(quantized.model)
    documents = {tag: document_sums(found) for tag, found in losses.items()}
    content["documents"] = documents
    if cell.method != FLOAT:
        baseline = read_cell(path_of(Cell(method=FLOAT), bench))["documents"]
        content["languages"] = {
            tag: language_figures(sums, baseline[tag], tag) for tag, sums in sorted(documents.items())
        }
        content["units"] = {"degradation": "nats per byte", "kl": "nats per byte", "flips": "share of tokens"}
    write_json_atomic(path_of(cell, bench), content)
    return time.perf_counter() - start

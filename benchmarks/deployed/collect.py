"""Makes the result from the cells and the rates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from methods import collect as of_methods
from methods.cells import FLOAT, Cell
from speed.targets import entry

from deployed.make import OURS
from deployed.rate import PHASES
from inc_laaciq.export_format import RUNTIMES

RATE = 0.95
"""Tokens per second of ours, as a multiple of those of NNCF's plain rounding, at least."""

_CLOCK = "processor"
"""The clock of the verdict: on a busy machine the other one measures the neighbours."""

_OF_RUN = ("seconds", "threads", "notes", "scheme", "quantized_layers", "calibration_tokens")


def collect(results: Mapping[Cell, Mapping[str, Any]]) -> dict[str, Any]:
    """Figures by runtime, and what was made.

    Parameters
    ----------
    results : mapping of cell -> content of its file
        The float model in PyTorch first, then that in OpenVINO.

    Raises
    ------
    LayersError
        If two models have other layers in 4 bits.
    """
    torch, in_openvino, *cells = results
    content: dict[str, Any] = {"runtimes": {}, "made": []}
    for runtime in RUNTIMES:
        found = {
            cell: {
                **{name: results[cell][name] for name in _OF_RUN},
                "definition": results[cell]["definition"],
                "peak_rss_bytes": None,
                "documents": results[cell]["runtimes"][runtime]["documents"],
                "languages": results[cell]["runtimes"][runtime]["languages"],
            }
            for cell in cells
        }
        collected = of_methods.collect(of_methods.ordered({torch: dict(results[torch]), **found}))
        content["quantized_layers"] = collected["quantized_layers"]
        content["runtimes"][runtime] = {
            **{name: collected[name] for name in ("rows", "summary", "ratios")},
            "float": results[in_openvino]["runtimes"][runtime]["languages"],
            "properties": results[in_openvino]["runtimes"][runtime]["properties"],
        }
    names = ("seconds", "bytes")
    content["made"] = [
        {"method": FLOAT if cell == in_openvino else cell.method, **{name: results[cell][name] for name in names}}
        for cell in (in_openvino, *cells)
    ]
    return content


def judge(rates: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Promises about speed: name, value, limit and verdict."""
    return [
        entry(
            f"{name} / {rates['reference']}, tokens per second, {phase}",
            found[phase][_CLOCK],
            "at least",
            RATE,
        )
        for name, found in rates["ratios"].items()
        if name in OURS
        for phase in PHASES
    ]

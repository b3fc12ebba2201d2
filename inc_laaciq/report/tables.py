"""Small tables for a terminal: the plan of a run, and the results of one evaluation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.text import Text

from inc_laaciq.planning import Plan
from inc_laaciq.report import numbers


def plan_dict(plan: Plan, notes: tuple[str, ...] = ()) -> dict[str, Any]:
    """A plan as plain data; sizes in bytes, time in seconds of one core."""
    return {
        "layers": [
            {
                "name": layer.name,
                "n_weights": layer.n_weights,
                **(
                    {"float": layer.reason}
                    if layer.weight is None
                    else {
                        "bits": layer.weight.bits,
                        "group_size": layer.weight.group_size,
                        "scheme": layer.weight.scheme,
                        **({"dtype": layer.weight.dtype} if layer.weight.dtype != "int" else {}),
                    }
                ),
            }
            for layer in plan.layers
        ],
        "languages": plan.n_languages,
        "calibration_passes": plan.calibration_passes,
        "memory_bytes": plan.memory_bytes,
        "available_bytes": plan.available_bytes,
        "disk_bytes": plan.disk_bytes,
        "solve_seconds": plan.solve_seconds,
        "fits": plan.fits,
        "notes": list(notes),
    }


def print_plan(plan: Mapping[str, Any], console: Console) -> None:
    """Print a plan: one line for each kind of layer, then what the run takes."""
    in_fp8 = [layer["n_weights"] for layer in plan["layers"] if "dtype" in layer]
    if in_fp8:
        _line(console, f"{len(in_fp8)} layers, {numbers.count(sum(in_fp8))} weights: FP8 (E4M3), one scale per tensor")
    solved = [layer for layer in plan["layers"] if "bits" in layer and "dtype" not in layer]
    kinds = Counter((layer["bits"], layer["group_size"], layer["scheme"]) for layer in solved)
    for (bits, group_size, scheme), count in sorted(kinds.items()):
        weights = sum(
            layer["n_weights"]
            for layer in solved
            if (layer["bits"], layer["group_size"], layer["scheme"]) == (bits, group_size, scheme)
        )
        group = "one scale per channel" if group_size == -1 else f"group size {group_size}"
        _line(console, f"{count} layers, {numbers.count(weights)} weights: {bits} bits, {group}, {scheme}")
    for layer in plan["layers"]:
        if "float" in layer:
            _line(console, f"in float: {layer['name']} ({numbers.count(layer['n_weights'])} weights): {layer['float']}")
    _line(console, f"languages: {plan['languages']}, passes over their calibration text: {plan['calibration_passes']}")
    available = plan["available_bytes"]
    free = "unknown" if available is None else f"{available / 1e9:.1f} GB"
    _line(console, f"memory: about {plan['memory_bytes'] / 1e9:.2f} GB at the peak; free now: {free}")
    _line(console, f"disk: about {plan['disk_bytes'] / 1e9:.3f} GB")
    _line(console, f"solving: about {plan['solve_seconds']:.0f} s on one core; calibration and evaluation come on top")
    for note in plan["notes"]:
        _line(console, f"note: {note}")
    if not plan["fits"]:
        _line(console, "This does not fit into the memory that is free.", "bold red")


def print_results(results: Mapping[str, Any], console: Console) -> None:
    """Print one evaluation, a line for each language."""
    _line(console, f"loss in {numbers.UNIT} (millinats per UTF-8 byte); perplexity compares only within a language")
    for tag, entry in results["languages"].items():
        if "missing" in entry:
            _line(console, f"{tag:<8} not evaluated: {entry['missing']}", "bold yellow")
            continue
        perplexity = "n/a" if entry["perplexity"] is None else f"{entry['perplexity']:.3f}"
        loss = numbers.millinats(entry["loss"], 2)
        _line(
            console,
            f"{tag:<8} {entry['name']:<24} {loss:>10}  perplexity {perplexity}  ({entry['sentences']} sentences)",
        )


def _line(console: Console, text: str, style: str = "") -> None:
    encoding = console.encoding
    console.print(Text(text.encode(encoding, "backslashreplace").decode(encoding), style=style), soft_wrap=True)

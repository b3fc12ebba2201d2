"""A merge of FP8 ranges on a terminal: what each language loses, and in which layers most."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from inc_laaciq.report.characters import visible

_LAYERS = 10
_UNKNOWN = "?"
_HEAD = ("", "sets", "bits", "at most", "over", "subnormal, %", "to zero, %", "rescaled")
_LEGEND = (
    "sets: ranges that are the largest in this language alone; bits: of the shared range that it does not use, median "
    "and most; over: ranges that its values go beyond; subnormal, to zero: share of its values, with the shared / its "
    "own range; rescaled: scales that are others than its own"
)


def print_merge(document: Mapping[str, Any], console: Console) -> None:
    """Print the content of a merge report."""
    target = document["target"]
    merged = f"{document['n_tensors']} ranges merged by {document['reconcile']}"
    _line(console, f"{merged}; FP8 E4M3 on {target['device']}, {target['scale_method']}")
    table = Table(box=box.SIMPLE_HEAD)
    for title in _HEAD:
        table.add_column(title, justify="right" if title else "left", no_wrap=True)
    for tag, entry in document["languages"].items():
        table.add_row(
            Text(visible(tag)),
            str(entry["sets"]),
            _bits(entry["median_bits"]),
            _bits(entry["most_bits"]),
            str(entry["saturates"]),
            *(_shares(entry[share], entry[f"{share}_alone"]) for share in ("subnormal", "lost")),
            f"{entry['other_scales'][target['scale_method']]} of {entry['n_tensors']}",
        )
    console.print(table)
    for text in (_LEGEND, *_roundings(document), *_most_unused(document)):
        _line(console, text)
    for note in document["notes"]:
        _line(console, f"note: {note}")


def _roundings(document: Mapping[str, Any]) -> list[str]:
    """How much of the merge is left by each rounding of scales."""
    entries = document["languages"]
    lines = []
    for method in next(iter(entries.values()))["other_scales"]:
        counts = {tag: entry["other_scales"][method] for tag, entry in entries.items()}
        least, most = min(counts, key=counts.__getitem__), max(counts, key=counts.__getitem__)
        lines.append(
            f"{method}: measured in one language alone, {counts[least]} ({visible(least)}) to {counts[most]} "
            f"({visible(most)}) of {document['n_tensors']} scales would be others"
        )
    return lines


def _most_unused(document: Mapping[str, Any]) -> list[str]:
    """The ranges of which some language uses least."""
    found = []
    for entry in document["tensors"]:
        bits = {tag: values["bits"] for tag, values in entry["languages"].items() if values["bits"] is not None}
        if bits:
            tag = max(bits, key=bits.__getitem__)
            found.append((bits[tag], tag, entry))
    found.sort(key=lambda item: -item[0])
    return [_unused(*item) for item in found[:_LAYERS] if item[0] > 0]


def _unused(bits: float, tag: str, entry: Mapping[str, Any]) -> str:
    by = ", ".join(visible(largest) for largest in entry["largest"])
    where = f"{visible(entry['module'])}, {entry['tensor']}: range {entry['range']:.4g}, largest in {by}"
    return f"{where}; {visible(tag)} leaves {_bits(bits)} bits unused"


def _bits(value: float | None) -> str:
    return _UNKNOWN if value is None else f"{value:.2f}"


def _shares(shared: float | None, alone: float | None) -> str:
    return _UNKNOWN if shared is None or alone is None else f"{100 * shared:.2f} / {100 * alone:.2f}"


def _line(console: Console, text: str) -> None:
    console.print(Text(text), soft_wrap=True)

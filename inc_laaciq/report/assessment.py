"""An assessment on a terminal and as a page: languages by risk, worst first, the layers to blame, what to do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from inc_laaciq.report import numbers
from inc_laaciq.report.characters import visible
from inc_laaciq.report.details import heat
from inc_laaciq.report.html import template

_STYLES = {"high": "bold red", "medium": "bold yellow", "low": "green"}
_DECIMALS = 1
_HEADERS = ("risk", "tag", "language", "degradation", "perplexity", "most of it in")


@dataclass(frozen=True, kw_only=True)
class RiskRow:
    """A language as it is shown; `cells` follow `_HEADERS`."""

    risk: str
    cells: tuple[str, ...]


def risk_rows(document: Mapping[str, Any]) -> list[RiskRow]:
    """Languages with the most to lose first; those that could not be assessed before all."""
    entries = document["languages"]
    order = sorted(entries, key=lambda tag: (-entries[tag].get("predicted_degradation", float("inf")), tag))
    return [_row(tag, entries[tag]) for tag in order]


def _row(tag: str, entry: Mapping[str, Any]) -> RiskRow:
    who = (visible(tag), visible(entry["name"]))
    if "missing" in entry:
        return RiskRow(risk="unknown", cells=("unknown", *who, "", "", visible(entry["missing"])))
    low, high = entry["interval"]
    worst = entry["layers"][0]
    return RiskRow(
        risk=entry["risk"],
        cells=(
            entry["risk"],
            *who,
            f"{numbers.millinats(entry['predicted_degradation'], _DECIMALS, signed=True)} "
            f"{numbers.span(low, high, _DECIMALS)}",
            numbers.percent(entry["relative_perplexity"]),
            f"{visible(worst['name'])} ({100 * worst['share']:.0f} %)",
        ),
    )


_TRUST = (
    "How far to trust it: on three small models the language predicted worst diverged most or second most from the "
    "float model in 18 of 18 draws of text, but was among the three that lost most by the loss in 12 only; single "
    "languages lost 0.2 to 2.0 times what was predicted."
)
"""Of `benchmarks/bench_assess.py`; a test compares it with the stored results."""


def sentences(document: Mapping[str, Any]) -> list[str]:
    """What the figures mean, whether languages differ, and what to do."""
    grid, limit, advice = document["grid"], document["limit"], document["recommendation"]
    found = [
        f"Predicted for plain rounding to {_grid(grid)}, from the float model alone, in {numbers.UNIT}, with 95 % "
        "intervals over the text, which do not hold the error of the prediction itself. Risk is high above the limit "
        f"of {limit}, low where the whole interval is below half of it.",
        f"Most of it comes from {', '.join(_leading(document))}.",
    ]
    found += [_difference(document), _TRUST]
    if outliers := [visible(layer["name"]) for layer in document["layers"] if layer["is_outlier"]]:
        found.append(f"Layers with outlier weights: {', '.join(outliers[:8])}{', ...' if len(outliers) > 8 else ''}.")
    mode = f"mode {advice['mode']}, {_grid(advice)}"
    if advice["raised"]:
        mode += f", {len(advice['raised'])} layers at {advice['raised_bits']} bits"
    if not advice["is_enough_for_assessed"]:
        found.append(f"Even {mode} is predicted to cost a language more than {limit}.")
    elif advice["is_enough"]:
        found.append(f"Recommended: {mode}. Predicted to keep every language within {limit}; a gate has to confirm it.")
    else:
        found.append(f"To begin with: {mode}. Predicted to keep every language that was assessed within {limit}.")
    languages = document["languages"]
    if unknown := ", ".join(f"{visible(tag)} ({visible(languages[tag]['missing'])})" for tag in advice["not_assessed"]):
        found.append(f"Nothing is known of {unknown}.")
    return found


def _difference(document: Mapping[str, Any]) -> str:
    seen = document["difference"]
    if seen["p"] is None:
        return "Whether languages differ cannot be told: it takes two languages with two rows of text each."
    measured = [tag for tag, entry in document["languages"].items() if "missing" not in entry]
    left_out = [visible(tag) for tag in measured if tag not in seen["languages"]]
    asked = f", {', '.join(left_out)} not asked" if left_out else ""
    p = f"(p {numbers.probability(seen['p'])}{asked})"
    if seen["is_seen"]:
        return f"Languages differ beyond what the sampling of text explains {p}."
    return f"No effect here: languages differ no more than the sampling of text explains {p}."


def _leading(document: Mapping[str, Any], n: int = 3) -> list[str]:
    """Layers with the largest sums over languages, each with its share of everything."""
    given = document["heat"]
    sums = [sum(value for value in row if value is not None) for row in given["values"]]
    order = sorted(range(len(sums)), key=lambda place: -sums[place])[:n]
    return [f"{visible(given['layers'][place])} ({100 * sums[place] / (sum(sums) or 1.0):.0f} %)" for place in order]


def _grid(grid: Mapping[str, Any]) -> str:
    size = grid["group_size"]
    group = "a scale for each channel" if size == -1 else f"groups of {size}"
    return f"{grid['bits']} bits {grid['scheme']}, {group}"


def print_assessment(document: Mapping[str, Any], console: Console) -> None:
    """Print an assessment: a table, and what it means."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    shown = len(_HEADERS) - 1  # layers have long names, and a terminal is narrow
    for number, header in enumerate(_HEADERS[:shown]):
        table.add_column(header, justify="right" if number in (3, 4) else "left", overflow="fold")
    encoding = console.encoding
    for row in risk_rows(document):
        cells = (cell.encode(encoding, "backslashreplace").decode(encoding) for cell in row.cells[:shown])
        table.add_row(*(Text(cell, style=_STYLES.get(row.risk, "") if n == 0 else "") for n, cell in enumerate(cells)))
    console.print(table)
    for tag, entry in document["languages"].items():
        if "missing" in entry:
            console.print(Text(f"{visible(tag)} was not assessed: {visible(entry['missing'])}", style="bold yellow"))
    for sentence in [*sentences(document), *(f"note: {visible(note)}" for note in document["notes"])]:
        console.print(Text(sentence.encode(encoding, "backslashreplace").decode(encoding)))


def assessment_to_html(document: Mapping[str, Any]) -> str:
    """An assessment as one page that needs no network and runs no script."""
    shown = {**document, "heat": {**document["heat"], "values": _in_millinats(document), "unit": numbers.UNIT}}
    rows = risk_rows(document)
    high = sum(row.risk == "high" for row in rows)
    return template("assessment.html.j2").render(
        headers=_HEADERS,
        rows=rows,
        sentences=[*sentences(document), *(f"note: {visible(note)}" for note in document["notes"])],
        heat=heat(shown),
        title=visible(document["model"]["name"]),
        headline=f"{high} of {len(rows)} languages at high risk",
        verdict="FAIL" if high else "OPEN" if any(row.risk != "low" for row in rows) else "PASS",
    )


def _in_millinats(document: Mapping[str, Any]) -> list[list[float | None]]:
    return [[None if value is None else 1000 * value for value in row] for row in document["heat"]["values"]]

"""A sweep on a terminal, as Markdown and as a picture: what each width costs, and the fewest bits of each language."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from inc_laaciq.errors import BackendError
from inc_laaciq.report import numbers
from inc_laaciq.report.characters import visible
from inc_laaciq.report.markdown import escape, table

_NONE, _NOT_MEASURED = "none", "not measured"
_Z = 1.645  # to the one-sided 95 % bound


def width_rows(document: Mapping[str, Any]) -> list[list[str]]:
    """Method, bits, mean, worst language and disparity of each cell."""
    return [
        [
            cell["method"],
            str(cell["bits"]),
            _figure(cell["mean_degradation"], cell["mean_standard_error"]),
            _worst(cell),
            _figure(cell["disparity"], cell["disparity_standard_error"]),
        ]
        for cell in document["cells"]
    ]


def _figure(value: object, standard_error: object) -> str:
    return numbers.degradation(value, standard_error, 2)


def _worst(cell: Mapping[str, Any]) -> str:
    entry = cell["languages"][cell["worst_language"]]
    return f"{visible(cell['worst_language'])} {_figure(entry['degradation'], entry['standard_error'])}"


def language_rows(document: Mapping[str, Any]) -> list[list[str]]:
    """Fewest bits of each language, by method; the languages that need most come first."""
    methods, fewest = document["spec"]["methods"], document["fewest_bits"]
    tags = sorted({tag for by_tag in fewest.values() for tag in by_tag})
    names = {tag: entry["name"] for cell in document["cells"] for tag, entry in cell["languages"].items()}
    none = {(cell["method"], tag): _NONE for cell in document["cells"] for tag in cell["languages"]}
    order = sorted(tags, key=lambda tag: (*(-(fewest[method].get(tag) or 99) for method in methods), tag))
    return [
        [
            visible(tag),
            visible(names[tag]),
            *(str(fewest[method].get(tag) or none.get((method, tag), _NOT_MEASURED)) for method in methods),
        ]
        for tag in order
    ]


_WIDTHS = ("method", "bits", "mean", "worst language", "disparity")


def _explained(document: Mapping[str, Any]) -> str:
    spec = document["spec"]
    quota = spec["tokens_per_language"]
    text = f"at most {quota} tokens a language" if quota else "all of the text"
    return (
        f"Degradations in {numbers.UNIT} with one standard error, on {text}. Fewest bits: from there on upwards, the "
        f"one-sided 95 % bound of a language is within {spec['margin']}; '{_NONE}' where no width is, or the text is "
        "too little to say so."
    )


_ASKED = {
    "predicted_degradation": "predicted degradation",
    "effective_kurtosis": "effective kurtosis",
    "outlier_activation": "outlier activation",
    "tokens_per_byte": "tokens per byte",
}
_VERDICTS = {
    "no single constant": "no single constant bounds the disparity by the spread of effective kurtosis",
    "not told apart": "one constant cannot be told from several, which is no proof of one",
    "undecided": "too few disparities are more than noise to ask for one constant",
}


def theory_lines(document: Mapping[str, Any]) -> list[str]:
    """What goes with degradation over languages, and whether one constant bounds the disparity."""
    found = document["theory"]
    lines = []
    for name, label in _ASKED.items():
        told = [(where, by[name]) for where, by in found["associations"].items() if by[name] is not None]
        if told:
            values = "; ".join(
                f"{where} {entry['pearson']:+.2f} (p {numbers.probability(entry['pearson_p'])})"
                for where, entry in told
            )
            lines.append(f"Correlation of {label} with degradation: {values}.")
    bound = found["bound"]
    if bound is not None:
        low, high = (min(s["ratio"] for s in bound["settings"]), max(s["ratio"] for s in bound["settings"]))
        lines.append(
            f"Disparity over the spread of effective kurtosis: {1000 * low:.1f} to {1000 * high:.1f} {numbers.UNIT}; "
            f"{_VERDICTS[bound['verdict']]}."
        )
    return lines


def print_sweep(document: Mapping[str, Any], console: Console) -> None:
    """Print both tables."""
    _print(console, _WIDTHS, width_rows(document))
    _print(console, ("tag", "language", *document["spec"]["methods"]), language_rows(document))
    for line in _lines(document):
        console.print(Text(line.encode(console.encoding, "backslashreplace").decode(console.encoding)))


def _lines(document: Mapping[str, Any]) -> list[str]:
    """What the tables mean, what was asked besides, and what was not measured."""
    return [
        _explained(document),
        *theory_lines(document),
        *_over_fewer(document),
        *(f"{visible(tag)} {_measured(document, tag)}: {visible(why)}" for tag, why in document["missing"].items()),
        *(f"note: {visible(note)}" for note in document["notes"]),
    ]


def _over_fewer(document: Mapping[str, Any]) -> list[str]:
    """Methods whose rows are over fewer languages than those of others, and so are not to be compared with them."""
    counts = {cell["method"]: len(cell["languages"]) for cell in document["cells"]}
    most = max(counts.values(), default=0)
    return [
        f"Mean, worst language and disparity of {method} are over {count} of {most} languages."
        for method, count in counts.items()
        if count < most
    ]


def _measured(document: Mapping[str, Any], tag: str) -> str:
    """By what a missing language was measured after all: by methods that need no calibration text."""
    by = [cell["method"] for cell in document["cells"] if tag in cell["languages"]]
    return f"was measured by {', '.join(dict.fromkeys(by))} only" if by else "was not measured"


def _print(console: Console, headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    shown = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for header in headers:
        shown.add_column(header)
    for row in rows:
        shown.add_row(*(cell.encode(console.encoding, "replace").decode(console.encoding) for cell in row))
    console.print(shown)


def sweep_to_markdown(document: Mapping[str, Any]) -> str:
    """Both tables, and what they mean."""
    methods = document["spec"]["methods"]
    parts = [
        f"# Widths of {escape(visible(document['model']['name']))}",
        table(_WIDTHS, [[escape(cell) for cell in row] for row in width_rows(document)]),
        table(
            ("tag", "language", *(f"fewest bits, {method}" for method in methods)),
            [[escape(cell) for cell in row] for row in language_rows(document)],
        ),
        *(escape(line) for line in _lines(document)),
    ]
    return "\n\n".join(parts) + "\n"


def sweep_to_svg(document: Mapping[str, Any]) -> bytes:
    """Degradation against bits, one panel for each method: every language, the mean, and the worst with intervals.

    The same bytes for the same document.

    Raises
    ------
    BackendError
        If matplotlib is not installed.
    """
    try:
        import matplotlib
    except ImportError as error:
        raise BackendError(f"a picture needs matplotlib ({error}): pip install 'inc-laaciq[plots]'") from error
    matplotlib.use("Agg")
    from matplotlib import pyplot

    methods = document["spec"]["methods"]
    with matplotlib.rc_context({"svg.hashsalt": "inc-laaciq", "svg.fonttype": "none", "font.size": 9}):
        figure, panels = pyplot.subplots(
            1, len(methods), figsize=(4.5 * len(methods), 4.2), sharey=True, squeeze=False, layout="constrained"
        )
        for panel, method in zip(panels[0], methods, strict=True):
            _panel(panel, method, [cell for cell in document["cells"] if cell["method"] == method])
        panels[0][0].set_ylabel(f"degradation, {numbers.UNIT}")
        panels[0][0].legend(loc="upper right", fontsize=8)
        drawn = io.BytesIO()
        figure.savefig(drawn, format="svg", metadata={"Date": None, "Creator": None})
        pyplot.close(figure)
    return drawn.getvalue()


def _panel(panel: Any, method: str, cells: Sequence[Mapping[str, Any]]) -> None:
    bits = [cell["bits"] for cell in cells]
    tags = sorted({tag for cell in cells for tag in cell["languages"]})
    for tag in tags:
        values = [_milli(cell["languages"].get(tag, {}).get("degradation")) for cell in cells]
        panel.plot(bits, values, color="#9aa5b1", linewidth=0.8, zorder=1)
    panel.plot(bits, [_milli(cell["mean_degradation"]) for cell in cells], color="#1f5fa8", label="mean", zorder=2)
    worst = [cell["languages"][cell["worst_language"]] for cell in cells]
    panel.errorbar(
        bits,
        [_milli(entry["degradation"]) for entry in worst],
        yerr=[_Z * _milli(entry["standard_error"]) for entry in worst],
        color="#b3261e",
        marker="o",
        markersize=4,
        capsize=3,
        label="worst language, to its 95 % bound",
        zorder=3,
    )
    for cell, entry in zip(cells, worst, strict=True):
        panel.annotate(
            cell["worst_language"], (cell["bits"], _milli(entry["degradation"])), (4, 4), textcoords="offset points"
        )
    panel.axhline(0, color="#555555", linewidth=0.5)
    panel.set_yscale("symlog", linthresh=1.0)
    panel.set_xticks(bits)
    panel.set_xlabel("bits")
    panel.set_title(method)
    panel.grid(visible=True, alpha=0.25)


def _milli(value: object) -> float:
    number = numbers.as_float(value)
    return float("nan") if number is None else 1000 * number

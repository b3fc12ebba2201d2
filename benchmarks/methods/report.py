"""A result as Markdown tables and as a picture; both say the same for the same content."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

_CALIBRATION = {"none": "no text", "english": "English text", "multilingual": "text of all languages"}

_CAPTION = (
    "Ours divided by the other method, median over calibration seeds [95 % interval over documents and seeds; of one "
    "seed it says nothing about others, and of three little]. A target is met where the median is at most that and the "
    "interval lies below 1:"
)


def markdown(content: dict[str, Any]) -> str:
    """Tables by method, of the ratios, and of what was not run."""
    parts = [f"# {content['question']}", _setting(content)]
    for bits, group_size in _widths(content["summary"]):
        chosen = [entry for entry in content["summary"] if (entry["bits"], entry["group_size"]) == (bits, group_size)]
        parts += [f"## {bits} bits, groups of {group_size}", _methods(chosen)]
        ratios = [entry for entry in content["ratios"] if (entry["bits"], entry["group_size"]) == (bits, group_size)]
        if ratios:
            parts += [_CAPTION, _ratios(ratios)]
    if content.get("not_run"):
        lines = [f"- {entry['method']}, {entry['bits']} bits: {entry['why']}" for entry in content["not_run"]]
        parts += ["## Not run", "\n".join(lines)]
    return "\n\n".join(parts) + "\n"


def _setting(content: dict[str, Any]) -> str:
    model, texts = content["model"], content["texts"]
    evaluation = texts["evaluation_tokens"]
    return (
        f"Model {model['name']} ({model['architecture']}, {model['parameters'] / 1e6:.1f} M parameters), "
        f"{len(evaluation)} languages, {sum(evaluation.values())} tokens of evaluation text. Degradation and KL in "
        "thousandths of a nat per UTF-8 byte; medians over calibration seeds. Seconds are those of quantization on "
        "one thread. Embeddings and output projection stay in float."
    )


def _widths(summary: Sequence[dict[str, Any]]) -> list[tuple[int, int]]:
    return sorted({(entry["bits"], entry["group_size"]) for entry in summary}, reverse=True)


def _methods(entries: Sequence[dict[str, Any]]) -> str:
    lines = [
        "| method | calibration | mean | worst (language) | disparity | KL mean | KL worst (language) | seconds |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for entry in entries:
        harm, kl = entry["degradation"], entry["kl"]
        lines.append(
            f"| {entry['method']} | {entry['calibration']} | {_milli(harm['mean'])} "
            f"| {_milli(harm['worst'])} ({harm['worst_language']}) | {_milli(harm['disparity'])} "
            f"| {_milli(kl['mean'])} | {_milli(kl['worst'])} ({kl['worst_language']}) | {entry['seconds']:.1f} |"
        )
    return "\n".join(lines)


def _ratios(entries: Sequence[dict[str, Any]]) -> str:
    lines = [
        "| ours | other | worst language | target | verdict | mean | disparity | KL worst | KL mean |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for entry in entries:
        harm, kl = entry["degradation"], entry["kl"]
        target = f"{entry['target']:.2f}" if "target" in entry else ""
        lines.append(
            f"| {entry['ours']} | {entry['baseline']}, {entry['baseline_calibration']} | {_interval(harm['worst'])} "
            f"| {target} | {entry.get('verdict', '')} | {_interval(harm['mean'])} | {_interval(harm['disparity'])} "
            f"| {_interval(kl['worst'])} | {_interval(kl['mean'])} |"
        )
    return "\n".join(lines)


def _milli(value: float) -> str:
    return f"{1000 * value:.2f}"


def _interval(found: dict[str, Any]) -> str:
    low, median, high = ("-" if found[name] is None else f"{found[name]:.2f}" for name in ("low", "median", "high"))
    return f"{median} [{low}, {high}]"


def picture(content: dict[str, Any], svg_path: Path) -> None:
    """Degradation of the worst language against seconds, one panel for each width; the same bytes each time."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    widths = _widths(content["summary"])
    with matplotlib.rc_context({"svg.hashsalt": "inc-laaciq", "svg.fonttype": "none", "font.size": 9}):
        figure, panels = pyplot.subplots(
            1, max(1, len(widths)), figsize=(7.5 * max(1, len(widths)), 6), squeeze=False, layout="constrained"
        )
        for panel, (bits, group_size) in zip(panels[0], widths, strict=False):
            here = [entry for entry in content["summary"] if (entry["bits"], entry["group_size"]) == (bits, group_size)]
            _panel(panel, drawn(here), f"{bits} bits, groups of {group_size}")
        if widths:
            _legend(panels[0][0])
        figure.savefig(svg_path, format="svg", metadata={"Date": None, "Creator": None})
        pyplot.close(figure)


_VERSIONS = ("inc3.10-", "inc-adaptor-")
_ALIKE = 0.05


def drawn(entries: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Entries of one width without other versions of Neural Compressor's methods that end within 5 % of the same."""
    worst = {(entry["method"], entry["calibration"]): entry["degradation"]["worst"] for entry in entries}

    def is_drawn(entry: dict[str, Any]) -> bool:
        prefix = next((prefix for prefix in _VERSIONS if entry["method"].startswith(prefix)), None)
        if prefix is None:
            return True
        same = worst.get((f"inc-{entry['method'].removeprefix(prefix)}", entry["calibration"]))
        return same is None or abs(entry["degradation"]["worst"] - same) > _ALIKE * same

    return [entry for entry in entries if is_drawn(entry)]


_MARKS = {"none": "o", "english": "s", "multilingual": "^"}
_COLOURS = {"la_aciq": "#0b6e4f", "inc": "#1f5fa8", "nncf": "#b3541e"}
_HEIGHT = 0.032  # of a line of text, as a part of the panel


def _panel(panel: Any, entries: Sequence[dict[str, Any]], title: str) -> None:
    """One width: marks with the range over seeds, each with its name beside it."""
    for entry in entries:
        harm, seconds = entry["degradation"], entry["seconds"]
        low, high = harm["worst_range"]
        worst = 1000 * harm["worst"]
        panel.errorbar(
            seconds,
            worst,
            yerr=[[max(0.0, worst - 1000 * low)], [max(0.0, 1000 * high - worst)]],
            fmt=_MARKS[entry["calibration"]],
            color=_colour(entry["method"]),
            markersize=6,
            capsize=3,
            linewidth=1,
        )
    panel.set_xscale("log")
    panel.margins(x=0.25, y=0.12)
    panel.set_title(title)
    panel.set_xlabel("seconds to quantize, one thread")
    panel.set_ylabel("degradation of the worst language, mnat per byte")
    panel.grid(visible=True, alpha=0.25)
    _names(panel, entries)


def _names(panel: Any, entries: Sequence[dict[str, Any]]) -> None:
    """Names to the right of the marks, moved up where they would lie on each other."""
    panel.autoscale_view()  # settles the limits, which are otherwise found only when it is drawn
    to_panel = panel.transData + panel.transAxes.inverted()
    placed: list[tuple[float, float]] = []
    found = [
        (*to_panel.transform((entry["seconds"], 1000 * entry["degradation"]["worst"])), entry) for entry in entries
    ]
    for x, y, entry in sorted(found, key=lambda item: (item[1], item[0])):
        height = y
        while any(abs(x - other_x) < 0.33 and abs(height - other) < _HEIGHT for other_x, other in placed):
            height += _HEIGHT / 4
        placed.append((x, height))
        panel.annotate(
            entry["method"],
            xy=(x, y),
            xytext=(x + 0.015, height),
            xycoords=panel.transAxes,
            textcoords=panel.transAxes,
            va="center",
            fontsize=7.5,
            color=_colour(entry["method"]),
            arrowprops={"arrowstyle": "-", "linewidth": 0.4, "color": "#999999"} if height - y > _HEIGHT / 2 else None,
        )


def _legend(panel: Any) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], marker=mark, color="#555555", linestyle="", label=_CALIBRATION[kind])
        for kind, mark in _MARKS.items()
    ]
    panel.legend(handles=handles, title="calibrated on", loc="best", fontsize=8)


def _colour(method: str) -> str:
    return next((colour for prefix, colour in _COLOURS.items() if method.startswith(prefix)), "#555555")

"""A result as text: the table of the terminal, and the block of the README."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from speed import names
from speed.targets import FAIR_IN_PASSES


def terminal(content: Mapping[str, Any]) -> str:
    """Everything that was measured, and the verdict on every promise."""
    parts = content["parts"]
    blocks = [_block(title, found) for title, found in _titled(parts)]
    if "memory" in parts:
        lines = [f"  {_size(row)}, {row['mode']}: {_peak(row)}" for row in parts["memory"]["rows"]]
        blocks.append("\n".join(["memory of the solver beyond what it is given", *lines]))
    lines = [
        f"  {entry['verdict']:6} {entry['name']}: {entry['value']:.4g}, {entry['side']} {entry['limit']:g}"
        for entry in content["targets"]
    ]
    blocks.append("\n".join(["targets", *lines]))
    if content["is_quick"]:
        blocks.append("quick mode: the sizes are too small for these figures to mean anything")
    return "\n\n".join(blocks)


def _titled(parts: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """Title and figures of everything that was timed."""
    found = [("shipped model, whole", parts["model"])] if "model" in parts else []
    found += [(f"one layer, {_size(one)}", one) for one in parts.get("layers", {}).get("sizes", ())]
    titles = {"rounding": "no data", "calibration": "statistics", "activation": "activation ranges"}
    return found + [(title, parts[part]) for part, title in titles.items() if part in parts]


def _block(title: str, found: Mapping[str, Any]) -> str:
    lines = [title]
    for name, row in sorted(found["methods"].items(), key=lambda item: item[1]["seconds"]):
        rate = row.get("seconds_per_million_weights")
        lines.append(
            f"  {name:56} {row['seconds']:10.4g} s" + ("" if rate is None else f" {rate:9.4g} s per million weights")
        )
    lines += [f"  ratio {name}: {value:.3g}" for name, value in found["ratios"].items()]
    lines += [f"  not run: {name}: {why}" for name, why in found.get("not_run", {}).items()]
    return "\n".join(lines)


def _size(found: Mapping[str, Any]) -> str:
    return f"{found['features']} x {found['features']}"


def _peak(row: Mapping[str, Any]) -> str:
    if row["times_layer"] is None:
        return "cannot be read here"
    return f"{row['peak_bytes_above_baseline'] / 1e6:.0f} MB, {row['times_layer']:.1f} times the layer's own weights"


def readme(content: Mapping[str, Any]) -> str:
    """One table of seconds per million weights, and sentences with the other figures and with what is kept."""
    parts = content["parts"]
    columns = [("shipped model", parts["model"])] if "model" in parts else []
    columns += [(f"layer {_size(one)}", one) for one in parts["layers"]["sizes"]]
    lines = [
        f"| seconds per million weights | {' | '.join(title for title, _ in columns)} |",
        "|---" * (1 + len(columns)) + "|",
    ]
    seconds = {name: row["seconds"] for _, found in reversed(columns) for name, row in found["methods"].items()}
    for name in sorted(seconds, key=lambda name: seconds[name]):  # of the shipped model, where it was run there
        if name == names.PASS or name.endswith(names.ALONE):
            continue
        cells = [_cell(found["methods"].get(name)) for _, found in columns]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n\n".join(["\n".join(lines), " ".join(_sentences(content)), _verdicts(content["targets"])])


def _cell(row: Mapping[str, Any] | None) -> str:
    return "" if row is None else f"{row['seconds_per_million_weights']:.3g}"


def _sentences(content: Mapping[str, Any]) -> list[str]:
    parts = content["parts"]
    one = parts["layers"]["sizes"][-1]
    turns = content["repetitions"]
    found = [
        f"{f'Median of {turns} turns' if turns > 1 else 'One turn'} in one run, one thread, 4 bits, from the float "
        f"model to the quantized one; {one['languages'] * one['tokens_per_language']} tokens in {one['languages']} "
        "languages for the layers." + _later(parts)
    ]
    if "model" in parts:
        whole = parts["model"]
        found.append(f"{whole['calibration_tokens']} tokens in {whole['languages']} languages for the model.")
        passes = whole["ratios"][FAIR_IN_PASSES]
        found.append(f"`fair` takes as long as {passes:.0f} forward and backward passes over its text.")
    plain = parts["rounding"]["methods"]
    found.append(
        f"Without data, per channel, `fast` does {plain[names.FAST]['million_weights_per_second']:.0f} million "
        f"weights a second, absmax rounding in blocks {plain[names.BLOCKED]['million_weights_per_second']:.0f}, a "
        f"plain sum of them {plain[names.READ]['million_weights_per_second']:.0f}."
    )
    statistics = parts["calibration"]["ratios"]
    found.append(
        f"Calibration takes {statistics[f'{names.DIAGONAL} / {names.FORWARD}']:.2f} times a plain forward "
        f"pass with the diagonal statistics of `fast`, {statistics[f'{names.FULL} / {names.FORWARD}']:.2f} "
        "times with the full ones of `balanced`."
    )
    return found + _ranges(parts["activation"]) + _memory(parts["memory"]["rows"])


def _later(parts: Mapping[str, Any]) -> str:
    """Which parts come from a later run of their own."""
    later: dict[int, list[str]] = {}
    for name, part in sorted(parts.items()):
        if "measured_with" in part:
            later.setdefault(part["measured_with"]["repetitions"], []).append(name)
    if not later:
        return ""
    said = (f"{' and '.join(names)} ({turns} turn{'s' * (turns > 1)})" for turns, names in sorted(later.items()))
    return f" Measured later, in runs of their own: {', '.join(said)}."


def _ranges(found: Mapping[str, Any]) -> list[str]:
    ratios = found["ratios"]
    if f"{names.SEARCH} / {names.STORED}" not in ratios:
        return []
    minmax, observer, divergence, alone = (
        _times(value)
        for value in (
            1 / ratios[f"{names.MINMAX} / {names.OURS}"],
            ratios[f"{names.HISTOGRAM} / {names.OURS}"],
            ratios[f"{names.COLLECTED} / {names.OURS}"],
            ratios[f"{names.SEARCH} / {names.STORED}"],
        )
    )
    return [
        f"A static activation range for {found['languages']} languages, pass over the data included, takes {minmax} "
        "times as long as Neural Compressor's `minmax`; what its PyTorch users get as `kl`, a histogram observer, "
        f"takes {observer} times as long as ours, and its class `KL_Divergence` {divergence} times ({alone} times "
        "where neither passes over the data)."
    ]


def _times(value: float) -> str:
    return f"{value:.0f}" if value >= 10 else f"{value:.2g}"


def _memory(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    largest = max(row["features"] for row in rows)
    known = [row for row in rows if row["features"] == largest and row["times_layer"] is not None]
    if not known:
        return []
    listed = ", ".join(f"{row['times_layer']:.1f} ({row['mode']})" for row in known)
    return [
        f"Memory beyond weights and statistics, as a multiple of a layer of {_size(known[0])} in float32: {listed}."
    ]


def _verdicts(targets: Sequence[Mapping[str, Any]]) -> str:
    """One sentence: what was promised and is kept, and what is not."""
    kept = [_short(entry) for entry in targets if entry["verdict"] == "met"]
    missed = [_short(entry) for entry in targets if entry["verdict"] == "missed"]
    return (
        f"Of {len(targets)} targets {len(kept)} are met"
        + (f" ({'; '.join(kept)})" if kept else "")
        + f" and {len(missed)} missed"
        + (f" (**{'; '.join(missed)}**)" if missed else "")
        + "."
    )


def _short(entry: Mapping[str, Any]) -> str:
    return f"{entry['name']}: {entry['value']:.3g}, {entry['side']} {entry['limit']:g}"

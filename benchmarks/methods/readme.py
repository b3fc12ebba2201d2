"""Tables of the READMEs on methods: all of them on one model, what was promised, and other models."""

from __future__ import annotations

import statistics
from typing import Any

from methods.ratios import verdict


def table(content: dict[str, Any]) -> str:
    """Every method at every width: the worst language by loss and by divergence, and how fair compares."""
    found = {(entry["method"], entry["calibration"], entry["bits"]): entry for entry in content["summary"]}
    widths = sorted({bits for _, _, bits in found}, reverse=True)
    ratio_of = {
        (entry["baseline"], entry["baseline_calibration"], entry["bits"]): entry["kl"]["worst"]["median"]
        for entry in content["ratios"]
        if entry["ours"] == "la_aciq-fair"
    }
    head = " | ".join(f"{bits} bits: loss | KL | fair / it | seconds" for bits in widths)
    lines = [f"| method | calibrated on | {head} |", "|---" * (2 + 4 * len(widths)) + "|"]
    for method, calibration in dict.fromkeys((method, calibration) for method, calibration, _ in found):
        cells = []
        for bits in widths:
            entry = found.get((method, calibration, bits))
            if entry is None:
                cells += ["", "", "", ""]
                continue
            ratio = ratio_of.get((method, calibration, bits))
            cells += [
                f"{1000 * entry['degradation']['worst']:.1f}",
                f"{1000 * entry['kl']['worst']:.1f}",
                "" if ratio is None else f"{ratio:.2f}",
                f"{entry['seconds']:.0f}",
            ]
        lines.append(f"| {method} | {calibration} | {' | '.join(cells)} |")
    seeds = max(entry["seeds"] for entry in content["summary"])
    return "\n".join(lines) + (
        f"\n\nWorst of {len(content['texts']['evaluation_tokens'])} languages, in thousandths of a nat per UTF-8 byte: "
        "by the loss, and by the divergence from the float model (KL). `fair / it`: the KL of `la_aciq-fair` divided "
        f"by that of the row. {_precision(content['ratios'], widths)} Text that nothing was chosen on; "
        f"{seeds} calibration seed{'s' * (seeds > 1)}, {content['meta']['calibration_tokens_per_language']} tokens a "
        "language; processor seconds."
    )


TARGETED = {
    "methods_small_bloom": "small Bloom",
    "methods_long_text": "small Bloom, four times the text",
    "methods_long_calibration": "small Bloom, four times the text, calibrated on twice as much",
    "methods_small_llama": "small Llama",
    "methods_small_llama_long": "small Llama, four times the text, calibrated on twice as much",
}


def targets(contents: dict[str, dict[str, Any]]) -> str:
    """What was promised, and what came out on each model: the median over seeds, its interval and a verdict."""
    found = {
        (name, entry["ours"], entry["baseline"], entry["baseline_calibration"], entry["bits"]): entry
        for name, content in contents.items()
        for entry in content["ratios"]
        if "target" in entry
    }
    widths = sorted({key[-1] for key in found}, reverse=True)
    head = " | ".join(f"{bits} bits: target | by the loss | by KL" for bits in widths)
    lines = [f"| worst language, ours / the other | model | {head} |", "|---" * (2 + 3 * len(widths)) + "|"]
    pairs = dict.fromkeys(key[1:4] for key in found)
    for ours, baseline, calibration in pairs:
        text = "" if calibration == "none" else f" ({calibration})"
        for name in contents:
            entries = [found.get((name, ours, baseline, calibration, bits)) for bits in widths]
            if any(entries):
                cells = " | ".join(_kept(entry) for entry in entries)
                lines.append(f"| {ours} / {baseline}{text} | {TARGETED[name]} | {cells} |")
    return "\n".join([*lines, "", " ".join(_amount(TARGETED[name], content) for name, content in contents.items())])


def promised(contents: dict[str, dict[str, Any]]) -> str:
    """What was promised of mode fair, and what came out on each model: medians by the loss, with the verdicts."""
    found = _targets_of_fair(contents)
    labels = [TARGETED[name] for name in contents]
    lines = [f"| bits | fair / | at most | {' | '.join(labels)} |", "|---" * (3 + len(labels)) + "|"]
    for bits, baseline, calibration in dict.fromkeys(key[:3] for key in found):
        entries = [found.get((bits, baseline, calibration, name)) for name in contents]
        target = next(entry["target"] for entry in entries if entry)
        cells = [f"{_number(e['degradation']['worst']['median'])} {e['verdict']}" if e else "" for e in entries]
        lines.append(f"| {bits} | {_text(baseline, calibration)} | {target:.2f} | {' | '.join(cells)} |")
    seeds = [max(entry["seeds"] for entry in content["summary"]) for content in contents.values()]
    tokens = [content["meta"]["calibration_tokens_per_language"] for content in contents.values()]
    rests = "; ".join(
        f"{label} {count} and {amount}" for label, count, amount in zip(labels, seeds, tokens, strict=True)
    )
    return "\n".join(lines) + (
        "\n\nMet: the median over the calibration seeds, unrounded, is at most the target and its 95 % interval lies "
        "below 1; not resolved: the interval reaches 1; missed: all else. Calibration seeds and tokens a language: "
        f"{rests}."
    )


def spreads(contents: dict[str, dict[str, Any]]) -> str:
    """Mean and disparity behind the same targets, which were promised to be as good."""
    lines = [
        "| bits | fair / | at most | model | mean of the languages | by KL | disparity | by KL |",
        "|---" * 8 + "|",
    ]
    for (bits, baseline, calibration, name), entry in _targets_of_fair(contents).items():
        cells = [
            f"{_span(entry[measure][kind])} {verdict(entry[measure][kind], entry['target'])}"
            for kind in ("mean", "disparity")
            for measure in ("degradation", "kl")
        ]
        start = f"| {bits} | {_text(baseline, calibration)} | {entry['target']:.2f} | {TARGETED[name]}"
        lines.append(f"{start} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _targets_of_fair(contents: dict[str, dict[str, Any]]) -> dict[tuple[int, str, str, str], dict[str, Any]]:
    """Ratios of mode fair that have a target, by bits, baseline, its text and the file; most bits first."""
    found = {
        (entry["bits"], entry["baseline"], entry["baseline_calibration"], name): entry
        for name, content in contents.items()
        for entry in content["ratios"]
        if entry["ours"] == "la_aciq-fair" and "target" in entry
    }
    order = list(dict.fromkeys(key[:3] for key in found))
    return {key: found[key] for key in sorted(found, key=lambda key: (-key[0], order.index(key[:3])))}


def _text(baseline: str, calibration: str) -> str:
    return baseline if calibration == "none" else f"{baseline}, {calibration}"


def _kept(entry: dict[str, Any] | None) -> str:
    """Target, ratio by the loss with the verdict, and ratio by KL."""
    if entry is None:
        return " |  | "
    by_loss, by_kl = (entry[measure]["worst"] for measure in ("degradation", "kl"))
    return f"{entry['target']:.2f} | {_span(by_loss)} {entry['verdict']} | {_span(by_kl)}"


def _amount(label: str, content: dict[str, Any]) -> str:
    """How much text and how many seeds the ratios of one model rest on, and how well they are known."""
    tokens = sorted(content["texts"]["evaluation_tokens"].values())
    seeds = max(entry["seeds"] for entry in content["summary"])
    errors = sorted(
        entry["degradation"]["worst"]["relative_standard_error"] for entry in content["ratios"] if "target" in entry
    )
    return (
        f"{label}: {seeds} calibration seed{'s' * (seeds > 1)} of {content['meta']['calibration_tokens_per_language']} "
        f"tokens a language, measured on {tokens[0]} to {tokens[-1]}; "
        f"standard error of a ratio by the loss {100 * errors[0]:.0f} to {100 * errors[-1]:.0f} %."
    )


def _span(found: dict[str, Any]) -> str:
    return f"{_number(found['median'])} [{_number(found['low'])}, {_number(found['high'])}]"


def _number(value: float | None) -> str:
    """A ratio; where the other method loses nothing there is none."""
    return "none" if value is None else f"{value:.2f}"


WITHOUT_LABELS = "la_aciq-fair-labels-0"

OTHERS = {
    "methods_small_llama": "small Llama",
    "methods_outliers": "small Bloom with outlier columns",
    "methods_udhr": "small Bloom, calibrated on the Declaration of Human Rights",
    "methods_groups": "small Llama, other groups and bits",
    "methods_smollm2": "SmolLM2-135M, from 4-bit weights",
}
AGAINST = (
    ("inc-rtn", "none"),
    ("inc-awq", "english"),
    ("inc-awq", "multilingual"),
    ("inc-gptq", "english"),
    ("inc-gptq", "multilingual"),
    ("inc-autoround", "english"),
    ("inc-autoround", "multilingual"),
    ("la_aciq-balanced", "multilingual"),
    ("la_aciq-balanced-pooled", "multilingual"),
)


def others(contents: dict[str, dict[str, Any]]) -> str:
    """How the best of our modes compares on other models, text and grids: one row for each."""
    heads = [f"/ {name}" + ("" if text == "none" else f", {text}") for name, text in AGAINST]
    lines = [f"| model | bits | group | mode | worst KL | {' | '.join(heads)} |", "|---" * (5 + len(heads)) + "|"]
    for name, content in contents.items():
        for bits, size in dict.fromkeys((entry["bits"], entry["group_size"]) for entry in content["summary"]):
            lines.append(_other(content, OTHERS[name], bits, size))
    return "\n".join(lines)


def _other(content: dict[str, Any], label: str, bits: int, size: int) -> str:
    here = [entry for entry in content["summary"] if (entry["bits"], entry["group_size"]) == (bits, size)]
    worst = {(entry["method"], entry["calibration"]): entry["kl"]["worst"] for entry in here}
    modes = ("la_aciq-fair", WITHOUT_LABELS, "la_aciq-balanced")
    ours = next(mode for mode in modes if (mode, "multilingual") in worst)
    ratios = {
        (entry["baseline"], entry["baseline_calibration"]): entry["kl"]["worst"]
        for entry in content["ratios"]
        if (entry["ours"], entry["bits"], entry["group_size"]) == (ours, bits, size)
    }
    cells = [f"{ratios[other]['median']:.2f}" if other in ratios else "" for other in AGAINST]
    group = "channel" if size == -1 else str(size)
    shown = [label, str(bits), group, ours.removeprefix("la_aciq-"), f"{1000 * worst[ours, 'multilingual']:.1f}"]
    return f"| {' | '.join([*shown, *cells])} |"


LABELLED = {
    "methods_small_bloom": TARGETED["methods_small_bloom"],
    "methods_long_text": TARGETED["methods_long_text"],
    "methods_udhr": OTHERS["methods_udhr"],
    "methods_small_llama": TARGETED["methods_small_llama"],
    "methods_outliers": OTHERS["methods_outliers"],
    "methods_groups": OTHERS["methods_small_llama"],
}


def labels(contents: dict[str, dict[str, Any]]) -> str:
    """What labels change in mode fair, by the loss and by the divergence; results without them are left out."""
    lines = [
        "| model | bits | seeds | loss, mean | worst | KL, mean | worst "
        "| labels / none: loss, mean | worst | KL, mean | worst |",
        "|---" * 11 + "|",
    ]
    kinds = [(measure, kind) for measure in ("degradation", "kl") for kind in ("mean", "worst")]
    for name, content in contents.items():
        found = {(entry["method"], entry["bits"], entry["group_size"]): entry for entry in content["summary"]}
        for entry in content["ratios"]:
            if (entry["ours"], entry["baseline"]) == ("la_aciq-fair", WITHOUT_LABELS):
                grid = entry["bits"], entry["group_size"]
                before, after = (found[(method, *grid)] for method in (WITHOUT_LABELS, "la_aciq-fair"))
                both = [
                    f"{1000 * before[measure][kind]:.2f} → {1000 * after[measure][kind]:.2f}" for measure, kind in kinds
                ]
                spans = [_span(entry[measure][kind]) for measure, kind in kinds]
                seeds = after["seeds"]
                lines.append(f"| {LABELLED[name]} | {_grid(*grid)} | {seeds} | {' | '.join([*both, *spans])} |")
    return "\n".join(lines) + (
        # Of what is stored: a default that changes later must not rename it.
        "\n\nThousandths of a nat per UTF-8 byte, without labels → with a share of 0.1: medians over seeds. "
        "The ratios are medians of each seed's own, with 95 % intervals over documents and seeds."
    )


def _grid(bits: int, group_size: int) -> str:
    """Bits, and the groups where they are not of 64."""
    return {64: f"{bits}", -1: f"{bits}, by channel"}.get(group_size, f"{bits}, groups of {group_size}")


def _precision(ratios: list[dict[str, Any]], widths: list[int]) -> str:
    """How well the ratios are known, which is why KL is in the table."""
    said = []
    for bits in widths:
        errors = {
            measure: statistics.median(
                entry[measure]["worst"]["relative_standard_error"]
                for entry in ratios
                if entry["ours"] == "la_aciq-fair" and entry["bits"] == bits
            )
            for measure in ("degradation", "kl")
        }
        said.append(
            f"{100 * errors['degradation']:.0f} % by the loss and {100 * errors['kl']:.1f} % by KL at {bits} bits"
        )
    return f"Such a ratio has a standard error of {', '.join(said)} (median of the rows)."

"""The table of static INT8 in Neural Compressor's torch API, for README.md."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

PT2E = {
    "pt2e_static_small_bloom": "small Bloom",
    "pt2e_static_small_llama": "small Llama",
    "pt2e_static_outliers": "small Bloom with outlier columns",
}
AGAINST = "inc minmax"


def pt2e(contents: Mapping[str, Mapping[str, Any]]) -> str:
    """Every method on every model, and in which languages la_aciq is worse than min-max beyond noise."""
    lines = [
        "| model | method | KL: mean | worst | loss: worst | la_aciq / it: KL mean | worst |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, content in contents.items():
        ratios = {entry["baseline"]: entry["kl"] for entry in content["ratios"]}
        for entry in content["summary"]:
            kl, method = entry["kl"], entry["method"]
            cells = [PT2E[name], method, _milli(kl["mean"]), _milli(kl["worst"])]
            cells.append(_milli(entry["degradation"]["worst"]))
            cells += [_span(ratios[method][key]) if method in ratios else "" for key in ("mean", "worst")]
            lines.append(f"| {' | '.join(cells)} |")
    amounts = "; ".join(dict.fromkeys(_amount(content) for content in contents.values()))
    worse = "; ".join(f"{PT2E[name]}: {_worse(content)}" for name, content in contents.items())
    return "\n".join(lines) + (
        f"\n\nThousandths of a nat per byte ({amounts}). Languages in which la_aciq is worse than {AGAINST} beyond "
        f"noise, by intervals that hold in all languages at once: {worse}."
    )


def _milli(value: float) -> str:
    return f"{1000 * value:.3f}"


def _span(found: Mapping[str, Any]) -> str:
    return f"{found['median']:.2f} [{found['low']:.2f}, {found['high']:.2f}]"


def _amount(content: Mapping[str, Any]) -> str:
    meta, seeds = content["meta"], max(entry["seeds"] for entry in content["summary"])
    calibration, evaluation = (meta[f"{what}_tokens_per_language"] for what in ("calibration", "evaluation"))
    return f"{calibration} tokens a language calibrated on, seeds {seeds}, {evaluation} measured on"


def _worse(content: Mapping[str, Any]) -> str:
    by_measure = content["verdicts"]["W8A8"][AGAINST]
    said = []
    for measure, label in (("degradation", "loss"), ("kl", "KL")):
        said.append(f"by the {label} {', '.join(by_measure[measure]['joint_worse']) or 'none'}")
    return ", ".join(said)

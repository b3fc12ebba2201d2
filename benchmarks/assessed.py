"""The table of the README on what `inc-laaciq assess` predicts, from results of `bench_assess.py`."""

from __future__ import annotations

import statistics
from typing import Any

MODELS = {
    "assess_small_bloom": "small Bloom",
    "assess_outliers": "small Bloom with outlier columns",
    "assess_small_llama": "small Llama",
}


def table(contents: dict[str, dict[str, Any]]) -> str:
    """What assess predicts beside what was measured: medians over draws of the calibration text."""
    lines = [
        "| model | bits | correlation with KL | with the loss | of effective kurtosis with KL | loss / predicted "
        "| predicted worst | its rank by KL | by the loss |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    passes = []
    for name, content in contents.items():
        passes.append(content["passes"])
        for bits in sorted({entry["bits"] for entry in content["settings"]}, reverse=True):
            lines.append(_row(MODELS[name], bits, [entry for entry in content["settings"] if entry["bits"] == bits]))
    return "\n".join(lines) + (
        "\n\nNeural Compressor's RTN in groups of 64, measured on text that nothing was predicted from; ranks of 16 "
        f"languages, for each draw. An assessment takes {max(passes):.1f} passes forward and back at the most."
    )


def _row(label: str, bits: int, settings: list[dict[str, Any]]) -> str:
    def correlation(measure: str, predictor: str) -> str:
        found = [entry["associations"][measure][predictor] for entry in settings]
        return f"{statistics.median(entry['pearson'] for entry in found):.2f}"

    ratio = statistics.median(entry["degradation"]["ratio_to_predicted"] for entry in settings)
    ranks = [
        ", ".join(str(entry[measure]["rank_of_worst_predicted"]) for entry in settings)
        for measure in ("kl", "degradation")
    ]
    worst = ", ".join(dict.fromkeys(entry["worst_predicted"] for entry in settings))
    return (
        f"| {label} | {bits} | {correlation('kl', 'predicted_degradation')} "
        f"| {correlation('degradation', 'predicted_degradation')} | {correlation('kl', 'effective_kurtosis')} "
        f"| {ratio:.2f} | {worst} | {' | '.join(ranks)} |"
    )

"""Tables of the READMEs of recipes/small_bloom and recipes/small_llama, from what `measure.py` wrote."""

from __future__ import annotations

from typing import Any

LANGUAGES = ("en", "de", "fr", "es", "ru", "zh", "ja", "ko", "tr", "vi", "id", "el", "fi", "eu", "hi", "km")
"""By their share of the training text, largest first."""

SPLITS = ("calibration", "evaluation", "holdout")
WIDTHS = (4, 3)

Losses = dict[str, dict[str, Any]]


def losses(run: Losses) -> str:
    """Loss of the float model on every split."""
    lines = [
        f"| | {' | '.join(f'{split}: token | byte' for split in SPLITS)} | tokens in evaluation |",
        "|---|" + "---:|" * (2 * len(SPLITS) + 1),
    ]
    for tag in LANGUAGES:
        found = [run[split]["float32"][tag] for split in SPLITS]
        cells = (f"{entry[key]:.3f}" for entry in found for key in ("nats_per_token", "nats_per_byte"))
        lines.append(f"| `{tag}` | {' | '.join(cells)} | {run['evaluation']['float32'][tag]['tokens']:,} |")
    means = (
        f"{sum(run[split]['float32'][tag][key] for tag in LANGUAGES) / len(LANGUAGES):.3f}"
        for split in SPLITS
        for key in ("nats_per_token", "nats_per_byte")
    )
    return "\n".join([*lines, f"| mean | {' | '.join(means)} | |"])


def beside(llama: Losses, bloom: Losses) -> str:
    """Mean loss of the small Llama on held-out text, and of the Bloom model."""
    found = {
        name: [
            f"{sum(run[split]['float32'][tag]['nats_per_token'] for tag in LANGUAGES) / len(LANGUAGES):.2f}"
            for split in ("calibration", "holdout")
        ]
        for name, run in (("llama", llama), ("bloom", bloom))
    }
    return (
        f"The loss on held-out text, mean of the languages, is {found['llama'][0]} nats per token on `calibration` and "
        f"{found['llama'][1]} on `holdout`: higher than that of the Bloom model ({found['bloom'][0]} and "
        f"{found['bloom'][1]}), which has half as many parameters again "
        "([small_llama_losses.json](../../benchmarks/results/small_llama_losses.json), by `measure.py`)."
    )


def rounded(run: Losses) -> str:
    """What rounding adds to the loss on `evaluation`, in nats per token."""
    lines = [
        f"| Bits | mean | worst | {' | '.join(f'`{tag}`' for tag in LANGUAGES)} |",
        "|---|" + "---:|" * (len(LANGUAGES) + 2),
    ]
    for bits in WIDTHS:
        rise = rises(run, bits)
        worst = max(rise, key=rise.__getitem__)
        each = " | ".join(f"{rise[tag]:.4f}" for tag in LANGUAGES)
        mean = sum(rise.values()) / len(rise)
        lines.append(f"| {bits} | {mean:.4f} | {rise[worst]:.4f} (`{worst}`) | {each} |")
    return "\n".join(lines)


def outliers(plain: Losses, variant: Losses) -> str:
    """Kurtosis of the weights, and what rounding adds, without and with the outlier columns."""
    lines = [
        "| | excess kurtosis of the changed layers | 4 bits: mean | worst | 3 bits: mean | worst |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for label, run in (("as trained", plain), ("with outlier columns", variant)):
        kurtosis = [
            value
            for name, value in run["evaluation"]["excess_kurtosis"].items()
            if name.endswith(("query_key_value", "dense_h_to_4h"))
        ]
        cells = []
        for bits in WIDTHS:
            rise = rises(run, bits)
            worst = max(rise, key=rise.__getitem__)
            cells += [f"{sum(rise.values()) / len(rise):.3f}", f"{rise[worst]:.3f} (`{worst}`)"]
        lines.append(f"| {label} | {min(kurtosis):.1f} to {max(kurtosis):.1f} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n\nNats per token that rounding to nearest adds on `evaluation`, groups of 64."


def rises(run: Losses, bits: int) -> dict[str, float]:
    """Nats per token that rounding adds, by language."""
    found = run["evaluation"]
    return {
        tag: found[f"rtn{bits}"][tag]["nats_per_token"] - found["float32"][tag]["nats_per_token"] for tag in LANGUAGES
    }

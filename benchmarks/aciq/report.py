"""README block of `bench_aciq.py`."""

from __future__ import annotations

from typing import Any

NAIVE = "naive"


def readme(content: dict[str, Any]) -> str:
    """Tables of the errors and of the network, and what they say."""
    lines = [
        "| values | bits | α | paper's bins: its model / measured | integer grid: formula / measured | not clipped |",
        "|---|---|---|---|---|---|",
    ]
    for row in content["errors"]:
        lines.append(
            f"| {row['distribution']} | {row['bits']} | {row['alpha']:.2f} "
            f"| {row['bins']['expected']:.3g} / {row['bins']['measured']:.3g} "
            f"| {row['integer']['expected']:.3g} / {row['integer']['measured']:.3g} "
            f"| {row['unclipped']['measured']:.3g} |"
        )
    study = content["digits"]
    methods = list(dict.fromkeys(row["method"] for row in study["rows"]))
    lines += ["", f"| accuracy on digits, % | {' | '.join(methods)} |", "|---" * (1 + len(methods)) + "|"]
    found = {(row["granularity"], row["bits"], row["method"]): row for row in study["rows"]}
    for granularity, bits in dict.fromkeys((granularity, bits) for granularity, bits, _ in found):
        cells = [accuracy(found.get((granularity, bits, method))) for method in methods]
        lines.append(f"| W{bits}A{bits}, {granularity} | {' | '.join(cells)} |")
    published = content["published"]
    plain = study["float"]["accuracy"]["mean"]
    said = [
        "Squared error at b = 1 (Laplace) and σ = 1 (Gaussian). The paper's model leaves out that clipped values land "
        "in the middle of the last bin, so it is too low at few bits; the exact formula of the integer grid, at the "
        "same α, is met.",
        _bias(content["bias_correction"]),
        _allocation(content["bit_allocation"]),
        f"Digits: {study['seeds']} trainings, float {plain:.1f} %; each column has what the former have, in brackets "
        "the change from naive with its 95 % interval.",
        _left(found),
        _directions(study["rows"]),
        f"The authors report, for {published['what']}: {published['naive']:.1f} naive, "
        f"{published['+ bit allocation']:.1f} with all parts.",
    ]
    return "\n".join([*lines, "", " ".join(filter(None, said))])


def accuracy(row: dict[str, Any] | None) -> str:
    """Mean accuracy, and what it is beside naive."""
    if row is None:
        return ""
    value = f"{row['accuracy']['mean']:.1f}"
    change = row.get("accuracy_minus_naive")
    if change is None or change["low"] is None:
        return value
    return f"{value} ({signed(change)})"


def signed(change: dict[str, Any]) -> str:
    """Change with its interval."""
    return f"{change['mean']:+.2f} [{change['low']:+.2f}, {change['high']:+.2f}]"


def _left(found: dict[tuple[str, int, str], dict[str, Any]]) -> str:
    """What there is to win at W4A4."""
    change = found["per channel", 4, NAIVE]["accuracy_minus_float"]
    if change["low"] is None:
        return ""
    size = signed(change)
    if change["low"] <= 0 <= change["high"]:
        return f"Naive W4A4 is no worse than float beyond noise ({size}), so this network cannot show a gain there."
    return f"Naive W4A4 differs from float by {size}, which is what there is to win."


def direction(change: dict[str, Any]) -> str:
    """Whether the loss fell or rose beyond noise."""
    if change["low"] is None or change["low"] <= 0 <= change["high"]:
        return "not resolved"
    return "lower" if change["high"] < 0 else "higher"


def _directions(rows: list[dict[str, Any]]) -> str:
    said = []
    for method in dict.fromkeys(row["method"] for row in rows if row["method"] != NAIVE):
        found = {
            f"W{row['bits']}A{row['bits']} {row['granularity']}": direction(row["loss_minus_naive"])
            for row in rows
            if row["method"] == method
        }
        by_verdict = {
            verdict: ", ".join(name for name, one in found.items() if one == verdict) for verdict in ("lower", "higher")
        }
        parts = [f"{verdict} than naive in {names}" for verdict, names in by_verdict.items() if names]
        said.append(f"{method}: {' and '.join(parts) or 'nowhere different beyond noise'}")
    return f"Loss, by all trainings: {'; '.join(said)}."


def _bias(rows: list[dict[str, Any]]) -> str:
    four = [row for row in rows if row["bits"] == 4]
    ratios = " and ".join(
        f"{row['after']['mean_shift'] / row['before']['mean_shift']:.2f} ({row['distribution']})" for row in four
    )
    return f"Bias correction leaves {ratios} of the shift of a channel's mean at 4 bits."


def _allocation(rows: list[dict[str, Any]]) -> str:
    four = [row for row in rows if row["bits"] == 4]
    ratios = " and ".join(
        f"{row['methods']['published']['ratio']:.2f} ({row['distribution']}, "
        f"{row['methods']['published']['bits']:.2f} bits)"
        for row in four
    )
    return f"Bits allocated by channel as published leave {ratios} of the error of 4 bits for all."

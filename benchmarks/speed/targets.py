"""What was promised about speed, and whether the figures of a run keep it.  A limit is never moved to fit a figure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from speed import names

Side = Literal["at most", "at least"]

AGAINST: dict[str, float] = {
    "la_aciq-balanced / inc-gptq": 1.5,
    "la_aciq-fast / inc-awq": 0.2,
    "la_aciq-fair / inc-gptq": 100.0,
}
"""Seconds as a multiple of the other's, at most."""

ROUNDING_SPEED = 0.5
BANDWIDTH = 0.1
STATISTICS = 1.1
DIVERGENCE_SEARCH = 4000.0


def judge(parts: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Every promise about the parts that were measured: name, value, limit, on which side of it, and verdict.

    Parameters
    ----------
    parts : mapping of part -> its figures, as the JSON has them
    """
    return [found for part, find in _FOUND.items() if part in parts for found in find(parts[part])]


def entry(name: str, value: float, side: Side, limit: float) -> dict[str, Any]:
    """A promise and whether it is kept."""
    is_met = value <= limit if side == "at most" else value >= limit
    return {"name": name, "value": value, "side": side, "limit": limit, "verdict": "met" if is_met else "missed"}


def _ratios(found: Mapping[str, Any], where: str) -> Iterator[dict[str, Any]]:
    for pair, limit in AGAINST.items():
        if pair in found["ratios"]:
            yield entry(f"{pair}, {where}", found["ratios"][pair], "at most", limit)


def _model(found: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    yield from _ratios(found, "shipped model")


def _layers(found: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for one in found["sizes"]:
        yield from _ratios(one, f"layer {one['features']} x {one['features']}")


def _rounding(found: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    speed = 1 / found["ratios"][f"{names.FAST} / {names.BLOCKED}"]
    share = found["methods"][names.FAST]["share_of_read_bandwidth"]
    yield entry("speed of fast per channel, no text / blocked absmax", speed, "at least", ROUNDING_SPEED)
    yield entry("fast per channel, no text: share of the read bandwidth", share, "at least", BANDWIDTH)


def _calibration(found: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    value = found["ratios"][f"{names.DIAGONAL} / {names.FORWARD}"]
    yield entry("pass with diagonal statistics / plain forward pass", value, "at most", STATISTICS)


def _activation(found: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    pair = f"{names.SEARCH} / {names.STORED}"
    if pair in found["ratios"]:
        name = "INC's KL_Divergence / la_aciq's range, neither with its pass over the data"
        yield entry(name, found["ratios"][pair], "at least", DIVERGENCE_SEARCH)


_FOUND = {
    "model": _model,
    "layers": _layers,
    "rounding": _rounding,
    "calibration": _calibration,
    "activation": _activation,
}

FAIR_IN_PASSES = f"la_aciq-fair / {names.PASS}"
"""A figure without a limit: what mode `fair` costs as a multiple of one pass of training."""

"""The fewest bits that keep a language within a margin."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from scipy import stats

from inc_laaciq.config.bounds import Bound
from inc_laaciq.evaluation.statistics import MIN_EFFECTIVE

CONFIDENCE = 0.95


def upper_end(degradation: float, standard_error: float | None, n_effective: float) -> float:
    """One-sided 95 % bound of a degradation; infinite where the error is not known or rests on too little text.

    Parameters
    ----------
    n_effective : float
        Clusters of equal size that would say as much (`Pairs.n_effective`); below 10 the gate does not judge either.
    """
    if standard_error is None or not math.isfinite(standard_error) or n_effective < MIN_EFFECTIVE:
        return math.inf
    return degradation + float(stats.t.ppf(CONFIDENCE, n_effective - 1)) * standard_error


def is_within(entry: Mapping[str, Any], margin: Bound) -> bool:
    """Whether a language's degradation is surely within a margin: the bound counts, not the estimate.

    Parameters
    ----------
    entry : mapping
        `degradation`, `standard_error`, `n_effective`, `bytes`, `tokens`.
    margin : Bound
        In % of perplexity or nats per byte.
    """
    degradation = entry.get("degradation")
    if degradation is None:
        return False
    per_token = entry["bytes"] / entry["tokens"]
    allowed = math.log1p(margin.value) / per_token if margin.unit == "%" else margin.value
    return upper_end(degradation, entry["standard_error"], entry["n_effective"]) <= allowed


def fewest_bits(by_bits: Mapping[int, Mapping[str, Any]], margin: Bound) -> int | None:
    """Smallest width from which on, upwards, a language is within the margin; None if even the largest is not enough.

    Parameters
    ----------
    by_bits : mapping of bits -> entry of the language
    """
    found = None
    for bits in sorted(by_bits, reverse=True):
        if not is_within(by_bits[bits], margin):
            break
        found = bits
    return found

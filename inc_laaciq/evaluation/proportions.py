"""Answers that are right or wrong, before and after: bounds on the change in accuracy, and McNemar's test."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import permutations

from scipy import special

from inc_laaciq.evaluation.statistics import POWER, Bounds


def score(harmed: int, helped: int, n: int, margin: float) -> float:
    """Tango's score statistic for a change in accuracy against a margin.

    Parameters
    ----------
    harmed, helped : int
        Items that were right before and are wrong after, and the other way round.
    n : int
        Items in all.
    margin : float
        Hypothetical share of harmed minus share of helped; -1 < margin < 1.

    Returns
    -------
    float
        Approximately standard normal if the true change is `margin`; with margin 0 its square is McNemar's statistic.

    Notes
    -----
    The share of helped items is estimated under the hypothesis.  Source: Tango 1998, Statistics in Medicine 17,
    891-908, equations 8 and 12.
    """
    linear = -harmed - helped + (2 * n - harmed + helped) * margin
    constant = -helped * margin * (1 - margin)
    root = math.sqrt(max(linear * linear - 8 * n * constant, 0.0))
    share = (root - linear) / (4 * n)
    variance = n * (2 * share + margin * (1 - margin))
    deviation = harmed - helped - n * margin
    if variance <= 0:
        return 0.0 if deviation == 0 else math.copysign(math.inf, deviation)
    return deviation / math.sqrt(variance)


def accuracy_bounds(harmed: int, helped: int, n: int, confidence: float) -> Bounds:
    """One-sided bounds of the loss in accuracy, as a share of the items.

    Parameters
    ----------
    harmed, helped, n : int
        As for `score`.
    confidence : float
        Of each bound.
    """
    from scipy import optimize  # half a second, which a gate without tasks need not spend

    z = float(special.ndtri(confidence))
    value = (harmed - helped) / n
    edge = 1 - 1e-9

    def solve(target: float, low: float, high: float) -> float:
        def beyond(margin: float) -> float:
            return max(min(score(harmed, helped, n, margin), 1e6), -1e6) - target

        if beyond(low) <= 0:
            return low
        if beyond(high) >= 0:
            return high
        return float(optimize.brentq(beyond, low, high, xtol=1e-10))

    return Bounds(
        value=value,
        lower=min(value, solve(z, -edge, value)),
        upper=max(value, solve(-z, value, edge)),
    )


def disparity_bounds(counts: Sequence[tuple[int, int, int]], confidence: float) -> Bounds:
    """Bounds of the largest loss in accuracy minus the smallest.

    Parameters
    ----------
    counts : sequence of (harmed, helped, n)
        Of independent languages; at least two.
    confidence : float
        Of each bound.

    Notes
    -----
    The bounds of two languages are joined by square-and-add, which unlike a bootstrap knows that no change in few
    items is no proof of none.  Upper: the largest of all pairs, each at the full level.  Lower: the largest, corrected
    for the number of pairs.  Source: Newcombe 1998, Statistics in Medicine 17; Zou and Donner 2008, Statistics in
    Medicine 27.
    """
    pairs = list(permutations(range(len(counts)), 2))
    each = [accuracy_bounds(*count, confidence) for count in counts]
    stricter = [accuracy_bounds(*count, 1 - (1 - confidence) / len(pairs)) for count in counts]
    upper = max(
        each[i].value - each[j].value + math.hypot(each[i].upper - each[i].value, each[j].value - each[j].lower)
        for i, j in pairs
    )
    lower = max(
        each[i].value - each[j].value - math.hypot(each[i].value - stricter[i].lower, stricter[j].upper - each[j].value)
        for i, j in pairs
    )
    values = [bounds.value for bounds in each]
    return Bounds(value=max(values) - min(values), lower=max(0.0, lower), upper=upper)


def accuracy_p_above(harmed: int, helped: int, n: int, margin: float) -> float:
    """P-value of the hypothesis that the accuracy fell by no more than `margin`."""
    return float(special.ndtr(-score(harmed, helped, n, margin)))


def noise(harmed: int, helped: int, n: int, languages: int) -> float:
    """What a harmless model loses in accuracy at most, in all languages at once, in 80 % of samples.

    At least one answer changes.
    """
    return float(special.ndtri(POWER ** (1 / languages))) * math.sqrt(max(harmed + helped, 1)) / n


def mcnemar(harmed: int, helped: int) -> float:
    """Exact one-sided p-value of the hypothesis that at most as many answers were harmed as helped.

    Source: McNemar 1947, Psychometrika 12, as an exact binomial test.

    Examples
    --------
    >>> round(mcnemar(8, 1), 4)
    0.0195
    """
    if harmed == 0:
        return 1.0
    return float(special.bdtrc(harmed - 1, harmed + helped, 0.5))

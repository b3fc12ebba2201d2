"""What can be said of a language, of the worst one and of their disparity, and how surely.

Every statement is one-sided at a stated confidence, because a gate asks one-sided questions: is the degradation
certainly below the margin (then it passes), is it certainly above (then it fails)?

- A run passes if *every* language does, so each is tested at the full level and nothing is corrected: a wrong pass
  needs a wrong pass of the very language that is harmed (intersection-union test, Berger 1982, Technometrics 24).
  The same holds for disparity, which keeps its margin exactly if every pair of languages does.
- A run fails if *some* language does, so there the languages are corrected for: Holm for names, max-t for intervals.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from inc_laaciq.evaluation.resampling import Resampled

POWER = 0.8

MIN_EFFECTIVE = 10.0
"""Effective number of documents below which no interval is to be trusted (benchmarks/bench_gate.py)."""

LARGEST_EXPONENT = 700.0
"""Of exp in a double, nearly: a larger change in nats per token is cut to it."""


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """A value with its one-sided bounds, each of which holds with the stated confidence.

    Parameters
    ----------
    value : float
    lower, upper : float
        With lower <= value <= upper.
    """

    value: float
    lower: float
    upper: float


def language_bounds(sample: Resampled, confidence: float) -> Bounds:
    """One-sided bounds of one language.

    Parameters
    ----------
    sample : Resampled
    confidence : float
        Of each bound; 0.5 to 1.

    Notes
    -----
    The studentized bootstrap (Efron and Tibshirani 1993, section 12.5), with the longer of its two tails on both
    sides, and Student's t as the least that is taken.  A language is harmed by a few documents more often than by
    all; a sample that missed some of them has a short tail on that side, and its own tail would then be too sure.
    """
    reach = _times(_quantile(sample, confidence), sample.standard_error)
    return Bounds(value=sample.value, lower=sample.value - reach, upper=sample.value + reach)


def relative_bounds(sample: Resampled, confidence: float) -> Bounds:
    """One-sided bounds of relative perplexity, from a sample in nats per token.

    Those of the exponent are carried over, which is exact.  The delta method would give a model that is badly broken
    an error as large as its value, and so never the verdict that it is broken.
    """
    bounds = language_bounds(sample, confidence)
    return Bounds(value=as_relative(bounds.value), lower=as_relative(bounds.lower), upper=as_relative(bounds.upper))


def as_relative(change: float) -> float:
    """Change of perplexity as a fraction, from a change in nats per token."""
    return math.inf if change == math.inf else math.expm1(min(change, LARGEST_EXPONENT))


def p_above(sample: Resampled, margin: float) -> float:
    """How surely a language exceeds a margin: the p-value of the hypothesis that it does not.

    Consistent with `language_bounds`: it is below 1 - confidence where the lower bound is above the margin.

    Notes
    -----
    Beyond the farthest draw the tail goes on as Student's t does, stretched to reach that draw: with a floor of
    1 / draws no language of many could be named at a high confidence, however harmed.
    """
    if sample.value <= margin:
        return 1.0
    if not sample.standard_error > 0:
        return 0.0 if sample.standard_error == 0 else 1.0
    if not sample.freedom > 0:
        return 1.0
    t = (sample.value - margin) / sample.standard_error
    studentized = sample.studentized
    beyond = max(int((studentized >= t).sum()), int((studentized <= -t).sum()))
    share = (1 + beyond) / (1 + len(studentized))
    if beyond:
        return max(share, _tail(t, sample.freedom))
    stretch = max(1.0, float(np.abs(studentized).max() / _student(sample.freedom, 1 - share)))
    return _tail(t / stretch, sample.freedom)


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """P-values adjusted so that, of all languages named at a level, a wrong one is named at most that often.

    Source: Holm 1979, Scandinavian Journal of Statistics 6.

    Examples
    --------
    >>> holm({"a": 0.01, "b": 0.04, "c": 0.03})
    {'a': 0.03, 'b': 0.06, 'c': 0.06}
    """
    adjusted: dict[str, float] = {}
    largest = 0.0
    ordered = sorted(p_values, key=lambda tag: (p_values[tag], tag))
    for rank, tag in enumerate(ordered):
        largest = max(largest, min(1.0, (len(ordered) - rank) * p_values[tag]))
        adjusted[tag] = largest
    return {tag: adjusted[tag] for tag in p_values}


def worst_bounds(samples: Sequence[Resampled], confidence: float) -> Bounds:
    """Bounds of the largest true value, whichever language it belongs to.

    Parameters
    ----------
    samples : sequence of Resampled
        Of independent languages, all with the same draws; at least one.
    confidence : float
        Of each bound; a two-sided interval at 95 % takes 0.975.

    Notes
    -----
    Upper: the largest upper bound of a language, which covers the worst one as often as its own bound does.  Lower:
    the largest lower bound, taken simultaneously over languages by the bootstrap distribution of the largest
    studentized value (max-t; Westfall and Young 1993).
    """
    each = [language_bounds(sample, confidence) for sample in samples]
    studentized = np.array([sample.studentized for sample in samples])
    simultaneous = max(_upper_quantile(tail, confidence) for tail in (studentized, -studentized))
    lower = [
        sample.value - _times(max(simultaneous, _student(sample.freedom, confidence)), sample.standard_error)
        for sample in samples
    ]
    return Bounds(
        value=max(bounds.value for bounds in each),
        lower=max(lower),
        upper=max(bounds.upper for bounds in each),
    )


def disparity_bounds(samples: Sequence[Resampled], confidence: float) -> Bounds:
    """Bounds of the largest true value minus the smallest.

    Parameters
    ----------
    samples : sequence of Resampled
        Of independent languages, all with the same draws; with fewer than two the disparity is 0.
    confidence : float
        Of each bound.

    Notes
    -----
    Upper: the largest upper bound of a difference between two languages, each at the full level.  Lower: the largest
    lower bound, simultaneous over all pairs by max-t.
    """
    value, upper, reaches = 0.0, 0.0, []
    largest: NDArray[np.float64] | float = 0.0
    for number, first in enumerate(samples):
        for second in samples[:number]:
            pair = difference(first, second)
            bounds = language_bounds(pair, confidence)
            value = max(value, abs(pair.value))
            upper = max(upper, bounds.upper, -bounds.lower)
            largest = np.maximum(largest, np.abs(pair.studentized))
            reaches.append((abs(pair.value), pair.standard_error, _student(pair.freedom, confidence)))
    if not reaches:
        return Bounds(value=0.0, lower=0.0, upper=0.0)
    simultaneous = float(np.quantile(largest, confidence, method="higher"))
    lower = max(size - _times(max(simultaneous, t), error) for size, error, t in reaches)
    return Bounds(value=value, lower=max(0.0, lower), upper=upper)


def difference(first: Resampled, second: Resampled) -> Resampled:
    """Value of one language beyond that of another, which is independent of it.

    Notes
    -----
    Degrees of freedom by Welch and Satterthwaite.
    """
    freedom, largest = min(first.freedom, second.freedom), max(first.standard_error, second.standard_error)
    if 0 < largest < math.inf:
        shares = (first.standard_error / largest) ** 2, (second.standard_error / largest) ** 2  # which cannot overflow
        parts = shares[0] ** 2 / max(first.freedom, 1e-9) + shares[1] ** 2 / max(second.freedom, 1e-9)
        freedom = sum(shares) ** 2 / parts if parts > 0 else freedom
    return Resampled(
        tag=f"{first.tag} - {second.tag}",
        value=first.value - second.value,
        standard_error=math.hypot(first.standard_error, second.standard_error),
        values=first.values - second.values,
        standard_errors=np.hypot(first.standard_errors, second.standard_errors),
        freedom=freedom,
    )


def relative(sample: Resampled) -> Resampled:
    """From a difference in nats per token to relative perplexity, exp(difference) - 1, by the delta method."""
    values = np.minimum(sample.values, LARGEST_EXPONENT)
    with np.errstate(over="ignore"):
        standard_errors = sample.standard_errors * np.exp(values)
    return Resampled(
        tag=sample.tag,
        value=as_relative(sample.value),
        standard_error=sample.standard_error * math.exp(min(sample.value, LARGEST_EXPONENT)),
        values=np.expm1(values),
        standard_errors=standard_errors,
        freedom=sample.freedom,
    )


def detectable(sample: Resampled, confidence: float, languages: int = 1) -> float:
    """Smallest margin at which a model that harms nobody passes with 80 % power.

    Parameters
    ----------
    sample : Resampled
    confidence : float
        Of the one-sided bound.
    languages : int
        How many have to pass together; each then needs more than 80 %.

    Returns
    -------
    float
        In the unit of the sample; infinite where there is no standard error.

    Notes
    -----
    The reach of the bound, plus the noise of the value and of the reach itself: of the value, the quantile of
    0.8^(1 / languages) of the bootstrap deviations, normal ones at the least; of the reach, that of a standard error
    with so many degrees of freedom.
    """
    if not math.isfinite(sample.standard_error):
        return math.inf
    share = POWER ** (1 / languages)
    reach = _times(_quantile(sample, confidence), sample.standard_error)
    z = float(special.ndtri(share))
    noise = max(float(np.quantile(sample.values - sample.value, share, method="higher")), z * sample.standard_error)
    return reach + math.hypot(noise, z * reach / math.sqrt(2 * sample.freedom) if sample.freedom > 0 else math.inf)


def _quantile(sample: Resampled, confidence: float) -> float:
    """Standard errors from a value to its bounds; infinite where that is not known."""
    studentized = sample.studentized
    low = -float(np.quantile(studentized, 1 - confidence, method="lower"))
    high = float(np.quantile(studentized, confidence, method="higher"))
    found = [low, high, _student(sample.freedom, confidence)]
    return math.inf if any(map(math.isnan, found)) else max(found)


def _upper_quantile(studentized: NDArray[np.float64], confidence: float) -> float:
    """Quantile of the largest of several languages' studentized values, given as rows."""
    return float(np.quantile(studentized.max(axis=0), confidence, method="higher"))


def _student(freedom: float, confidence: float) -> float:
    return float(special.stdtrit(freedom, confidence)) if freedom > 0 else math.inf


def _tail(t: float, freedom: float) -> float:
    """Probability that Student's t is above `t`."""
    return float(special.stdtr(freedom, -t))


def _times(quantile: float, standard_error: float) -> float:
    """Product in which a standard error of 0 is certainty, however far the quantile."""
    if standard_error == 0:
        return 0.0
    return quantile * standard_error if standard_error > 0 else math.inf

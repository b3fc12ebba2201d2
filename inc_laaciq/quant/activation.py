"""One static activation range from the statistics of every language.

A static range is shared by all languages, as a weight's scale is.  It is the one on which rounding loses least of all
languages' values; or each language gets its own threshold, from the kurtosis of its activations about their mean, and
the thresholds are reconciled into one range.  Clipping is then around the mean: to shrink minimum and maximum by one
factor would cut into the bulk of a one-sided distribution.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import reduce
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import ArrayLike

from inc_laaciq.errors import NumericError, SpecError
from inc_laaciq.quant.aciq import optimal_alpha_generalized
from inc_laaciq.quant.grid import Scheme, check_bits
from inc_laaciq.quant.least_error_range import least_error_range
from inc_laaciq.quant.value_counts import Counts, count_values

RangeReconcile = Literal["error", "max", "mean", "pooled"]

SINGLE_PRECISION = 2.0**-24

_LARGEST = float(np.finfo(np.float32).max)

# A kurtosis with a larger relative error than this counts as unknown: at 0.1 it moves alpha by 3 % at most.
_TOLERANCE = 0.1


@dataclass(frozen=True, kw_only=True)
class ActivationMoments:
    """Sums and extrema of the activations of one language at one place in the model.

    Parameters
    ----------
    n : int
        Values seen.
    s1, s2, s3, s4 : float
        Sums of x, x**2, x**3, x**4.
    minimum, maximum : float
        Extrema.
    precision : float
        Relative rounding error of the sums.  Central moments are differences of these sums, so this decides how far
        the mean may lie from zero, in standard deviations, before the kurtosis counts as unknown: about 20 for sums
        over single-precision products, the default; 1800 for double precision.  Little is lost: so far from zero,
        a range that must include zero gains next to nothing from clipping.
    counts : array, shape (BINS,), int64, or None
        Values in each bin, see `value_counts`; None where they were not counted, or are beyond float32.
    """

    n: int
    s1: float
    s2: float
    s3: float
    s4: float
    minimum: float
    maximum: float
    precision: float = SINGLE_PRECISION
    counts: Counts | None = field(default=None, compare=False)

    @classmethod
    def of(cls, x: ArrayLike) -> ActivationMoments:
        """Moments of an array of any shape, summed in float64.

        Raises
        ------
        SpecError
            If `x` is empty.
        NumericError
            If `x` holds NaN or infinity.
        """
        values = np.asarray(x, dtype=np.float64).ravel()
        if not values.size:
            raise SpecError("Statistics of activations need at least one value, got none.")
        if not np.isfinite(values).all():
            raise NumericError(f"{int((~np.isfinite(values)).sum())} of {values.size} activations are NaN or infinite.")
        sums = [float(np.sum(values**order)) for order in (1, 2, 3, 4)]
        fits = float(np.abs(values).max()) <= _LARGEST
        return cls(
            n=values.size,
            s1=sums[0],
            s2=sums[1],
            s3=sums[2],
            s4=sums[3],
            minimum=float(values.min()),
            maximum=float(values.max()),
            precision=2.0**-50,
            counts=count_values(torch.from_numpy(values).float()).numpy() if fits else None,
        )

    def __add__(self, other: ActivationMoments) -> ActivationMoments:
        """Moments of both sets of values together; counts survive only if both have them."""
        return ActivationMoments(
            n=self.n + other.n,
            s1=self.s1 + other.s1,
            s2=self.s2 + other.s2,
            s3=self.s3 + other.s3,
            s4=self.s4 + other.s4,
            minimum=min(self.minimum, other.minimum),
            maximum=max(self.maximum, other.maximum),
            precision=max(self.precision, other.precision),
            counts=None if self.counts is None or other.counts is None else self.counts + other.counts,
        )

    @property
    def mean(self) -> float:
        """Mean value."""
        return self.s1 / self.n

    def spread_and_kurtosis(self, centre: float) -> tuple[float, float]:
        """Root mean square and excess kurtosis about `centre`.

        Returns
        -------
        sigma : float
            0 where the sums show no spread.
        kurtosis : float
            NaN where undefined (fewer than 4 values, or no spread) or lost to rounding (see `precision`).

        Notes
        -----
        The differences between the sums are taken exactly, in rational numbers, so nothing is lost beyond what the
        sums themselves had lost.
        """
        n, c = self.n, Fraction(centre)
        s1, s2, s3, s4 = (Fraction(total) for total in (self.s1, self.s2, self.s3, self.s4))
        second = float((s2 - 2 * c * s1 + n * c**2) / n)
        fourth = float((s4 - 4 * c * s3 + 6 * c**2 * s2 - 4 * c**3 * s1 + n * c**4) / n)
        lost = self.precision * (self.s4 + abs(4 * centre * self.s3) + 6 * centre**2 * self.s2) / n
        square = max(second, 0.0) ** 2
        is_known = n >= 4 and square > 0 and lost <= _TOLERANCE * square
        return math.sqrt(max(second, 0.0)), fourth / square - 3.0 if is_known else math.nan


@dataclass(frozen=True, kw_only=True)
class Range:
    """A static range.

    Parameters
    ----------
    minimum, maximum : float
        minimum <= 0 <= maximum.
    alpha : mapping of language to float
        Of a rule that goes by moments: distance from the mean ("sym": from zero) at which each language would be
        clipped if it were alone.
    unclipped : tuple of str
        Of such a rule: languages whose kurtosis is undefined; they count with their minimum and maximum.
    errors : mapping of language to float
        Of rule "error": squared error on this range, divided by the sum of squares; 1 if nothing is left.
    """

    minimum: float
    maximum: float
    alpha: Mapping[str, float] = field(default_factory=dict)
    unclipped: tuple[str, ...] = ()
    errors: Mapping[str, float] = field(default_factory=dict)


def static_range(
    moments: Mapping[str, ActivationMoments],
    bits: int,
    *,
    scheme: Scheme = "asym",
    reconcile: RangeReconcile = "error",
    weights: Mapping[str, float] | None = None,
) -> Range:
    """Range that serves all languages.

    Parameters
    ----------
    moments : mapping of language to ActivationMoments
        At least one language.
    bits : int
        2 to 8.
    scheme : {"asym", "sym"}
        "asym" clips around each language's mean; "sym" around zero, and the range is symmetric.
    reconcile : {"error", "max", "mean", "pooled"}
        "error": the least squared error, that of each language divided by its sum of squares, in the weighted mean, and
        in no language more than twice that on the range of all values; it needs the counts.  The others go by the
        languages' thresholds.  "max": the union of the languages' ranges, so that none is clipped harder than it would
        be alone.  "mean": the weighted mean of their ends.  "pooled": one range from all values together.
    weights : mapping of language to float, optional
        For "error" and "mean": >= 0, 1 for languages left out.  A language of weight 0 has no say under any rule.

    Returns
    -------
    Range: "asym" within the extrema of the values and zero, "sym" as far on either side as the larger of them.

    Raises
    ------
    SpecError
        If `moments` is empty, every weight is zero, a weight is negative or names no language, a choice is unknown, or
        "error" has no counts.
    NumericError
        If a language's statistics hold NaN or infinity; the message names it.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> range_ = static_range({"en": ActivationMoments.of(rng.normal(0.5, 1.0, 10_000))}, bits=4)
    >>> round(range_.minimum, 1), round(range_.maximum, 1)
    (-2.0, 3.0)
    """
    if scheme not in get_args(Scheme):
        raise SpecError(f"scheme={scheme!r} is not known. Use one of {', '.join(get_args(Scheme))}.")
    if reconcile not in get_args(RangeReconcile):
        raise SpecError(f"reconcile={reconcile!r} is not known. Use one of {', '.join(get_args(RangeReconcile))}.")
    check_bits(bits)
    shares = _shares(moments, weights or {})
    for language in shares:
        _check_moments(language, moments[language])
    if reconcile == "error":
        return _of_least_error(moments, shares, bits, scheme)
    alone = {language: _range_alone(moments[language], bits, scheme) for language in shares}
    if reconcile == "pooled":
        ends = {"": _range_alone(reduce(ActivationMoments.__add__, (moments[name] for name in shares)), bits, scheme)}
    else:
        ends = alone
    if reconcile == "mean":
        minimum = sum(shares[name] * one.minimum for name, one in ends.items())
        maximum = sum(shares[name] * one.maximum for name, one in ends.items())
    else:
        minimum = min(one.minimum for one in ends.values())
        maximum = max(one.maximum for one in ends.values())
    return Range(
        minimum=min(minimum, 0.0),
        maximum=max(maximum, 0.0),
        alpha={name: one.alpha for name, one in alone.items()},
        unclipped=tuple(name for name, one in alone.items() if not one.is_clipped),
    )


def _of_least_error(
    moments: Mapping[str, ActivationMoments], shares: Mapping[str, float], bits: int, scheme: Scheme
) -> Range:
    counts = []
    for language in shares:
        counted = moments[language].counts
        if counted is None:
            raise SpecError(f"The values of language {language!r} were not counted. Count them, or use another rule.")
        counts.append(counted)
    minimum = min(moments[language].minimum for language in shares)
    maximum = max(moments[language].maximum for language in shares)
    found = least_error_range(np.stack(counts), np.array(list(shares.values())), minimum, maximum, bits, scheme)
    errors = dict(zip(shares, found.errors.tolist(), strict=True))
    return Range(minimum=found.low, maximum=found.high, errors=errors)


@dataclass(frozen=True, kw_only=True)
class _RangeAlone:
    minimum: float
    maximum: float
    alpha: float
    is_clipped: bool


def _range_alone(moments: ActivationMoments, bits: int, scheme: Scheme) -> _RangeAlone:
    """Range of one language: around its mean, or around zero for "sym", and never beyond its extrema."""
    centre = moments.mean if scheme == "asym" else 0.0
    reach = max(moments.maximum - centre, centre - moments.minimum)
    sigma, kurtosis = moments.spread_and_kurtosis(centre)
    is_known = not math.isnan(kurtosis)
    alpha = reach
    if is_known:
        layout: Literal["asym", "narrow"] = "asym" if scheme == "asym" else "narrow"
        alpha = min(reach, float(optimal_alpha_generalized(sigma, kurtosis, bits, layout=layout)))
    if scheme == "sym":
        return _RangeAlone(minimum=-alpha, maximum=alpha, alpha=alpha, is_clipped=is_known)
    return _RangeAlone(
        minimum=max(moments.minimum, centre - alpha),
        maximum=min(moments.maximum, centre + alpha),
        alpha=alpha,
        is_clipped=is_known,
    )


def _check_moments(language: str, moments: ActivationMoments) -> None:
    if moments.n < 1:
        raise SpecError(f"The statistics of language {language!r} hold no values. Give it text, or leave it out.")
    numbers = (moments.s1, moments.s2, moments.s3, moments.s4, moments.minimum, moments.maximum)
    if not all(math.isfinite(number) for number in numbers):
        raise NumericError(
            f"The activation statistics of language {language!r} hold NaN or infinity: the model itself fails on it, "
            f"before anything is quantized. Leave the language out, or repair the model."
        )


def _shares(moments: Mapping[str, ActivationMoments], weights: Mapping[str, float]) -> dict[str, float]:
    """Weights that sum to 1, of the languages that have a say."""
    if not moments:
        raise SpecError("A static range needs the statistics of at least one language, got none.")
    unknown = sorted(set(weights) - set(moments))
    if unknown:
        raise SpecError(f"weights name {', '.join(unknown)}, but there are statistics only for {', '.join(moments)}.")
    given = {language: float(weights.get(language, 1.0)) for language in moments}
    wrong = {language: weight for language, weight in given.items() if not 0 <= weight < math.inf}
    if wrong:
        raise SpecError(f"weights must be numbers >= 0, got {wrong}.")
    total = sum(given.values())
    if total == 0:
        raise SpecError("weights are zero for every language. Give at least one language a weight above 0.")
    return {language: weight / total for language, weight in given.items() if weight > 0}


def aligned_ends(limits: Range, bits: int) -> tuple[float, float]:
    """Ends of the integer grid over a range: zero is one of its levels, so that exact zeros stay what they are.

    Parameters
    ----------
    limits : Range
    bits : int
        2 to 8.

    Returns
    -------
    tuple of two floats, minimum <= 0 <= maximum and not both 0; the ends move by half a step at most.

    Examples
    --------
    >>> low, high = aligned_ends(Range(minimum=-1.0, maximum=2.0, alpha={}), bits=2)
    >>> low, high
    (-1.0, 2.0)
    """
    check_bits(bits)
    steps = (1 << bits) - 1
    step = (limits.maximum - limits.minimum) / steps or 1.0
    zero_point = round(-limits.minimum / step)
    return -zero_point * step, (steps - zero_point) * step

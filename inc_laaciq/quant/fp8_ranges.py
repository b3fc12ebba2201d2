"""One FP8 range from the ranges of several languages, and what each language loses by it.

Neural Compressor's static FP8 scale of a tensor is ``maxabs / (largest * backoff)``, rounded; this is the same
arithmetic.  The backoff of inputs, a quarter, leaves two bits of headroom: no value saturates before it is four times
as large as what was measured.  On the other side E4M3 has normal numbers down to 2**-6, so a range that is larger than
a language needs costs it digits only where its values fall below that.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from inc_laaciq.errors import SpecError
from inc_laaciq.quant.fp8_scales import SMALLEST_NORMAL, SMALLEST_SUBNORMAL, Fp8Target
from inc_laaciq.quant.magnitudes import Magnitudes, octave_bounds

Ranges = npt.NDArray[np.float32]

RULES = {
    "max": "the largest range of any language: none saturates",
    "mean": "the mean of the logarithms of the ranges",
    "minimax": "the middle of the smallest and the largest range, on a logarithmic scale",
    "error": "the least rounding error of the worst language; needs the counts that the observer laaciq keeps",
}
# Quarters of an octave below the largest range that rule `error` looks at.
_QUARTERS = 48
# Errors that differ by less than this share are equally good: counts by octave tell no more.
_EQUAL = 1e-2


def reconcile_ranges(ranges: Ranges, rule: str) -> Ranges:
    """One range of every channel, from those of all languages.

    Parameters
    ----------
    ranges : array, shape (n_languages, ...), float32
        Largest magnitudes; >= 0.  A language whose values are all zero (0) has no say in `mean` and `minimax`.
    rule : {"max", "mean", "minimax"}

    Returns
    -------
    array, shape (...), float32; 0 where all languages have 0.

    Raises
    ------
    SpecError
        If the rule is unknown, or needs more than ranges.

    Examples
    --------
    >>> ranges = np.array([[1.0], [2.0], [16.0]], dtype=np.float32)
    >>> [float(reconcile_ranges(ranges, rule)[0]) for rule in ("max", "minimax")]
    [16.0, 4.0]
    """
    if rule == "max":
        found: Ranges = ranges.max(axis=0)
        return found
    if rule not in ("mean", "minimax"):
        raise SpecError(f"reconcile={rule!r} is not a rule for ranges. Use max, mean or minimax.")
    used = ranges > 0
    logarithms = np.log2(np.where(used, ranges, 1.0).astype(np.float64))
    if rule == "mean":
        middle = np.where(used, logarithms, 0.0).sum(axis=0) / np.maximum(used.sum(axis=0), 1)
    else:
        lowest = np.where(used, logarithms, np.inf).min(axis=0)
        highest = np.where(used, logarithms, -np.inf).max(axis=0)
        with np.errstate(invalid="ignore"):  # inf - inf where no language has anything; replaced below
            middle = (lowest + highest) / 2
    return np.where(used.any(axis=0), np.exp2(middle), 0.0).astype(np.float32)


def least_error_range(languages: Mapping[str, Magnitudes], target: Fp8Target) -> float:
    """The range whose scale gives the worst language the least relative rounding error.

    E4M3 has the same relative error wherever no value saturates and few fall below the smallest normal number, so the
    error is flat over several octaves; of ranges that are equally good the largest is taken, and none is larger than
    the largest measured one.

    Raises
    ------
    SpecError
        If no language is given.
    """
    if not languages:
        raise SpecError("the rule 'error' needs the counts of at least one language")
    largest = max(found.largest for found in languages.values())
    if largest == 0:
        return 0.0
    best, least = largest, np.inf
    for quarter in range(_QUARTERS + 1):
        candidate = largest * 2.0 ** (-quarter / 4)
        scale = target.scale(candidate)
        worst = max(relative_error(found, scale, target.largest) for found in languages.values())
        if worst < least * (1 - _EQUAL):
            best, least = candidate, worst
    return float(best)


def relative_error(found: Magnitudes, scale: float, largest: float) -> float:
    """Expected squared rounding error of E4M3 divided by the sum of squares; 0 if all values are zero.

    Parameters
    ----------
    found : Magnitudes
    scale : float
        Value of the number 1 of the format; > 0.
    largest : float
        Largest number of the format.

    Notes
    -----
    Values are taken to be spread evenly over their octave.  A normal number has steps of an eighth of its octave, a
    subnormal one of `SMALLEST_SUBNORMAL`, and a step has the squared error step**2 / 12; smaller values are lost whole.
    Where only a tail saturates, its error comes out up to a few times too large: rule `error` rather keeps large values
    than small ones.
    """
    if found.squares == 0:
        return 0.0
    low, high = octave_bounds()
    squares = (high**3 - low**3) / (3 * (high - low))
    step = np.maximum(low / 8, scale * SMALLEST_SUBNORMAL)
    rounding = np.minimum(step**2 / 12, squares)
    limit = scale * largest
    top = np.minimum(high, max(found.largest, limit))  # the last octave is not filled to its end
    beyond = np.maximum(top - limit, 0) ** 3 - np.maximum(low - limit, 0) ** 3
    saturation = np.maximum(beyond, 0) / (3 * np.maximum(top - low, np.finfo(np.float64).tiny))
    counts = np.asarray(found.counts, dtype=np.float64)
    error = np.where(low < limit, rounding, 0.0) + saturation
    return float(np.dot(counts, np.where(counts > 0, error, 0.0)) / found.squares)


def losses(own: Ranges, merged: Ranges, found: Magnitudes | None, target: Fp8Target) -> dict[str, float | bool | None]:
    """What a language loses by a range that it shares.

    Parameters
    ----------
    own, merged : array, shape (channels, 1)
        The language's range and the shared one.
    found : Magnitudes or None
        Counts of the language; without them no share of values is known.
    target : Fp8Target

    Returns
    -------
    dict
        ``bits``, log2 of shared to own range (of E4M3's range, which it does not use; negative: its values go beyond
        the range), the median channel's, None if the language's values are all zero; ``saturates``, whether the
        largest value is beyond the largest number; ``subnormal`` and ``lost``, shares of its values that are rounded
        more coarsely than E4M3's three binary digits, and to zero; ``subnormal_alone`` and ``lost_alone``, the same
        with a scale of its own.
    """
    used = (own > 0) & (merged > 0)
    bits = float(np.median(np.log2(merged[used].astype(np.float64) / own[used]))) if used.any() else None
    scale, alone = target.scale(float(merged.max())), target.scale(float(own.max()))
    shares: dict[str, float | bool | None] = dict.fromkeys(("subnormal", "lost", "subnormal_alone", "lost_alone"))
    if found is not None:
        for ending, value in (("", scale), ("_alone", alone)):
            shares["subnormal" + ending] = found.share_below(value * SMALLEST_NORMAL)
            # Half of the smallest number rounds to even, which is zero.
            shares["lost" + ending] = found.share_below(value * SMALLEST_SUBNORMAL / 2)
    return {"bits": bits, "saturates": bool(own.max() > scale * target.largest), **shares}

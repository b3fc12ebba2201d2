"""The range of a static grid on which rounding loses least, from counts of the values.

ACIQ finds the best threshold of a distribution that it assumes (Banner et al. 2019, arXiv 1810.05723).  Inputs of some
layers have a shape that four moments do not tell, such as the gated products in Llama's blocks; here the error is that
of the values themselves, up to where they lie within a bin.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from inc_laaciq.quant.grid import Scheme
from inc_laaciq.quant.value_counts import Counts, bin_bounds

# Ends that are looked at, in octaves below the extremum: first down to 1/256 of it, then around the best of these, as
# finely as the bins are.
_COARSE = np.arange(0, 8.5, 1 / 2)
_FINE = np.arange(-3, 4) / 8
_NONE = np.zeros(1)
# How many times its error on the range of all values a language may have: clipping the values of one away would pay
# otherwise, where several others have much smaller ones.
_MOST = 2.0
# A bin that its values' extremum cuts to nothing keeps this share of its magnitude as its width, for the division.
_NARROWEST = 1e-6

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class LeastError:
    """The range that was found.

    Parameters
    ----------
    low, high : float
        Its ends; low <= 0 <= high.
    errors : array, shape (languages,)
        Squared error of each language on it, divided by the language's sum of squares; 0 if that is 0.
    """

    low: float
    high: float
    errors: Array


def least_error_range(
    counts: Counts, shares: Array, minimum: float, maximum: float, bits: int, scheme: Scheme
) -> LeastError:
    """Range with the least squared error, that of each language divided by its sum of squares.

    Only ranges count on which no language's error is more than twice what it is on the range from `minimum` to
    `maximum`: otherwise several languages of small values would clip one of large values away.

    Parameters
    ----------
    counts : array, shape (languages, `BINS`)
        Values in each bin.
    shares : array, shape (languages,)
        What each language counts in the mean.
    minimum, maximum : float
        Extrema of the values.
    bits : int
        2 to 8.
    scheme : {"asym", "sym"}
        "sym": the range is symmetric.

    Returns
    -------
    LeastError, with ends between the extrema and zero ("sym": as far on either side as the larger of them).  They are
    found to an eighth of an octave, as if values were spread evenly over their bin; of ranges that are equally good the
    widest.
    """
    low, high = min(minimum, 0.0), max(maximum, 0.0)
    reach = max(high, -low)
    if reach == 0:
        return LeastError(low=0.0, high=0.0, errors=np.zeros(len(counts)))
    inside = _Bins(counts, low, high)
    octaves = _COARSE if low < 0 else _NONE, _COARSE if high > 0 else _NONE
    if scheme == "sym":
        low, high, octaves = -reach, reach, (_COARSE, _COARSE)
    most = _MOST * inside.relative_error(*_grid(np.array([low]), np.array([high]), bits, scheme))
    for _ in range(2):
        pairs = np.stack(octaves) if scheme == "sym" else np.stack(np.meshgrid(*octaves)).reshape(2, -1)
        lows, highs = low * 2.0 ** -pairs[0], high * 2.0 ** -pairs[1]
        errors = inside.relative_error(*_grid(lows, highs, bits, scheme))
        best = int(np.argmin(np.where((errors <= most).all(1), errors @ shares, np.inf)))
        octaves = tuple(np.unique(np.maximum(one + _FINE, 0.0)) for one in pairs[:, best])
    return LeastError(low=float(lows[best]), high=float(highs[best]), errors=errors[best])


def _grid(low: Array, high: Array, bits: int, scheme: Scheme) -> tuple[Array, Array, Array]:
    """Step, and the lowest and highest level, of grids over some ranges; zero is a level of each."""
    if scheme == "sym":
        return high / ((1 << (bits - 1)) - 1), low, high
    steps = (1 << bits) - 1
    step = (high - low) / steps
    zero_point = np.round(-low / step)
    return step, -zero_point * step, (steps - zero_point) * step


class _Bins:
    """Bins that hold something, cut at the extrema; values are taken to be spread evenly over a bin."""

    def __init__(self, counts: Counts, low: float, high: float) -> None:
        is_used = counts.any(0)
        below, above = (np.clip(bound[is_used], low, high) for bound in bin_bounds())
        width = np.maximum(above - below, _NARROWEST * np.abs(above))
        below = above - width
        density = counts[:, is_used] / np.where(width > 0, width, 1.0)
        # Of the bins and not of the values, so that the error of a range without any level but 0 is 1.
        energy = density @ ((_cube(above) - _cube(below)) / 3)
        self._density = density / np.where(energy > 0, energy, 1.0)[:, None]
        # Most bins end where another one begins.
        self._bounds, places = np.unique(np.concatenate([below, above]), return_inverse=True)
        self._below, self._above = np.split(places, 2)

    def relative_error(self, step: Array, low: Array, high: Array) -> Array:
        """Squared error on each of some grids, divided by the sum of squares; shape (grids, languages)."""
        integral = _integral(self._bounds, step[:, None], low[:, None], high[:, None])
        found: Array = (integral[:, self._above] - integral[:, self._below]) @ self._density.T
        return found


def _integral(x: Array, step: Array, low: Array, high: Array) -> Array:
    """Integral of the squared error from 0 to x.

    Between two levels it is step**3 / 12; behind the last whole level n, (x - n step)**3 / 3; and where values are
    clipped, the distance to the last level cubed, divided by 3.
    """
    places = np.clip(x, low, high) / step
    levels = np.rint(places)
    rounded = _cube(step) * (levels / 12 + _cube(places - levels) / 3)
    clipped = _cube(np.maximum(x - high, 0.0)) - _cube(np.maximum(low - x, 0.0))
    found: Array = rounded + clipped / 3
    return found


def _cube(x: Array) -> Array:
    return x * x * x  # `x**3` takes several times as long

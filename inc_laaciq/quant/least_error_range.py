"""The range of a static grid on which rounding loses least, from counts of the values.

ACIQ finds the best threshold of a distribution that it assumes (Banner et al. 2019, arXiv 1810.05723).  Inputs of some
layers have a shape that four moments do not tell, such as the gated products in Llama's blocks; here the error is that
of the values themselves, up to where they lie within a bin.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from inc_laaciq.quant.grid import Scheme
from inc_laaciq.quant.value_counts import bin_bounds

# Ends that are looked at, in octaves below the extremum: first down to 1/256 of it, then around the best of these, as
# finely as the bins are.
_COARSE = np.arange(0, 8, 1 / 2)
_FINE = np.arange(-3, 4) / 8
_NONE = np.zeros(1)
# A bin that its values' extremum cuts to nothing keeps this share of its magnitude as its width, for the division.
_NARROWEST = 1e-6

Array = npt.NDArray[np.float64]


def least_error_range(counts: Array, minimum: float, maximum: float, bits: int, scheme: Scheme) -> tuple[float, float]:
    """Ends of the range with the least squared error.

    Parameters
    ----------
    counts : array, shape (`BINS`,)
        Values in each bin, >= 0; they need not be whole: languages may be mixed in any proportion.
    minimum, maximum : float
        Extrema of the values.
    bits : int
        2 to 8.
    scheme : {"asym", "sym"}
        "sym": the range is symmetric.

    Returns
    -------
    tuple of two floats, minimum <= low <= 0 <= high <= maximum ("sym": as far on either side as the larger of them).
    Of ranges that are equally good the widest.
    """
    low, high = min(minimum, 0.0), max(maximum, 0.0)
    reach = max(high, -low)
    if reach == 0:
        return 0.0, 0.0
    inside = _Bins(counts, low, high)
    octaves = _COARSE if low < 0 else _NONE, _COARSE if high > 0 else _NONE
    if scheme == "sym":
        low, high, octaves = -reach, reach, (_COARSE, _COARSE)
    for _ in range(2):
        pairs = np.stack(octaves) if scheme == "sym" else np.stack(np.meshgrid(*octaves)).reshape(2, -1)
        lows, highs = low * 2.0 ** -pairs[0], high * 2.0 ** -pairs[1]
        best = int(np.argmin(inside.error(*_grid(lows, highs, bits, scheme))))
        octaves = tuple(np.unique(np.maximum(one + _FINE, 0.0)) for one in pairs[:, best])
    return float(lows[best]), float(highs[best])


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

    def __init__(self, counts: Array, low: float, high: float) -> None:
        is_used = counts > 0
        below, above = (bound[is_used] for bound in bin_bounds())
        self._above = np.clip(above, low, high)
        width = np.maximum(self._above - np.clip(below, low, high), _NARROWEST * np.abs(self._above))
        self._below = self._above - width
        self._density = counts[is_used] / np.where(width > 0, width, 1.0)

    def error(self, step: Array, low: Array, high: Array) -> Array:
        """Sum of squared errors on each of some grids, shape (grids,)."""
        grids = (step[:, None], low[:, None], high[:, None])
        found: Array = (_integral(self._above, *grids) - _integral(self._below, *grids)) @ self._density
        return found


def _integral(x: Array, step: Array, low: Array, high: Array) -> Array:
    """Integral of the squared error from 0 to x.

    Between two levels it is step**3 / 12; behind the last whole level n, (x - n step)**3 / 3; and where values are
    clipped, the distance to the last level cubed, divided by 3.
    """
    places = np.clip(x, low, high) / step
    levels = np.rint(places)
    rounded = step**3 * (levels / 12 + (places - levels) ** 3 / 3)
    clipped = np.maximum(x - high, 0.0) ** 3 - np.maximum(low - x, 0.0) ** 3
    found: Array = rounded + clipped / 3
    return found

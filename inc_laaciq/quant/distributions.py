"""The symmetric distributions that clipping thresholds are derived from.

All are generalized Gaussians with unit variance and density proportional to ``exp(-|x / s|**shape)``: Laplace has
shape 1, Gauss shape 2, uniform the limit of an infinite shape.  Excess kurtosis falls as the shape grows, so a fourth
moment is all that is needed to tell which member a tensor resembles.

The error of a clipped grid needs only three integrals over the tail, and each has a closed form in the incomplete gamma
function.  For small shapes the gamma functions overflow, so ratios are taken between logarithms.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

FloatArray = NDArray[np.float64]

LAPLACE = 1.0
GAUSSIAN = 2.0

# The part of the family that is used, from nearly uniform (excess kurtosis -1.197) to an absurdly heavy tail (2.8
# million). With a sharper edge than this, the error of an 8-bit grid ripples with the distance from its last code to
# the edge, and has many minima, none meaningful.
FLATTEST_SHAPE = 60.0
HEAVIEST_SHAPE = 0.1

KURTOSIS_OFFSET = 2.2
"""``log(excess kurtosis + KURTOSIS_OFFSET)`` spreads the family evenly; it is 0 at -1.2, the uniform distribution."""


def excess_kurtosis_of_shape(shape: ArrayLike) -> FloatArray:
    """Excess kurtosis of a generalized Gaussian.

    Parameters
    ----------
    shape : array
        Exponent of the density, > 0.

    Returns
    -------
    array, same shape: 3 for Laplace, 0 for Gauss, towards -1.2 (uniform) as the exponent grows.

    Examples
    --------
    >>> round(float(excess_kurtosis_of_shape(1.0)), 9)
    3.0
    """
    inverse = 1.0 / np.asarray(shape, dtype=np.float64)
    log_ratio = special.gammaln(5 * inverse) + special.gammaln(inverse) - 2 * special.gammaln(3 * inverse)
    kurtosis: FloatArray = np.exp(log_ratio) - 3.0
    return kurtosis


def shape_of_excess_kurtosis(kurtosis: ArrayLike) -> FloatArray:
    """Exponent of the generalized Gaussian with a given excess kurtosis; the inverse of `excess_kurtosis_of_shape`.

    Parameters
    ----------
    kurtosis : array
        Values outside the range of the family count as its nearer end; NaN gives NaN.

    Returns
    -------
    array, same shape, from `FLATTEST_SHAPE` down to `HEAVIEST_SHAPE`.

    Examples
    --------
    >>> shape_of_excess_kurtosis([3.0, 0.0]).round(4).tolist()
    [1.0, 2.0]
    """
    log_shapes = np.linspace(np.log(FLATTEST_SHAPE), np.log(HEAVIEST_SHAPE), 4096)
    positions = kurtosis_position(excess_kurtosis_of_shape(np.exp(log_shapes)))
    shape: FloatArray = np.exp(np.interp(kurtosis_position(kurtosis), positions, log_shapes))
    return shape


def kurtosis_position(kurtosis: ArrayLike) -> FloatArray:
    """``log(kurtosis + KURTOSIS_OFFSET)``, where a kurtosis below that of `FLATTEST_SHAPE` counts as that one."""
    lowest = excess_kurtosis_of_shape(FLATTEST_SHAPE)
    position: FloatArray = np.log(np.maximum(np.asarray(kurtosis, dtype=np.float64), lowest) + KURTOSIS_OFFSET)
    return position


def spread_of_shape(shape: ArrayLike) -> FloatArray:
    """Scale `s` that gives ``exp(-|x / s|**shape)`` unit variance."""
    inverse = 1.0 / np.asarray(shape, dtype=np.float64)
    spread: FloatArray = np.exp(0.5 * (special.gammaln(inverse) - special.gammaln(3 * inverse)))
    return spread


def tail_moment(order: int, t: ArrayLike, shape: ArrayLike) -> FloatArray:
    """Integral of ``|x|**order`` over ``|x| > t``, at unit variance.

    Parameters
    ----------
    order : int
        0 gives the probability of the tail, 1 its part of the mean magnitude, 2 its part of the variance.
    t : array
        Threshold in standard deviations, >= 0.
    shape : array broadcastable to `t`, or float
        Exponent of the density, > 0.

    Returns
    -------
    array, as broadcast.

    Notes
    -----
    |x| = s G**(1/shape) with G gamma distributed, so the integral is ``s**order Gamma(a) / Gamma(1 / shape)`` times the
    regularized upper incomplete gamma function at a = (order + 1) / shape.
    """
    spread = spread_of_shape(shape)
    shape = np.asarray(shape, dtype=np.float64)
    order_over_shape = (order + 1) / shape
    with np.errstate(over="ignore"):  # an infinite argument is a tail of probability 0, which is right
        argument = (np.asarray(t, dtype=np.float64) / spread) ** shape
    whole = spread**order * np.exp(special.gammaln(order_over_shape) - special.gammaln(1 / shape))
    tail: FloatArray = whole * special.gammaincc(order_over_shape, argument)
    return tail


def mean_overshoot(t: ArrayLike, shape: ArrayLike) -> FloatArray:
    """Mean of ``max(|x| - t, 0)`` at unit variance, the shape of `t`; its slope is minus the tail's probability."""
    overshoot: FloatArray = tail_moment(1, t, shape) - np.asarray(t) * tail_moment(0, t, shape)
    return overshoot


def mean_squared_overshoot(t: ArrayLike, shape: ArrayLike) -> FloatArray:
    """Mean of ``max(|x| - t, 0)**2`` at unit variance, the shape of `t`: the squared error of clipping at `t`."""
    t = np.asarray(t, dtype=np.float64)
    squared: FloatArray = tail_moment(2, t, shape) - 2 * t * tail_moment(1, t, shape) + t**2 * tail_moment(0, t, shape)
    return squared

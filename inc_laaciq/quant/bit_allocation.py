"""Bits per channel: more for wide channels, fewer for narrow ones, at the same average.

With rounding noise alpha**2 / (3 * 4**bits) and a quota of n * 2**average bins for n channels, the total noise is least
when channel i gets bins in proportion to alpha_i**(2/3).  Source: Banner et al. 2019 (arXiv:1810.05723), "Per-channel
bit allocation".  Only formats whose width may change from channel to channel can carry the result.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from inc_laaciq.errors import NumericError, SpecError
from inc_laaciq.quant.grid import MAX_BITS, MIN_BITS, check_bits


def allocate_bits(
    alpha: ArrayLike,
    average_bits: float,
    *,
    minimum: int = MIN_BITS,
    maximum: int = MAX_BITS,
    keep_average: bool = True,
) -> NDArray[np.int64]:
    """Bits of every channel.

    Parameters
    ----------
    alpha : array, shape [n]
        Range of each channel's values, in any one unit; >= 0.
    average_bits : float
        Bits per channel on average, from `minimum` to `maximum`.
    minimum, maximum : int
        Fewest and most bits of a channel, within 2 to 8.
    keep_average : bool
        True: the quota of bins is raised or lowered until the bits come as close to `average_bits` as they can without
        exceeding it.  False: the published formula, ``round(log2(B alpha_i**(2/3) / sum(alpha**(2/3))))`` with
        ``B = n * 2**average_bits``, whose mean lies lower the more the channels differ.

    Returns
    -------
    array of int64, shape [n].  Channels of one `alpha` get the same bits.

    Raises
    ------
    SpecError
        If `alpha` is empty or not one-dimensional, or the bits contradict each other.
    NumericError
        If an `alpha` is negative, NaN or infinite.

    Examples
    --------
    >>> allocate_bits([1.0, 1.0, 2.0**1.5, 4.0**1.5], average_bits=4, keep_average=False).tolist()
    [3, 3, 4, 5]
    """
    check_bits(minimum)
    check_bits(maximum)
    if not minimum <= average_bits <= maximum:
        raise SpecError(f"average_bits={average_bits} is outside minimum={minimum} to maximum={maximum}.")
    ranges = np.asarray(alpha, dtype=np.float64)
    if ranges.ndim != 1 or not ranges.size:
        raise SpecError(f"alpha has shape {ranges.shape}. Give one value per channel, at least one.")
    if not np.all((ranges >= 0) & np.isfinite(ranges)):
        raise NumericError("alpha holds a negative number, NaN or infinity. Give the range of each channel, >= 0.")
    with np.errstate(divide="ignore"):  # a channel of zeros has minus infinity bits, and gets the minimum
        log_share = np.log2(ranges) * (2 / 3)
    if not np.isfinite(log_share).any():
        log_share = np.zeros_like(ranges)
    largest = log_share.max()
    log_share -= largest + np.log2(np.mean(np.exp2(log_share - largest)))

    def bits(log_quota: float) -> NDArray[np.int64]:
        rounded: NDArray[np.int64] = np.clip(np.round(log_share + log_quota), minimum, maximum).astype(np.int64)
        return rounded

    if not keep_average:
        return bits(average_bits)
    low, high = _bracket(log_share, minimum, maximum)
    for _ in range(64):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if bits(middle).mean() <= average_bits else (low, middle)
    return bits(low)


def _bracket(log_share: NDArray[np.float64], minimum: int, maximum: int) -> tuple[float, float]:
    """Quotas at which every channel has the minimum, and every channel that can has the maximum."""
    shares = log_share[np.isfinite(log_share)]
    return float(minimum - 1 - shares.max()), float(maximum + 1 - shares.min())

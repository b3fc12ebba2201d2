"""How many values of a tensor lie where: counts on the grid of short floating-point numbers.

The bins are what float32 has in its first 12 bits: sign, exponent and three bits behind it, so 8 bins an octave at any
magnitude.  Nothing has to be known of the values before they are counted, and counts of two batches, languages or
machines add up to those of the whole.  (`magnitudes` counts whole octaves, which is all that an FP8 scale asks for.)
"""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt
import torch

BINS = 1 << 12
_SHIFT = 32 - 12

Counts = npt.NDArray[np.int64]


def count_values(x: torch.Tensor) -> torch.Tensor:
    """Values in each bin.

    Parameters
    ----------
    x : tensor of any shape, float32
        Finite.

    Returns
    -------
    tensor, shape (`BINS`,), int64
    """
    places = (x.view(torch.int32) >> _SHIFT) & (BINS - 1)
    return torch.bincount(places.flatten(), minlength=BINS)


@cache
def bin_bounds() -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Lower and upper bound of every bin, each of shape (`BINS`,); those of the bins without finite numbers are 0."""
    half = BINS // 2
    with np.errstate(invalid="ignore"):  # the last bins hold what is no number
        ends = (np.arange(half + 1, dtype=np.uint32) << np.uint32(_SHIFT)).view(np.float32).astype(np.float64)
    ends[half] = np.inf
    small, large = ends[:-1], ends[1:]
    is_finite = np.isfinite(small)
    small = np.where(is_finite, small, 0.0)
    large = np.where(is_finite, np.minimum(large, float(np.finfo(np.float32).max)), 0.0)
    return np.concatenate([small, -large]), np.concatenate([large, -small])

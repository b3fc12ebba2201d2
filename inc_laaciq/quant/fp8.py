"""Rounding to 8-bit floating point.

The scale of an FP8 tensor plays the part of alpha on an integer grid: it decides which values saturate.  Saturation is
done here, before the cast, because a cast outside the range saturates for one FP8 type and gives infinity or NaN for
the other, depending on the version of torch.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from inc_laaciq.errors import NumericError, SpecError

Fp8Dtype = Literal["fp8_e4m3", "fp8_e5m2"]

_FP8_TYPES: dict[str, torch.dtype] = {"fp8_e4m3": torch.float8_e4m3fn, "fp8_e5m2": torch.float8_e5m2}


def fp8_round(x: Tensor, dtype: Fp8Dtype, alpha: Tensor | float) -> Tensor:
    """Values of `x` after a trip through FP8, scaled so that `alpha` is the largest number of the type.

    Parameters
    ----------
    x : Tensor, any shape
        Not modified.
    dtype : {"fp8_e4m3", "fp8_e5m2"}
        Largest number 448 and 57344.
    alpha : Tensor broadcastable to `x`, or float
        Clipping threshold, >= 0; 0 gives zeros.

    Returns
    -------
    Tensor, float32, the shape of `x`, within ``[-alpha, alpha]`` to float32 rounding.

    Raises
    ------
    SpecError
        If `dtype` is unknown.
    NumericError
        If `x` holds NaN or infinity, or an `alpha` is NaN, infinite or negative.

    Examples
    --------
    >>> fp8_round(torch.tensor([0.3, 500.0]), "fp8_e4m3", 448.0).tolist()
    [0.3125, 448.0]
    """
    if dtype not in _FP8_TYPES:
        raise SpecError(f"dtype={dtype!r} is not an FP8 type. Use one of {', '.join(_FP8_TYPES)}.")
    if not bool(torch.isfinite(x).all()):
        count = int((~torch.isfinite(x)).sum())
        raise NumericError(f"{count} of {x.numel()} values are NaN or infinite and cannot be quantized.")
    limit = torch.as_tensor(alpha, dtype=torch.float32, device=x.device)
    if not bool((torch.isfinite(limit) & (limit >= 0)).all()):
        raise NumericError("A clipping threshold is NaN, infinite or negative. It must be a number >= 0.")
    target = _FP8_TYPES[dtype]
    largest = torch.finfo(target).max
    scale = (limit / largest).clamp(min=torch.finfo(torch.float32).tiny)
    clipped = torch.minimum(torch.maximum(x.to(torch.float32), -limit), limit)
    # A quotient that rounded to just above the largest number is cast to it, by far the nearest.
    return (clipped / scale).to(target).to(torch.float32) * scale

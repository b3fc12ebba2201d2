"""The integer grids that weights and activations are rounded to, 2 to 8 bits.

Everything that is quantized to integers in this package goes through this file, so that the solver, the backends and
the tests cannot disagree on what a code means: ``x ~ scale * (code - zero_point)``, rounding half to even, saturating
at both ends.  Nothing here works in place.

Scales broadcast: a scale of `w` with shape ``[..., g]`` has shape ``[..., 1]``.  A symmetric grid has no zero point:
``None`` here.  A scale may be negative; a symmetric grid then has its extra level on the positive side.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from inc_laaciq.errors import NumericError, SpecError

Scheme = Literal["sym", "asym"]

MIN_BITS = 2
MAX_BITS = 8

SMALLEST_SCALE = 2.0**-24
"""Smallest positive fp16 number, the floor of a stored scale.

The smallest *normal* one, 6.1e-5, would be too coarse: an 8-bit group whose largest weight is below 0.0077 has a
smaller scale, and large models are full of such groups.  Weights under half this floor become exact zeros.
"""

LARGEST_SCALE = 65504.0
"""Largest finite fp16 number."""


def check_bits(bits: int) -> None:
    """Raise SpecError unless `bits` is a whole number from 2 to 8."""
    if isinstance(bits, bool) or not isinstance(bits, int) or not MIN_BITS <= bits <= MAX_BITS:
        raise SpecError(f"bits={bits!r} is not supported. Use a whole number from {MIN_BITS} to {MAX_BITS}.")


@dataclass(frozen=True, kw_only=True)
class Grid:
    """An integer grid, ``x ~ scale * (code - zero_point)``.

    Parameters
    ----------
    bits : int
        2 to 8.
    scheme : {"sym", "asym"}
        "sym": codes from -2**(bits-1) to 2**(bits-1) - 1 (int8), no zero point.
        "asym": codes from 0 to 2**bits - 1 (uint8), with a zero point.
    narrow_range : bool
        "sym" only: leave out the lowest code, so that qmin = -qmax.

    Raises
    ------
    SpecError
        If a value is outside these.

    Examples
    --------
    >>> grid = Grid(bits=4, scheme="sym")
    >>> grid.qmin, grid.qmax, grid.n_levels
    (-8, 7, 16)
    """

    bits: int
    scheme: Scheme
    narrow_range: bool = False

    def __post_init__(self) -> None:
        check_bits(self.bits)
        if self.scheme not in get_args(Scheme):
            raise SpecError(f"scheme={self.scheme!r} is not known. Use one of {', '.join(get_args(Scheme))}.")
        if self.narrow_range and self.scheme == "asym":
            raise SpecError(
                "narrow_range=True has no meaning for scheme='asym'. Use scheme='sym', or leave narrow_range out."
            )

    @property
    def qmin(self) -> int:
        """Lowest code."""
        if self.scheme == "asym":
            return 0
        return -self.qmax if self.narrow_range else -self.qmax - 1

    @property
    def qmax(self) -> int:
        """Highest code."""
        return (1 << self.bits) - 1 if self.scheme == "asym" else (1 << (self.bits - 1)) - 1

    @property
    def n_levels(self) -> int:
        """Number of codes."""
        return self.qmax - self.qmin + 1

    @property
    def code_dtype(self) -> torch.dtype:
        """Integer type of the codes."""
        return torch.uint8 if self.scheme == "asym" else torch.int8


def scale_from_alpha(alpha: Tensor, grid: Grid) -> Tensor:
    """Scale of a grid that reaches `alpha` on either side of zero.

    Parameters
    ----------
    alpha : Tensor, any shape
        Clipping threshold, in the unit of the values; >= 0.
    grid : Grid
        A "sym" grid ends at ``qmax * scale = alpha``; an "asym" one spreads its levels over ``[-alpha, alpha]``.

    Returns
    -------
    Tensor, float32 or wider, same shape: 1.0 where `alpha` is zero.

    Raises
    ------
    NumericError
        If an `alpha` is NaN, infinite or negative.
    """
    alpha = _wide(alpha)
    if not bool((torch.isfinite(alpha) & (alpha >= 0)).all()):
        raise NumericError("A clipping threshold is NaN, infinite or negative. It must be a number >= 0.")
    return _usable(alpha / (grid.qmax if grid.scheme == "sym" else grid.qmax / 2), alpha == 0)


def minmax_parameters(
    minimum: Tensor, maximum: Tensor, grid: Grid, *, rounded: bool = True
) -> tuple[Tensor, Tensor | None]:
    """Scale and zero point of a grid that covers ``[minimum, maximum]`` and zero.

    Parameters
    ----------
    minimum, maximum : Tensor, one shape
        Ends of the range.  It is widened to include zero, which every grid represents exactly.
    grid : Grid
        "sym": the larger of the two magnitudes sits on `qmax`.
    rounded : bool
        Round the scale to what files store (`round_scale`) before the zero point is chosen.

    Returns
    -------
    scale : Tensor, float32 or wider, the shape of `minimum`; 1.0 for an empty range.
    zero_point : Tensor, int32, the same shape, or None for "sym".

    Raises
    ------
    NumericError
        If an end is NaN or infinite, or the range is too wide for the number type.
    """
    low = _wide(minimum).clamp(max=0.0)
    high = _wide(maximum).clamp(min=0.0)
    is_empty = (low == 0) & (high == 0)
    scale = torch.maximum(-low, high) / grid.qmax if grid.scheme == "sym" else (high - low) / grid.qmax
    if not bool(torch.isfinite(scale).all()):
        count = int((~torch.isfinite(scale)).sum())
        raise NumericError(
            f"{count} of {scale.numel()} ranges hold NaN, infinity, or values too far apart to subtract."
        )
    scale = _usable(scale, is_empty)
    if rounded:
        scale = round_scale(scale)
    if grid.scheme == "sym":
        return scale, None
    return scale, torch.round(-low / scale).clamp(grid.qmin, grid.qmax).to(torch.int32)


def absmax_parameters(w: Tensor, grid: Grid, *, rounded: bool = True) -> tuple[Tensor, Tensor | None]:
    """Scale and zero point without clipping: the grid covers every value of the group.

    Parameters
    ----------
    w : Tensor, shape [..., g]
        One group on the last axis.
    grid : Grid
        "sym": largest magnitude / qmax.  "asym": from minimum to maximum, zero included.
    rounded : bool
        Round the scale to what files store (`round_scale`) before the zero point is chosen.

    Returns
    -------
    scale : Tensor, float32 or wider, shape [..., 1]; 1.0 for a group of zeros, so that zeros come out exactly.
    zero_point : Tensor, int32, shape [..., 1], or None for "sym".

    Raises
    ------
    NumericError
        If `w` holds NaN or infinity.

    Examples
    --------
    >>> scale, zero_point = absmax_parameters(torch.tensor([[-7.0, 3.5], [0.0, 0.0]]), Grid(bits=4, scheme="sym"))
    >>> scale.flatten().tolist(), zero_point
    ([1.0, 1.0], None)
    """
    return minmax_parameters(w.amin(dim=-1, keepdim=True), w.amax(dim=-1, keepdim=True), grid, rounded=rounded)


def round_scale(scale: Tensor) -> Tensor:
    """Scale as a file stores it: the nearest fp16 number, given back as float32.

    Parameters
    ----------
    scale : Tensor, any shape
        May be negative; the sign is kept.  Magnitudes under `SMALLEST_SCALE`, zero included, become `SMALLEST_SCALE`.

    Returns
    -------
    Tensor, float32, same shape; never zero, never infinite.

    Raises
    ------
    NumericError
        If a scale is NaN, or its magnitude is above 65504, the largest fp16 number.
    """
    magnitude = scale.detach().abs()
    fits = magnitude <= LARGEST_SCALE  # false for NaN too
    if not bool(fits.all()):
        count = int((~fits).sum())
        raise NumericError(
            f"{count} of {scale.numel()} scales are NaN or above {LARGEST_SCALE:g}, the largest fp16 number. "
            f"The values that they stand for are not those of a usable model; check them, or leave the layer in float."
        )
    stored = magnitude.clamp(min=SMALLEST_SCALE).to(torch.float16).to(torch.float32)
    return torch.where(scale < 0, -stored, stored)


def quantize(x: Tensor, scale: Tensor, zero_point: Tensor | None, grid: Grid) -> Tensor:
    """Codes of `x`: the nearest level, half to even, saturating at `qmin` and `qmax`.

    Parameters
    ----------
    x : Tensor, any shape
        Values; not modified.
    scale : Tensor, broadcastable to `x`
        Positive or negative, never zero.
    zero_point : Tensor or None
        Whole numbers, broadcastable to `x`; None for "sym".
    grid : Grid
        The grid.

    Returns
    -------
    Tensor, int8 ("sym") or uint8 ("asym"), the shape of `x`.

    Raises
    ------
    NumericError
        If `x` holds NaN or infinity.
    """
    if not bool(torch.isfinite(x).all()):
        count = int((~torch.isfinite(x)).sum())
        raise NumericError(f"{count} of {x.numel()} values are NaN or infinite and cannot be quantized.")
    return _levels(x, scale, zero_point, grid).to(grid.code_dtype)


def dequantize(codes: Tensor, scale: Tensor, zero_point: Tensor | None) -> Tensor:
    """Values of `codes`: ``scale * (codes - zero_point)`` in float32.

    Parameters
    ----------
    codes : Tensor, integers, any shape
        Not modified.
    scale, zero_point : Tensor, broadcastable to `codes`
        As for `quantize`.

    Returns
    -------
    Tensor, float32, the shape of `codes`.
    """
    steps = codes.to(torch.float32)
    if zero_point is not None:
        steps = steps - zero_point.to(torch.float32)
    return steps * scale.to(torch.float32)


def round_to_grid(x: Tensor, scale: Tensor, zero_point: Tensor | None, grid: Grid) -> Tensor:
    """``dequantize(quantize(x))`` without the codes and without the check for NaN: for inner loops.

    Returns
    -------
    Tensor, float32 or wider, the shape of `x` broadcast with `scale`.  NaN stays NaN.
    """
    levels = _levels(x, scale, zero_point, grid)
    if zero_point is not None:
        levels = levels - zero_point
    return levels * scale


def to_groups(w: Tensor, group_size: int) -> Tensor:
    """View of a weight matrix by groups of consecutive input features.

    Parameters
    ----------
    w : Tensor, shape [out_features, in_features]
        Weights.
    group_size : int
        A divisor of in_features, or -1 for one group per output channel.

    Returns
    -------
    Tensor, shape [out_features, n_groups, group_size], sharing memory with `w` where torch can.

    Raises
    ------
    SpecError
        If `group_size` does not divide in_features, or `w` is not a matrix.

    Examples
    --------
    >>> to_groups(torch.zeros(3, 64), 32).shape, to_groups(torch.zeros(3, 64), -1).shape
    (torch.Size([3, 2, 32]), torch.Size([3, 1, 64]))
    """
    if w.dim() != 2:
        raise SpecError(
            f"A weight of shape {tuple(w.shape)} cannot be grouped. Give a matrix [out_features, in_features]."
        )
    in_features = w.shape[1]
    if group_size == -1:
        group_size = in_features
    if group_size < 1 or in_features % group_size:
        divisor = next((size for size in (128, 64, 32, 16, 8) if in_features % size == 0), in_features)
        raise SpecError(
            f"group_size={group_size} does not divide in_features={in_features}. "
            f"Use a divisor such as {divisor}, or -1 for one scale per channel."
        )
    return w.reshape(w.shape[0], in_features // group_size, group_size)


def from_groups(groups: Tensor) -> Tensor:
    """Inverse of `to_groups`: [out_features, n_groups, group_size] to [out_features, in_features]."""
    return groups.reshape(groups.shape[0], -1)


def _wide(x: Tensor) -> Tensor:
    """`x` in float32, or float64 where it was that: half precision would overflow and round."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _usable(scale: Tensor, is_empty: Tensor) -> Tensor:
    """Scale that can be divided by: 1 for a group of zeros, elsewhere at least the type's smallest normal number."""
    return torch.where(is_empty, torch.ones_like(scale), scale.clamp(min=torch.finfo(scale.dtype).tiny))


def _levels(x: Tensor, scale: Tensor, zero_point: Tensor | None, grid: Grid) -> Tensor:
    """Codes as floating numbers."""
    levels = torch.round(_wide(x) / scale)
    if zero_point is not None:
        levels = levels + zero_point
    return levels.clamp(grid.qmin, grid.qmax)

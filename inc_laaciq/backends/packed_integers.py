"""Codes as unsigned integers, and packed into 32-bit words: what the GPTQ and compressed-tensors layouts share.

Nothing is rounded here: whatever form a weight takes, `scale * (code - zero_point)` stays the same number, bit by bit.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch

from inc_laaciq.errors import ModelError
from inc_laaciq.quant.solver import QuantizedWeight

WIDTHS = (2, 4, 8)
"""Bits of a stored code.  Readers disagree on how 3, 5, 6 and 7 bits lie in words, so those take the next width."""


@dataclass(frozen=True, kw_only=True)
class PackedForm:
    """How the codes of layers are stored.

    Parameters
    ----------
    bits : int
        2, 4 or 8.
    group_size : int
        Columns that share a scale; -1 = all columns of a layer.
    sym : bool
        Every zero point is in the middle of the codes, 2**(bits-1).
    """

    bits: int
    group_size: int
    sym: bool


@dataclass(frozen=True, kw_only=True)
class UnsignedCodes:
    """A weight `scale * (codes - zero_point)`.

    Parameters
    ----------
    codes : tensor, shape (out_features, in_features), int32
        0 to 2**bits - 1.
    zero_point : tensor, shape (out_features, n_groups), int32
        In the same range.
    scale : tensor, shape (out_features, n_groups), float16
        May be negative.
    """

    codes: torch.Tensor
    zero_point: torch.Tensor
    scale: torch.Tensor

    def dequantize(self) -> torch.Tensor:
        """The weight, shape (out_features, in_features), float32; every product is exact there."""
        shifted = self.codes.reshape(*self.scale.shape, -1) - self.zero_point[..., None]
        return (shifted.float() * self.scale.float()[..., None]).reshape(self.codes.shape)


def width_of(bits: int) -> int:
    """The smallest width of a stored code that holds so many bits."""
    return next(width for width in WIDTHS if width >= bits)


def common_form(weights: Iterable[QuantizedWeight]) -> PackedForm:
    """The one form that carries all weights: the widest codes and the finest groups of them, which loses nothing.

    A group of 128 becomes two groups of 64 with the same scale, and 3-bit codes become 4-bit ones.
    """
    weights = tuple(weights)
    sizes = {weight.group_size for weight in weights}
    if len(sizes) > 1:
        # gcd, because groups of 48 and of 64 only share boundaries every 16 columns.
        sizes = {math.gcd(*(_columns_per_scale(weight) for weight in weights))}
    return PackedForm(
        bits=max(width_of(weight.grid.bits) for weight in weights),
        group_size=sizes.pop(),
        sym=all(weight.zero_point is None for weight in weights),
    )


def unsigned_codes(weight: QuantizedWeight, form: PackedForm) -> UnsignedCodes:
    """A solved weight in a form that carries it."""
    middle = 1 << (form.bits - 1)
    if weight.zero_point is None:
        codes = weight.codes.to(torch.int32) + middle
        zero_point = torch.full(weight.scale.shape, middle, dtype=torch.int32)
    else:
        codes, zero_point = weight.codes.to(torch.int32), weight.zero_point.to(torch.int32)
    size = weight.codes.shape[1] if form.group_size == -1 else form.group_size
    repeats = _columns_per_scale(weight) // size
    return UnsignedCodes(
        codes=codes,
        zero_point=zero_point.repeat_interleave(repeats, dim=1),
        scale=weight.scale.half().repeat_interleave(repeats, dim=1),
    )


def mirrored(weight: UnsignedCodes, groups: torch.Tensor, bits: int) -> UnsignedCodes:
    """The same weight, some of its groups with the sign of the scale turned, and codes and zero points with it.

    s (q - z) = -s ((m - q) - (m - z)), with m the largest code, so no group is without a mirror image.

    Parameters
    ----------
    weight : UnsignedCodes
    groups : bool tensor, shape (out_features, n_groups)
        Which to mirror.
    bits : int
    """
    largest = (1 << bits) - 1
    codes = weight.codes.reshape(*groups.shape, -1)
    return UnsignedCodes(
        codes=torch.where(groups[..., None], largest - codes, codes).reshape(weight.codes.shape),
        zero_point=torch.where(groups, largest - weight.zero_point, weight.zero_point),
        scale=torch.where(groups, -weight.scale, weight.scale),
    )


def _columns_per_scale(weight: QuantizedWeight) -> int:
    return weight.codes.shape[1] // weight.scale.shape[1]


def pack_words(values: torch.Tensor, bits: int) -> torch.Tensor:
    """Pack along the last axis, the first value in the lowest bits; the last word is filled up with zeros.

    Parameters
    ----------
    values : integer tensor, shape (..., n), 0 to 2**bits - 1
    bits : int
        2, 4 or 8.

    Returns
    -------
    tensor, shape (..., ceil(n * bits / 32)), int32
    """
    per_word = 32 // bits
    padded = torch.nn.functional.pad(values.to(torch.int32), (0, -values.shape[-1] % per_word))
    words = padded.reshape(*padded.shape[:-1], -1, per_word)
    packed = torch.zeros(words.shape[:-1], dtype=torch.int32)
    for place in range(per_word):
        packed |= words[..., place] << (bits * place)
    return packed


def unpack_words(words: torch.Tensor, bits: int, n: int) -> torch.Tensor:
    """The first `n` values of `pack_words`, int32."""
    shifts = torch.arange(0, 32, bits, dtype=torch.int32, device=words.device)
    values = (words[..., None] >> shifts) & ((1 << bits) - 1)
    return values.flatten(-2)[..., :n]


def check_whole_words(name: str, shape: tuple[int, int], bits: int) -> None:
    """Refuse a layer whose rows or columns do not fill 32-bit words: readers disagree on where the rest goes.

    Raises
    ------
    ModelError
        With the layer and what to do.
    """
    per_word = 32 // bits
    for size, what in zip(shape, ("out_features", "in_features"), strict=True):
        if size % per_word:
            raise ModelError(
                f"layer {name!r} has {what}={size}, which is no multiple of {per_word}, the codes of {bits} bits in a "
                "word. Keep the layer in float with quantization.op_wise and quantize again"
            )

"""The GPTQ layout of one layer: qweight, qzeros, scales and g_idx.

    qweight  (in_features * bits / 32, out_features)   int32    codes, packed along the inputs
    qzeros   (n_groups, out_features * bits / 32)      int32    zero points, packed along the outputs
    scales   (n_groups, out_features)                  float16
    g_idx    (in_features,)                            int32    group of each column, in their order

"gptq" stores zero points less one, and a zero point of 0 would become -1: readers that add one to whole words carry it
into the neighbour. Such groups are stored mirrored, with the zero point at the other end. "gptq_v2" stores them as
they are.  A negative scale stays in `scales`, because readers multiply by it; `positive_scales` mirrors instead,
which takes zero points that are not in the middle.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch

from inc_laaciq.backends.packed_integers import (
    PackedForm,
    UnsignedCodes,
    check_whole_words,
    mirrored,
    pack_words,
    unpack_words,
    unsigned_codes,
)
from inc_laaciq.quant.solver import QuantizedWeight

Variant = Literal["gptq", "gptq_v2"]

_STORED_LESS: Mapping[Variant, int] = {"gptq": 1, "gptq_v2": 0}


def gptq_codes(
    weight: QuantizedWeight, form: PackedForm, variant: Variant, *, positive_scales: bool = False
) -> UnsignedCodes:
    """Codes as they are stored.  With positive scales, a zero point of 0 wraps round in "gptq"."""
    found = unsigned_codes(weight, form)
    if positive_scales:
        return mirrored(found, found.scale < 0, form.bits)
    return mirrored(found, found.zero_point < _STORED_LESS[variant], form.bits)


def gptq_tensors(name: str, codes: UnsignedCodes, form: PackedForm, variant: Variant) -> dict[str, torch.Tensor]:
    """Tensors of a layer by the last part of their names.

    Raises
    ------
    ModelError
        If rows or columns do not fill words.
    """
    rows, columns = codes.codes.shape
    check_whole_words(name, (rows, columns), form.bits)
    stored = (codes.zero_point - _STORED_LESS[variant]) & ((1 << form.bits) - 1)
    size = columns // codes.scale.shape[1]
    return {
        "qweight": pack_words(codes.codes, form.bits).T.contiguous(),
        "qzeros": pack_words(stored.T, form.bits).contiguous(),
        "scales": codes.scale.T.contiguous(),
        "g_idx": torch.arange(columns, dtype=torch.int32) // size,
    }


def read_gptq_tensors(
    qweight: torch.Tensor, qzeros: torch.Tensor, scales: torch.Tensor, *, bits: int, variant: Variant
) -> UnsignedCodes:
    """The codes of a layer, from its tensors."""
    words, rows = qweight.shape
    stored = unpack_words(qzeros, bits, rows).T
    return UnsignedCodes(
        codes=unpack_words(qweight.T, bits, words * 32 // bits),
        zero_point=(stored + _STORED_LESS[variant]) & ((1 << bits) - 1),
        scale=scales.T,
    )

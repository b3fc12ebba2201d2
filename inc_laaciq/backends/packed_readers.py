"""What each reader of a GPTQ-layout checkpoint cannot do with it.

Found by running neural-compressor 3.10 on a CPU and gptqmodel 7.7 (its torch kernel, through transformers and by
itself).  Of the loader for Gaudi the code was read and its packing run on a CPU, never the card.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from inc_laaciq.backends.gptq_layout import Variant
from inc_laaciq.backends.packed_integers import PackedForm, UnsignedCodes

NEURAL_COMPRESSOR, GAUDI, GPTQMODEL = "neural-compressor", "neural-compressor on Gaudi", "gptqmodel"

_GPTQMODEL_GROUPS = (-1, 16, 32, 64, 128, 256, 512, 1024)
_GAUDI_OUTPUTS = 32


@dataclass(kw_only=True)
class GptqFacts:
    """What was seen of the layers while they were packed.

    Parameters
    ----------
    form : PackedForm
    variant : "gptq" or "gptq_v2"
    overflowing : list of str
        Layers with a difference of code and zero point outside int8.
    uneven : list of str
        Layers whose out_features is no multiple of 32.
    n_scales, n_rounded : int
        Scales, and those that bfloat16 does not hold exactly.
    largest_rounding : float
        Of a scale in bfloat16, relative.
    has_biases : bool
    middle_only : bool
        Every zero point is in the middle of the codes, which is what the format calls symmetric.
    """

    form: PackedForm
    variant: Variant
    overflowing: list[str] = field(default_factory=list)
    uneven: list[str] = field(default_factory=list)
    n_scales: int = 0
    n_rounded: int = 0
    largest_rounding: float = 0.0
    has_biases: bool = False
    middle_only: bool = True

    def add(self, name: str, codes: UnsignedCodes, *, bias: bool) -> None:
        """Note one layer."""
        shifted = codes.codes.reshape(*codes.scale.shape, -1) - codes.zero_point[..., None]
        if int(shifted.min()) < -128 or int(shifted.max()) > 127:
            self.overflowing.append(name)
        if len(codes.codes) % _GAUDI_OUTPUTS:
            self.uneven.append(name)
        scale = codes.scale.float()
        error = (scale.bfloat16().float() - scale).abs()
        self.n_scales += scale.numel()
        self.n_rounded += int((error > 0).sum())
        self.largest_rounding = max(self.largest_rounding, float((error / scale.abs()).nan_to_num().max()))
        self.has_biases |= bias
        self.middle_only &= bool((codes.zero_point == 1 << (self.form.bits - 1)).all())


def problems(
    facts: GptqFacts, quantized: Sequence[str], kept: Sequence[str], *, head: str | None
) -> dict[str, list[str]]:
    """Why a reader would fail or go wrong; an empty list where nothing is known to stand in the way.

    Parameters
    ----------
    facts : GptqFacts
    quantized, kept : sequence of str
        Linear layers that are packed and those in float.
    head : str or None
        Name of the output projection.
    """
    form = facts.form
    found: dict[str, list[str]] = {NEURAL_COMPRESSOR: [], GAUDI: [], GPTQMODEL: []}
    if facts.variant == "gptq_v2":
        found[NEURAL_COMPRESSOR].append("it takes zero points of gptq_v2 for those of gptq, which are one less")
    if facts.overflowing:
        found[NEURAL_COMPRESSOR].append(
            f"it takes codes less zero points for int8, which does not hold those of {_some(facts.overflowing)}"
        )
    found[GAUDI] += found[NEURAL_COMPRESSOR]
    if form.bits != 4:
        found[GAUDI].append(f"it takes 4-bit codes, and these have {form.bits}")
    if facts.uneven:
        found[GAUDI].append(f"it takes multiples of 32 outputs; other layers are {_some(facts.uneven)}")
    if form.group_size not in _GPTQMODEL_GROUPS:
        found[GPTQMODEL].append(f"it knows no groups of {form.group_size}")
    if not facts.middle_only and facts.variant == "gptq":
        found[GPTQMODEL].append(
            "its own loader takes zero points outside the middle only in gptq_v2; through transformers it takes both"
        )
    if head in quantized:
        found[GPTQMODEL].append("through transformers the output projection stays unread; its own loader takes it")
    if _modules_in_block(quantized, kept) is None:
        found[GPTQMODEL].append(
            "through transformers the same layers must be in float in every block; its own loader takes others"
        )
    return found


def _modules_in_block(quantized: Sequence[str], kept: Sequence[str]) -> list[str] | None:
    """Names within a block of what is packed; None if one is packed in some blocks and not in others."""
    inside = list(dict.fromkeys(found for name in quantized if (found := _within_block(name))))
    floats = {found for name in kept if (found := _within_block(name))}
    return None if floats.intersection(inside) else inside


def modules_in_block(quantized: Sequence[str], kept: Sequence[str]) -> list[str] | None:
    """What transformers calls `modules_in_block_to_quantize`; None where all layers of the blocks are packed."""
    inside = _modules_in_block(quantized, kept)
    return inside if inside and any(_within_block(name) for name in kept) else None


def _within_block(name: str) -> str:
    return re.split(r"\.\d+\.", name, maxsplit=1)[1] if re.search(r"\.\d+\.", name) else ""


def _some(names: Sequence[str], most: int = 3) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")

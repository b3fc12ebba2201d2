"""Solved codes and scales in the packed linear layer of Neural Compressor's torch API."""

from __future__ import annotations

from typing import Any

import torch
from neural_compressor.torch.algorithms.weight_only.modules import INCWeightOnlyLinear
from torch import nn

from inc_laaciq.errors import BackendError
from inc_laaciq.quant.solver import QuantizedWeight

# Of layers that Gaudi runs in FP8; neural-compressor registers it in every layer, and no other one reads it.
_UNUSED = "scale_bf16_to_fp8"


def packed_layer(linear: nn.Linear, weight: QuantizedWeight) -> nn.Module:
    """The layer in the form that Neural Compressor saves and loads: GPTQ's layout.

    It holds exactly the codes and scales.  What it computes with is rounded twice more, by Neural Compressor: each
    product of code and scale, and the bias, to float16.

    Parameters
    ----------
    linear : nn.Linear
        Its sizes, device and bias count.
    weight : QuantizedWeight

    Raises
    ------
    BackendError
        If the bias has no float16 value, or if Neural Compressor gives back other codes or scales than it was given.
    """
    bias = _bias(linear)
    if bias is not None and not bool(torch.isfinite(bias.half()).all()):
        raise BackendError(
            "Neural Compressor stores biases of packed layers in float16, and the largest one here is "
            f"{float(bias.abs().max()):g}. Leave the layer in float"
        )
    packed: Any = INCWeightOnlyLinear(
        linear.in_features,
        linear.out_features,
        dtype="int",
        bits=weight.grid.bits,
        group_size=weight.group_size,
        zp=True,
        bias=bias is not None,
        use_optimum_format=True,
        device=linear.weight.device.type,
    )
    # New tensors, because `pack` adds to the codes of a symmetric grid and takes 1 from zero points in place.
    zero_point = None if weight.zero_point is None else weight.zero_point.clone()
    packed.pack(weight.codes.to(torch.int32, copy=True), weight.scale.clone(), zero_point, bias)
    if bias is None:
        packed.bias = None
    _check(packed, weight)
    layer: nn.Module = packed
    return layer


def _check(packed: nn.Module, weight: QuantizedWeight) -> None:
    """Raise BackendError unless the layer gives back what went into it."""
    codes, scale, zero_point = solved_in(packed)
    middle = 0 if weight.zero_point is not None else 2 ** (weight.grid.bits - 1)
    expected = torch.full_like(scale, middle) if weight.zero_point is None else weight.zero_point.float().to(scale)
    same = (
        torch.equal(codes, weight.codes.int().to(codes) + middle)
        and torch.equal(scale, weight.scale.to(scale))
        and torch.equal(zero_point.to(scale), expected)
    )
    if not same:
        raise BackendError(
            f"Neural Compressor's packed layer does not give back the {weight.grid.bits}-bit {weight.grid.scheme} "
            "codes and scales that were packed into it"
        )


def solved_in(packed: nn.Module) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """What a packed layer holds.

    Returns
    -------
    codes : tensor, shape (out_features, in_features), int32
        From 0 on.
    scale : tensor, shape (out_features, n_groups), float32
    zero_point : tensor, shape (out_features, n_groups), int32
    """
    held = packed.unpack()  # type: ignore[operator]
    return held["int_weight"].int(), held["scales"].float(), held["zp"].int()


def exact_layer(
    in_features: int, out_features: int, *, bits: int, group_size: int, is_asym: bool, has_bias: bool
) -> nn.Module:
    """An empty packed layer in Neural Compressor's other form, which computes in float32 what was solved.

    Its tensors have the same names, shapes and contents as those of the packed layer of the adaptor API.
    """
    layer: nn.Module = INCWeightOnlyLinear(
        in_features,
        out_features,
        dtype="int",
        bits=bits,
        group_size=group_size,
        zp=is_asym,
        bias=has_bias,
        scale_dtype=torch.float32,
        use_optimum_format=False,
    )
    if (unused := getattr(layer, _UNUSED, None)) is not None:
        del layer._buffers[_UNUSED]
        layer.register_buffer(_UNUSED, unused, persistent=False)
    return layer


def exactly_packed(linear: nn.Linear, weight: QuantizedWeight) -> nn.Module:
    """`exact_layer`, filled."""
    layer = exact_layer(
        linear.in_features,
        linear.out_features,
        bits=weight.grid.bits,
        group_size=weight.group_size,
        is_asym=weight.zero_point is not None,
        has_bias=linear.bias is not None,
    )
    zero_point = None if weight.zero_point is None else weight.zero_point.to(torch.int32)
    layer.pack(weight.codes.to(torch.int32, copy=True), weight.scale.clone(), zero_point, _bias(linear))  # type: ignore[operator]
    return layer


def _bias(linear: nn.Linear) -> torch.Tensor | None:
    bias: torch.Tensor | None = linear.bias  # which torch declares to be there always
    return None if bias is None else bias.detach()

"""What Neural Compressor's configuration of single operators says about the layers of a model."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from inc_laaciq.backends.inc_limits import check_carried
from inc_laaciq.backends.inc_static import plain_name
from inc_laaciq.calibration.layers import Layer
from inc_laaciq.config import OpRule, WeightSpec
from inc_laaciq.errors import BackendError, SpecError

STATIC_WEIGHT = WeightSpec(bits=8, group_size=-1, scheme="sym")
"""The grid of weights in static INT8, whatever the configuration says: torch's kernels take no other."""


def rules_of(ops: Mapping[Any, Any], model: torch.nn.Module) -> list[OpRule]:
    """What Neural Compressor's configuration says of every single linear layer, subclasses of `Linear` included.

    Parameters
    ----------
    ops : mapping of key -> Neural Compressor's configuration of one operator
    model : nn.Module

    Raises
    ------
    SpecError
        If a layer is asked for on a grid that is not of integers, or that Neural Compressor does not carry.
    """
    linear = {name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)}
    return [
        OpRule(pattern=re.escape(plain_name(op.op_name)), weight=_weight_spec(op))
        for op in ops.values()
        if plain_name(op.op_name) in linear
    ]


def check_agreement(layers: Sequence[Layer], ops: Mapping[Any, Any], rules: Sequence[OpRule]) -> None:
    """Refuse what would be lost silently.

    Raises
    ------
    BackendError
        If a layer is to be quantized that Neural Compressor does not know.
    SpecError
        If a rule matches no layer.
    """
    known = {plain_name(op.op_name) for op in ops.values()}
    if unknown := [layer.name for layer in layers if layer.weight is not None and layer.name not in known]:
        raise BackendError(
            f"Neural Compressor does not list {', '.join(unknown[:5])} as quantizable; leave such layers in float "
            "with quantization.op_wise"
        )
    for rule in rules:
        if not any(re.fullmatch(rule.pattern, layer.name) for layer in layers):
            raise SpecError(f"op_wise names no linear layer: {rule.pattern}. Layers are called {layers[0].name}, ...")


def _weight_spec(op: Any) -> WeightSpec | None:
    weight = op.get_state()["weight"]
    dtype = weight["dtype"]
    if dtype == "fp32":
        return None
    if op.op_quant_mode == "static":
        return STATIC_WEIGHT
    if dtype not in ("int", "int4", "int8"):
        raise SpecError(f"weight dtype {dtype!r} of layer {op.op_name!r}: la_aciq solves integer grids; use 'int'")
    bits = {"int4": 4, "int8": 8}.get(dtype, weight["bits"])
    spec = WeightSpec(bits=bits, group_size=weight["group_size"], scheme=weight["scheme"])
    check_carried(op.op_name, spec)
    return spec

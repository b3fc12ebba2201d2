"""Which layers of a model are quantized, how, and why the others stay in float."""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from inc_laaciq.config import OpRule, WeightSpec
from inc_laaciq.errors import ModelError, SpecError


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One linear layer of a model.

    Parameters
    ----------
    name : str
        As in `named_modules`.
    in_features, out_features : int
    weight : WeightSpec or None
        None = stays in float.
    reason : str
        Why it stays in float; empty otherwise.
    """

    name: str
    in_features: int
    out_features: int
    weight: WeightSpec | None
    reason: str = ""

    @property
    def n_weights(self) -> int:
        """Weights of the layer, its bias not counted."""
        return self.in_features * self.out_features


def find_layers(
    model: nn.Module, weight: WeightSpec, rules: Sequence[OpRule] = (), *, lm_head: bool = False
) -> list[Layer]:
    """Every weight matrix of a model outside the embeddings, with what is to be done to it.

    Parameters
    ----------
    model : nn.Module
        Its `Conv1D` layers must have been turned into linear ones (`linearize`).
    weight : WeightSpec
        For layers that no rule names.
    rules : sequence of OpRule
        Patterns (regular expressions, `re.fullmatch` on the module name); the last match wins.
    lm_head : bool
        Also quantize the output projection; refused where it is tied to the embeddings.

    Raises
    ------
    ModelError
        If the model has no linear layer to quantize.
    SpecError
        If a group size does not divide the layer's in_features, or a rule names no layer.
    """
    output = _output_projection(model)
    layers, unused = [], {rule.pattern for rule in rules}
    owners: dict[int, str] = {}
    for name, module in model.named_modules():
        if not isinstance(module, nn.Linear):
            layers += _other_matrices(name, module)
            continue
        spec: WeightSpec | None = weight
        reason = ""
        for rule in rules:
            if re.fullmatch(rule.pattern, name):
                unused.discard(rule.pattern)
                spec = rule.weight
                reason = "" if rule.weight is not None else f"op_wise rule {rule.pattern!r}"
        if module is output and not lm_head:
            spec, reason = None, "output projection; set la_aciq.lm_head to quantize it"
        elif module is output and _is_tied(model, module):
            spec, reason = None, "output projection tied to the embeddings"
        if spec is not None and (owner := owners.setdefault(id(module.weight), name)) != name:
            spec, reason = None, f"shares its weight with {owner}"
        if spec is not None and spec.group_size != -1 and module.in_features % spec.group_size:
            raise SpecError(
                f"group_size={spec.group_size} does not divide in_features={module.in_features} of layer {name!r}. "
                "Use a divisor such as "
                f"{_divisor(module.in_features)}, or -1 for one scale per channel, or keep the layer in float "
                "with quantization.op_wise."
            )
        layers.append(
            Layer(
                name=name,
                in_features=module.in_features,
                out_features=module.out_features,
                weight=spec,
                reason=reason,
            )
        )
    if unused:
        known = ", ".join(layer.name for layer in layers[:5])
        raise SpecError(f"op_wise names no linear layer: {', '.join(sorted(unused))}. Layers are called {known}, ...")
    if not any(layer.weight for layer in layers):
        raise ModelError(
            f"no linear layer to quantize in {type(model).__name__}: it has {len(layers)} layers with weights, "
            "and all of them are kept in float"
        )
    return layers


def linear_layer(model: nn.Module, name: str) -> nn.Linear:
    """The linear layer of a name from `find_layers`.

    Raises
    ------
    ModelError
        If there is another kind of module.
    """
    module = model.get_submodule(name)
    if not isinstance(module, nn.Linear):
        raise ModelError(f"layer {name!r} is a {type(module).__name__}, not a linear layer")
    return module


def _other_matrices(name: str, module: nn.Module) -> list[Layer]:
    """Weight matrices outside linear layers and embeddings (fused experts, convolutions): listed, left in float."""
    if isinstance(module, nn.Embedding):
        return []
    return [
        Layer(
            name=f"{name}.{parameter}" if name else parameter,
            in_features=weight.numel() // weight.shape[0],
            out_features=weight.shape[0],
            weight=None,
            reason=f"a weight of {type(module).__name__}, which is no linear layer",
        )
        for parameter, weight in module.named_parameters(recurse=False)
        if weight.dim() >= 2
    ]


_GROUP_SIZES = (128, 64, 32, 16, 8)


def fitting_group_size(model: nn.Module) -> int:
    """128, or the largest smaller group that divides every layer that is quantized unless rules say else; else -1."""
    layers = find_layers(model, WeightSpec(bits=8, group_size=-1))
    widths = [layer.in_features for layer in layers if layer.weight is not None]
    return next((size for size in _GROUP_SIZES if not any(width % size for width in widths)), -1)


def _divisor(in_features: int) -> int:
    return next((size for size in _GROUP_SIZES if in_features % size == 0), in_features)


def _output_projection(model: nn.Module) -> nn.Module | None:
    """The layer that maps hidden states to the vocabulary, as transformers names it; None elsewhere."""
    getter = getattr(model, "get_output_embeddings", None)
    output = getter() if callable(getter) else None
    return output if isinstance(output, nn.Module) else None


def _is_tied(model: nn.Module, output: nn.Linear) -> bool:
    return any(
        parameter is output.weight
        for module in model.modules()
        if isinstance(module, nn.Embedding)
        for parameter in module.parameters()
    )


def linearize(model: nn.Module) -> nn.Module:
    """Copy of a model in which every transformers `Conv1D` (GPT-2) is the linear layer that it computes.

    Returns the model itself, uncopied, if it has none.
    """
    from transformers.pytorch_utils import Conv1D

    names = [name for name, module in model.named_modules() if isinstance(module, Conv1D)]
    if not names:
        return model
    model = copy.deepcopy(model)
    for name in names:
        conv: Any = model.get_submodule(name)
        linear = nn.Linear(conv.weight.shape[0], conv.weight.shape[1], bias=True, dtype=conv.weight.dtype)
        with torch.no_grad():
            linear.weight.copy_(conv.weight.T)
            linear.bias.copy_(conv.bias)
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, linear)
    return model.eval()

"""A static INT8 model as plain tensors, and back: integers, scales and ranges, read by any version of anything.

Neural Compressor's own file is a graph of torch.export, which is no form to take from a stranger: to read one, torch
unpickles sample inputs and evaluates expressions.  So what is evaluated is read from here, and computes the same,
bit by bit.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional

from inc_laaciq.backends.restoring import restore
from inc_laaciq.backends.static_export import layer_name
from inc_laaciq.calibration.layers import linear_layer, linearize
from inc_laaciq.errors import BackendError, IntegrityError

STATIC = "static.safetensors"
_TOP = 255


class StaticLinear(nn.Module):
    """A linear layer on integers: its input is rounded to 8 bits on a fixed range, its weight is stored in 8 bits.

    Parameters
    ----------
    in_features, out_features : int
    bias : bool

    Notes
    -----
    Buffers: `codes`, int8 (out_features, in_features); `scale`, float16 (out_features,); `input_scale`, float32, and
    `input_zero_point`, uint8, of one number each.
    """

    codes: torch.Tensor
    scale: torch.Tensor
    input_scale: torch.Tensor
    input_zero_point: torch.Tensor

    def __init__(self, in_features: int, out_features: int, *, bias: bool) -> None:
        super().__init__()
        self.register_buffer("codes", torch.zeros(out_features, in_features, dtype=torch.int8))
        self.register_buffer("scale", torch.ones(out_features, dtype=torch.float16))
        self.register_buffer("input_scale", torch.ones(1))
        self.register_buffer("input_zero_point", torch.zeros(1, dtype=torch.uint8))
        self.bias = nn.Parameter(torch.zeros(out_features)) if bias else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """What the integers stand for, in float: the same operations in the same order as in torch's graph."""
        scale, zero_point = float(self.input_scale), int(self.input_zero_point)
        x = (torch.clamp(torch.round(x * (1.0 / scale)) + zero_point, 0, _TOP) - zero_point) * scale
        return functional.linear(x, self.codes.float() * self.scale.float()[:, None], self.bias)


@dataclass(frozen=True, kw_only=True)
class QuantizedLayer:
    """What one linear layer of a quantized graph computes with.

    Parameters
    ----------
    codes : tensor, shape (out_features, in_features), int8
    scale : tensor, shape (out_features,), float32
    input_scale : float
    input_zero_point : int
        0 to 255.
    """

    codes: torch.Tensor
    scale: torch.Tensor
    input_scale: float
    input_zero_point: int


def quantized_layers(graph: Any) -> dict[str, QuantizedLayer]:
    """The linear layers of a graph that have integers on either side, by name.

    Parameters
    ----------
    graph : torch.fx.GraphModule
        From Neural Compressor's `convert` for PT2E, weights folded to integers.

    Raises
    ------
    BackendError
        If the calls of one layer are quantized in different ways.
    """
    found: dict[str, QuantizedLayer] = {}
    for node in graph.graph.nodes:
        name = layer_name(node)
        if name is None or "dequantize_per_channel" not in str(node.args[1].target):
            continue
        codes, scale, *_ = (attribute(graph, argument) for argument in node.args[1].args[:2])
        _, input_scale, zero_point, *_ = node.args[0].args
        layer = QuantizedLayer(
            codes=codes, scale=scale, input_scale=float(input_scale), input_zero_point=int(zero_point)
        )
        other = found.setdefault(name, layer)
        if (other.input_scale, other.input_zero_point) != (layer.input_scale, layer.input_zero_point):
            raise BackendError(
                f"layer {name!r} is called more than once, and its inputs have different ranges, which cannot be "
                "stored as one. Use activation algorithm la_aciq, or leave it in float with quantization.op_wise"
            )
    return found


def attribute(graph: Any, node: Any) -> torch.Tensor:
    """The tensor of the graph that a node stands for."""
    tensor: torch.Tensor = operator.attrgetter(node.target)(graph)
    return tensor


def save_static(model: nn.Module, graph: Any, file: Path) -> None:
    """Write a quantized model; tied weights once.

    Parameters
    ----------
    model : nn.Module
        The float model.
    graph : torch.fx.GraphModule
        See `quantized_layers`.
    file : Path
    """
    model = linearize(model)  # as the model is into which it is read: a `Conv1D` has its weight the other way round
    layers = quantized_layers(graph)
    tensors: dict[str, torch.Tensor] = {}
    seen: set[tuple[int, torch.Size]] = set()
    for name, tensor in model.state_dict().items():
        key = (tensor.data_ptr(), tensor.shape)
        if name.removesuffix(".weight") in layers or key in seen:
            continue
        seen.add(key)
        tensors[name] = tensor.contiguous()
    for name, layer in layers.items():
        tensors[f"{name}.codes"] = layer.codes.contiguous()
        tensors[f"{name}.scale"] = layer.scale.half().contiguous()
        tensors[f"{name}.input_scale"] = torch.tensor([layer.input_scale])
        tensors[f"{name}.input_zero_point"] = torch.tensor([layer.input_zero_point], dtype=torch.uint8)
    save_file(tensors, str(file))


def load_static(skeleton: nn.Module, layers: Sequence[Mapping[str, Any]], file: Path) -> nn.Module:
    """A quantized model from its file.

    Parameters
    ----------
    skeleton : nn.Module
        The architecture with any weights, its `Conv1D` layers linearized; changed and returned.
    layers : sequence of mapping
        `layers` of `laaciq.json`: those with `bits` are quantized.
    file : Path
        `static.safetensors`.

    Raises
    ------
    IntegrityError
        If the file does not hold exactly the weights that the layers need.
    """
    for layer in layers:
        if "bits" not in layer:
            continue
        linear = linear_layer(skeleton, layer["name"])
        parent, _, child = layer["name"].rpartition(".")
        static = StaticLinear(linear.in_features, linear.out_features, bias=linear.bias is not None)
        setattr(skeleton.get_submodule(parent), child, static)
    restored = restore(skeleton, file)
    for name, module in restored.named_modules():
        if isinstance(module, StaticLinear) and not 0 < float(module.input_scale) < math.inf:
            raise IntegrityError(
                f"{file}: layer {name!r} has the input scale {float(module.input_scale)}, which is no positive number. "
                "Write the output again with `inc-laaciq quantize`"
            )
    return restored

"""Puts codes, scales and zero points into an OpenVINO model, in the form that NNCF gives compressed weights.

    codes (i4, u4, i8 or u8) -> f16 [- zero point] * scale (f16) [-> two dimensions] -> f32

OpenVINO has kernels for this form.  Codes of 2 and 3 bits are stored in four, those of 5 to 7 in eight.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from inc_laaciq.backends.openvino_ir import as_array, embedding_nodes, float_weight, linear_nodes, source_constant
from inc_laaciq.errors import BackendError
from inc_laaciq.quant.solver import QuantizedWeight

_PORT = {"MatMul": 1, "Gather": 0}


def put_weights(model: Any, weights: Mapping[str, QuantizedWeight]) -> None:
    """Replace the weights of linear layers; other users of the same constant, such as tied embeddings, keep it.

    Parameters
    ----------
    model : openvino.Model
        Changed.
    weights : mapping of layer -> QuantizedWeight

    Raises
    ------
    BackendError
        If a layer is not in the model, or its weights look otherwise than in PyTorch.
    ModelError
        If a layer is quantized already.
    """
    nodes = linear_nodes(model)
    if missing := [name for name in weights if name not in nodes]:
        raise BackendError(
            f"the exported model has no linear layer {', '.join(missing[:5])}{', ...' if len(missing) > 5 else ''}. "
            "Leave it in float with quantization.op_wise"
        )
    for name, weight in weights.items():
        node = nodes[name]
        constant = float_weight(node, _PORT["MatMul"], name)
        if not node.get_attributes()["transpose_b"] or tuple(constant.get_output_shape(0)) != tuple(weight.codes.shape):
            raise BackendError(
                f"layer {name!r}: its weights have shape {tuple(constant.get_output_shape(0))} in OpenVINO and "
                f"{tuple(weight.codes.shape)} in PyTorch. Leave it in float with quantization.op_wise"
            )
        node.input(_PORT["MatMul"]).replace_source_output(_decompressed(weight, constant.get_friendly_name()))


def put_embeddings(model: Any, embeddings: Mapping[str, QuantizedWeight]) -> None:
    """Replace the weights of embeddings, and of output projections that are tied to them.

    Parameters
    ----------
    model : openvino.Model
        Changed.
    embeddings : mapping of module name -> QuantizedWeight
        One scale for each row.

    Raises
    ------
    BackendError
        If an embedding is not in the model.
    ModelError
        If it is quantized already.
    """
    nodes = embedding_nodes(model)
    for name, weight in embeddings.items():
        if name not in nodes:
            raise BackendError(f"the exported model has no embedding {name!r}. Leave the embeddings in float")
        constant = float_weight(nodes[name], _PORT["Gather"], name)
        output = _decompressed(weight, constant.get_friendly_name())
        for target in _users(constant):
            target.replace_source_output(output)


def _users(constant: Any) -> list[Any]:
    """Inputs that take a constant's values, in its own type or converted."""
    found = []
    for target in constant.output(0).get_target_inputs():
        node = target.get_node()
        if node.get_type_name() == "Convert":
            found += list(node.output(0).get_target_inputs())
        else:
            found.append(target)
    return found


def _decompressed(weight: QuantizedWeight, name: str) -> Any:
    """The output of new nodes that give the weight in float32, shape (out_features, in_features)."""
    from openvino import Type, opset13

    shape = tuple(weight.codes.shape)
    groups = weight.scale.shape[1]
    inner = shape if groups == 1 else (shape[0], groups, shape[1] // groups)
    outer = (*inner[:-1], 1)
    small, large = (Type.i4, Type.i8) if weight.grid.scheme == "sym" else (Type.u4, Type.u8)
    kind = small if weight.grid.bits <= 4 else large
    codes = opset13.constant(weight.codes.reshape(inner).numpy(), dtype=kind, name=name)
    value = opset13.convert(codes, Type.f16)
    if weight.zero_point is not None:
        zero_point = weight.zero_point.to(torch.uint8).reshape(outer).numpy()
        zero_points = opset13.constant(zero_point, dtype=kind, name=f"{name}/zero_point")
        value = opset13.subtract(value, opset13.convert(zero_points, Type.f16), name=f"{name}/zero_point/subtract")
    scale = weight.scale.reshape(outer).numpy().astype(np.float16)
    scales = opset13.constant(scale, dtype=Type.f16, name=f"{name}/scale")
    value = opset13.multiply(value, scales, name=f"{name}/fq_weights_1")
    if groups != 1:
        value = opset13.reshape(value, np.array(shape, dtype=np.int64), special_zero=False)
    return opset13.convert(value, Type.f32, name=f"{name}/fq_weights_1/convert").output(0)


def stored_weights(model: Any) -> dict[str, dict[str, np.ndarray[Any, Any]]]:
    """Codes, scale and zero point of every linear layer that has integers, as the model holds them.

    Returns
    -------
    dict of layer -> dict with `codes`, shape (out_features, in_features), `scale`, shape (out_features, n_groups), and
    `zero_point` of that shape where there is one.
    """
    found = {}
    for name, node in linear_nodes(model).items():
        parts = _parts(node.input_value(_PORT["MatMul"]).get_node())
        if parts is not None:
            rows = parts["codes"].shape[0]
            found[name] = {key: values.reshape(rows, -1) for key, values in parts.items()}
    return found


def _parts(node: Any) -> dict[str, np.ndarray[Any, Any]] | None:
    """The constants behind a weight; None if it is in float."""
    parts: dict[str, np.ndarray[Any, Any]] = {}
    while node.get_type_name() != "Constant":
        if node.get_type_name() == "Multiply":
            parts["scale"] = as_array(source_constant(node.input_value(1).get_node()))
        elif node.get_type_name() == "Subtract":
            parts["zero_point"] = as_array(source_constant(node.input_value(1).get_node()))
        node = node.input_value(0).get_node()
    return {"codes": as_array(node), **parts} if "scale" in parts else None


def check_stored(model: Any, weights: Mapping[str, QuantizedWeight]) -> None:
    """Prove that a model holds exactly what was solved, and nothing else in integers.

    Raises
    ------
    BackendError
        If a layer differs.
    """
    stored = stored_weights(model)
    expected = {name: _expected(weight) for name, weight in weights.items()}
    different = {name for name in stored.keys() | expected.keys() if not _is_same(stored.get(name), expected.get(name))}
    if different:
        raise BackendError(
            f"OpenVINO's file does not hold what was solved for {', '.join(sorted(different)[:5])}: the versions of "
            "openvino and optimum-intel do not fit. Please report it"
        )


def _expected(weight: QuantizedWeight) -> dict[str, np.ndarray[Any, Any]]:
    parts = {"codes": weight.codes.numpy(), "scale": weight.scale.numpy().astype(np.float16)}
    if weight.zero_point is not None:
        parts["zero_point"] = weight.zero_point.to(torch.uint8).numpy()
    return parts


def _is_same(one: Mapping[str, Any] | None, other: Mapping[str, Any] | None) -> bool:
    if one is None or other is None or one.keys() != other.keys():
        return False
    return all(np.array_equal(one[key], other[key]) for key in one)

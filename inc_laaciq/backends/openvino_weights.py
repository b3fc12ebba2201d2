"""Puts codes, scales and zero points into an OpenVINO model, in the form that NNCF gives compressed weights.

    codes (i4, u4, i8 or u8) -> f16 [- zero point] * scale (f16) [-> two dimensions] -> f32

OpenVINO has kernels for this form.  Codes of 2 and 3 bits are stored in four, those of 5 to 7 in eight.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from inc_laaciq.backends.openvino_ir import as_array, embedding_nodes, float_weight, linear_nodes, source_constant
from inc_laaciq.errors import BackendError
from inc_laaciq.quant.solver import QuantizedWeight

_PORT = {"MatMul": 1, "Gather": 0}
_LEAVE = "Leave a layer in float with quantization.op_wise, and embeddings by not asking for int8"


def put_weights(model: Any, weights: Mapping[str, QuantizedWeight]) -> None:
    """Replace the weights of linear layers and embeddings; other users of the same constant keep it.

    So an output projection that is tied to the embeddings goes with them only if it is named as well.

    Parameters
    ----------
    model : openvino.Model
        Changed.
    weights : mapping of module name -> QuantizedWeight
        One that several modules share is stored once.  Embeddings have one scale for each row.

    Raises
    ------
    BackendError
        If a module is not in the model, or its weights look otherwise than in PyTorch.
    ModelError
        If it is quantized already.
    """
    nodes = _weighted_nodes(model)
    if missing := [name for name in weights if name not in nodes]:
        raise BackendError(
            f"the exported model has no linear layer or embedding {', '.join(missing[:5])}"
            f"{', ...' if len(missing) > 5 else ''}. {_LEAVE}"
        )
    stored: dict[int, Any] = {}
    for name, weight in weights.items():
        for node in nodes[name]:
            port = _PORT[node.get_type_name()]
            constant = float_weight(node, port, name)
            shape, expected = tuple(constant.get_output_shape(0)), tuple(weight.codes.shape)
            if shape != expected or not node.get_attributes().get("transpose_b", True):
                raise BackendError(
                    f"{name!r}: its weights have shape {shape} in OpenVINO and {expected} in PyTorch. {_LEAVE}"
                )
            if id(weight) not in stored:
                stored[id(weight)] = _decompressed(weight, constant.get_friendly_name())
            node.input(port).replace_source_output(stored[id(weight)])


def _weighted_nodes(model: Any) -> dict[str, list[Any]]:
    return {**linear_nodes(model), **embedding_nodes(model)}


def _decompressed(weight: QuantizedWeight, name: str) -> Any:
    """The output of new nodes that give the weight in float32, shape (out_features, in_features)."""
    from openvino import Type, opset13

    shape = tuple(weight.codes.shape)
    groups = weight.scale.shape[1]
    inner = shape if groups == 1 else (shape[0], groups, shape[1] // groups)
    outer = (*inner[:-1], 1)
    small, large = (Type.i4, Type.i8) if weight.grid.scheme == "sym" else (Type.u4, Type.u8)
    kind = small if _stored_bits(weight) == 4 else large
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


def _stored_bits(weight: QuantizedWeight) -> int:
    return 4 if weight.grid.bits <= 4 else 8


def stored_weights(model: Any) -> dict[str, list[dict[str, np.ndarray[Any, Any]]]]:
    """Codes, scale and zero point of every linear layer and embedding that has integers, as the model holds them.

    Returns
    -------
    dict of module -> list of dict
        One for each time that the module runs, with `codes`, shape (out_features, in_features), `scale`, shape
        (out_features, n_groups), and `zero_point` of that shape where there is one; empty where it is in float.
    """
    found: dict[str, list[dict[str, np.ndarray[Any, Any]]]] = {}
    for name, nodes in _weighted_nodes(model).items():
        uses = [_parts(node.input_value(_PORT[node.get_type_name()]).get_node()) for node in nodes]
        if any(uses):
            found[name] = [{key: part.reshape(len(use["codes"]), -1) for key, part in use.items()} for use in uses]
    return found


def _parts(node: Any) -> dict[str, np.ndarray[Any, Any]]:
    """The constants behind a weight; empty if it is in float."""
    parts: dict[str, np.ndarray[Any, Any]] = {}
    while node.get_type_name() != "Constant":
        if node.get_type_name() == "Multiply":
            parts["scale"] = as_array(source_constant(node.input_value(1).get_node()))
        elif node.get_type_name() == "Subtract":
            parts["zero_point"] = as_array(source_constant(node.input_value(1).get_node()))
        node = node.input_value(0).get_node()
    return {"codes": as_array(node), **parts} if "scale" in parts else {}


def store_in_half(model: Any) -> None:
    """Store matrices that are left in float32 as float16; they are computed with in float32 all the same.

    OpenVINO's own compression does nothing to a model that has quantized weights.  In others it takes vectors too:
    they are next to nothing in size, and frequencies of rotary positions are multiplied by large numbers.  A matrix
    with a value that float16 does not have stays as it is.

    Parameters
    ----------
    model : openvino.Model
        Changed.
    """
    from openvino import Type, opset13

    for node in model.get_ops():
        if node.get_type_name() != "Constant" or node.get_element_type().get_type_name() != "f32":
            continue
        values = np.asarray(node.data)
        if sum(size > 1 for size in values.shape) < 2 or np.abs(values).max() > np.finfo(np.float16).max:
            continue
        users, name = list(node.output(0).get_target_inputs()), node.get_friendly_name()
        half = opset13.constant(values.astype(np.float16), dtype=Type.f16, name=f"{name}_compressed")
        converted = opset13.convert(half, Type.f32, name=name).output(0)
        for user in users:
            user.replace_source_output(converted)


def stored_bytes(weights: Iterable[QuantizedWeight]) -> int:
    """Bytes that codes, scales and zero points take in a file, one that several modules share once."""
    found = 0
    for weight in {id(weight): weight for weight in weights}.values():
        numbers = weight.codes.numel() + (0 if weight.zero_point is None else weight.zero_point.numel())
        found += 2 * weight.scale.numel() + numbers * _stored_bits(weight) // 8
    return found


def check_stored(model: Any, weights: Mapping[str, QuantizedWeight]) -> None:
    """Prove that a model holds exactly what was solved, and nothing else in integers.

    Raises
    ------
    BackendError
        If a module differs.
    """
    stored = stored_weights(model)
    different = [
        name
        for name in sorted({*stored, *weights})
        if name not in stored or name not in weights or not _is_same(stored[name], _expected(weights[name]))
    ]
    if different:
        raise BackendError(
            f"OpenVINO's file does not hold what was solved for {', '.join(different[:5])}: the versions of "
            "openvino and optimum-intel do not fit. Please report it"
        )


def _expected(weight: QuantizedWeight) -> dict[str, np.ndarray[Any, Any]]:
    parts = {"codes": weight.codes.numpy(), "scale": weight.scale.numpy().astype(np.float16)}
    if weight.zero_point is not None:
        parts["zero_point"] = weight.zero_point.to(torch.uint8).numpy()
    return parts


def _is_same(uses: Sequence[Mapping[str, Any]], expected: Mapping[str, Any]) -> bool:
    return all(
        use.keys() == expected.keys() and all(np.array_equal(use[key], expected[key]) for key in expected)
        for use in uses
    )

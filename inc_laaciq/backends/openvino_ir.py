"""An OpenVINO model (IR) as optimum-intel exports it: where its weights are, and what may be told from it.

Linear layers are found by the name of their multiplication, `__module.<layer>/aten::linear/MatMul`.  Names of constants
do not serve: tied weights have one constant, and those of 16-bit checkpoints have other names.
"""

from __future__ import annotations

import contextlib
import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np

from inc_laaciq.errors import BackendError, IntegrityError, ModelError

_PREFIX = "__module."
_LINEAR, _EMBEDDING = "MatMul", "Gather"
_OPERATIONS = {_LINEAR: ("/aten::linear/MatMul", "/ov_ext::linear/MatMul"), _EMBEDDING: ("/aten::embedding/Gather",)}
_FLOATS = ("f32", "f16", "bf16")
_ROOT = "inc_laaciq"
_KV = ["runtime_options", "KV_CACHE_PRECISION"]


def require_openvino() -> Any:
    """The package `openvino`.

    Raises
    ------
    BackendError
        If it, or optimum-intel, is not installed; with the command that does.
    """
    try:
        import openvino
        import optimum.intel.openvino  # noqa: F401 - half an installation is as bad as none
    except ImportError as error:
        raise BackendError(
            f"OpenVINO models need the packages openvino and optimum-intel ({error}): "
            "pip install 'inc-laaciq[openvino]'"
        ) from error
    return openvino


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Nothing of what optimum-intel, NNCF and torch's tracer print or log below an error, unless logs are wanted."""
    loggers = [logging.getLogger(name) for name in ("optimum", "nncf", "transformers", "openvino_tokenizers")]
    before = [logger.level for logger in loggers]
    wanted = logging.getLogger("inc_laaciq").isEnabledFor(logging.INFO)
    with open(os.devnull, "w", encoding="utf-8") as nowhere, contextlib.ExitStack() as stack:
        if not wanted:
            stack.enter_context(redirect_stdout(nowhere))
            stack.enter_context(warnings.catch_warnings())
            warnings.simplefilter("ignore")
            for logger in loggers:
                logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, before, strict=True):
                logger.setLevel(level)


def read_ir(path: Path) -> Any:
    """An IR as an object that may be changed.

    Raises
    ------
    IntegrityError
        If OpenVINO cannot read it.
    """
    openvino = require_openvino()
    try:
        return openvino.Core().read_model(str(path))
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise IntegrityError(f"{path}: OpenVINO cannot read it ({reason}). Export the model again") from error


def linear_nodes(model: Any) -> dict[str, Any]:
    """The multiplication of every linear layer, by the layer's name in PyTorch."""
    return _nodes(model, _LINEAR)


def embedding_nodes(model: Any) -> dict[str, Any]:
    """The look-up of every embedding, by its name in PyTorch."""
    return _nodes(model, _EMBEDDING)


def _nodes(model: Any, kind: str) -> dict[str, Any]:
    found = {}
    for node in model.get_ops():
        if node.get_type_name() != kind:
            continue
        name = node.get_friendly_name()
        for ending in _OPERATIONS[kind]:
            if name.startswith(_PREFIX) and name.endswith(ending):
                found[name[len(_PREFIX) : -len(ending)]] = node
    return found


def float_weight(node: Any, port: int, name: str) -> Any:
    """The constant in float behind an input of a node, where nothing but a conversion stands between them.

    Raises
    ------
    ModelError
        If the weight has been quantized already.
    BackendError
        If something else is there.
    """
    weight = node.input_value(port).get_node()
    if weight.get_type_name() == "Convert":
        weight = weight.input_value(0).get_node()
    if weight.get_type_name() in ("Multiply", "Subtract", "FakeQuantize", "Reshape") or _is_integer(weight):
        raise ModelError(f"layer {name!r} is quantized already. Export the float model")
    if weight.get_type_name() != "Constant" or weight.get_element_type().get_type_name() not in _FLOATS:
        raise BackendError(
            f"layer {name!r}: OpenVINO's model has a {weight.get_type_name()} where its weights should be. "
            "Leave the layer in float with quantization.op_wise"
        )
    return weight


def _is_integer(node: Any) -> bool:
    return node.get_type_name() == "Constant" and node.get_element_type().get_type_name() not in _FLOATS


def source_constant(node: Any) -> Any:
    """The constant behind a chain of operations of one input each."""
    while node.get_type_name() != "Constant":
        node = node.input_value(0).get_node()
    return node


def let_cache_be_compressed(model: Any) -> None:
    """Remove the flag by which exporters of float models keep the cache of keys and values in 16 bits."""
    if model.has_rt_info(_KV):
        options = model.get_rt_info(_KV[0]).value
        options.pop(_KV[1])
        model.set_rt_info(options, _KV[0])


def stamp(model: Any, facts: dict[str, str]) -> None:
    """Write facts into the model, under `inc_laaciq` in its `rt_info`."""
    for key, value in facts.items():
        model.set_rt_info(value, [_ROOT, *key.split(".")])


def read_stamp(model: Any, key: str) -> str | None:
    """A fact that `stamp` wrote; None if it is not there."""
    path = [_ROOT, *key.split(".")]
    return model.get_rt_info(path).astype(str) if model.has_rt_info(path) else None


def as_array(constant: Any) -> np.ndarray[Any, Any]:
    """Values of a constant; integers of four bits, which are packed two in a byte, each by itself."""
    kind = constant.get_element_type().get_type_name()
    shape = tuple(constant.get_output_shape(0))
    if kind not in ("i4", "u4"):
        return np.asarray(constant.data).reshape(shape)
    packed = np.asarray(constant.data).reshape(-1).view(np.uint8)
    codes = np.stack([packed & 15, packed >> 4], axis=-1).reshape(-1)[: int(np.prod(shape))].reshape(shape)
    return codes if kind == "u4" else np.where(codes > 7, codes.astype(np.int8) - 16, codes).astype(np.int8)

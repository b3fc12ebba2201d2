"""An OpenVINO model (IR) as optimum-intel exports it: where its weights are, and what may be told from it.

Linear layers are found by the name of their multiplication, `__module.<layer>/aten::linear/MatMul`, and `.../MatMul_1`
where a layer runs twice.  Names of constants do not serve: tied weights have one constant, and those of 16-bit models
have other names.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import re
import warnings
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np

from inc_laaciq.errors import BackendError, IntegrityError, ModelError

_LINEAR = re.compile(r"__module\.(.+)/(?:aten|ov_ext)::linear/MatMul(?:_\d+)?")
_EMBEDDING = re.compile(r"__module\.(.+)/(?:aten|ov_ext)::embedding/Gather(?:_\d+)?")
_FLOATS = ("f32", "f16", "bf16")
_ROOT = "inc_laaciq"
_HEARD_FROM = {
    **dict.fromkeys(("optimum", "nncf", "transformers", "openvino_tokenizers"), logging.ERROR),
    "openvino.frontend": logging.CRITICAL,  # what it tries first and gets by without is an error to it
}
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


def openvino_core() -> Any:
    """The one `openvino.Core` of this process, which is never freed.

    Each core gives the thread that first compiles with it a stack for signals, and puts back the one before when it is
    freed.  Of two that are not freed in reverse order the second puts back a stack that is gone, and the next signal,
    Ctrl-C too, is a segmentation fault (OpenVINO 2026.4).

    Raises
    ------
    BackendError
        As `require_openvino`.
    """
    return _core(require_openvino())


@functools.cache
def _core(openvino: Any) -> Any:
    return openvino.Core()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Nothing of what optimum-intel, NNCF and torch's tracer print or log below an error, unless logs are wanted."""
    loggers = {logging.getLogger(name): level for name, level in _HEARD_FROM.items()}
    before = [logger.level for logger in loggers]
    wanted = logging.getLogger("inc_laaciq").isEnabledFor(logging.INFO)
    with open(os.devnull, "w", encoding="utf-8") as nowhere, contextlib.ExitStack() as stack:
        if not wanted:
            stack.enter_context(redirect_stdout(nowhere))
            stack.enter_context(warnings.catch_warnings())
            warnings.simplefilter("ignore")
            for logger, level in loggers.items():
                logger.setLevel(level)
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
    try:
        return openvino_core().read_model(str(path))
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise IntegrityError(f"{path}: OpenVINO cannot read it ({reason}). Export the model again") from error


def linear_nodes(model: Any) -> dict[str, list[Any]]:
    """The multiplications of every linear layer, one for each time that it runs, by the layer's name in PyTorch."""
    return _nodes(model, "MatMul", _LINEAR)


def embedding_nodes(model: Any) -> dict[str, list[Any]]:
    """The look-ups of every embedding, by its name in PyTorch."""
    return _nodes(model, "Gather", _EMBEDDING)


def _nodes(model: Any, kind: str, pattern: re.Pattern[str]) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for node in model.get_ops():
        if node.get_type_name() == kind and (match := pattern.fullmatch(node.get_friendly_name())):
            found.setdefault(match[1], []).append(node)
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


def as_array(constant: Any) -> np.ndarray[Any, Any]:
    """Values of a constant; integers of four bits, which are packed two in a byte, each by itself."""
    kind = constant.get_element_type().get_type_name()
    shape = tuple(constant.get_output_shape(0))
    if kind not in ("i4", "u4"):
        return np.asarray(constant.data).reshape(shape)
    packed = np.asarray(constant.data).reshape(-1).view(np.uint8)
    codes = np.stack([packed & 15, packed >> 4], axis=-1).reshape(-1)[: int(np.prod(shape))].reshape(shape)
    return codes if kind == "u4" else np.where(codes > 7, codes.astype(np.int8) - 16, codes).astype(np.int8)

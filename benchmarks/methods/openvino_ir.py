"""A model as OpenVINO runs it: exported once by optimum-intel, and callable like a PyTorch model."""

from __future__ import annotations

import contextlib
import os
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch

from inc_laaciq.backends.openvino_ir import openvino_core

EXACT = {
    "INFERENCE_PRECISION_HINT": "f32",
    "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0",
    "KV_CACHE_PRECISION": "f32",
    "INFERENCE_NUM_THREADS": 1,
}
"""Arithmetic in float32 throughout, so that what is measured is the weights and not the runtime."""

_LINEAR = "/aten::linear/MatMul"


def exported(source: Any, cache: Path) -> Path:
    """The model's IR in float32, exported on the first call.

    The folder is renamed into place when it is complete; two processes may both export, and one of them wins.
    """
    final = cache / f"ir-{source.weights_sha256[:16]}"
    if not (final / "openvino_model.xml").exists():
        from optimum.exporters.openvino import main_export
        from optimum.intel.openvino import OVConfig

        partial = cache / f"{final.name}.partial-{os.getpid()}"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the tracer's, by the dozen
            main_export(
                str(source.folder),
                str(partial),
                task="text-generation-with-past",
                ov_config=OVConfig(dtype="fp32"),
                convert_tokenizer=False,
            )
        with contextlib.suppress(FileExistsError, OSError):
            partial.rename(final)
        shutil.rmtree(partial, ignore_errors=True)
    return final / "openvino_model.xml"


def read(path: Path) -> Any:
    """The IR as an object that may be changed."""
    return openvino_core().read_model(str(path))


def linear_nodes(model: Any) -> dict[str, Any]:
    """The multiplication of every linear layer, by the layer's name in PyTorch."""
    prefix = "__module."
    return {
        node.get_friendly_name().removeprefix(prefix).removesuffix(_LINEAR): node
        for node in model.get_ops()
        if node.get_type_name() == "MatMul" and node.get_friendly_name().endswith(_LINEAR)
    }


def embedding_nodes(model: Any) -> list[Any]:
    """The look-up of every embedding; with tied embeddings its constant is also the output projection's."""
    return [
        node
        for node in model.get_ops()
        if node.get_type_name() == "Gather" and node.get_friendly_name().endswith("/aten::embedding/Gather")
    ]


def stored_weight(node: Any, port: int = 1) -> tuple[Any, Any | None]:
    """The constant behind a linear layer's weights, and that of its scales where it has integers."""
    scale = None
    weight = node.input_value(port).get_node()
    while weight.get_type_name() != "Constant":
        if weight.get_type_name() == "Multiply":
            scale = _constant(weight.input_value(1).get_node())
        weight = weight.input_value(0).get_node()
    return weight, scale


def _constant(node: Any) -> Any:
    while node.get_type_name() != "Constant":
        node = node.input_value(0).get_node()
    return node


class OpenVINOModel:
    """Gives logits for `input_ids` and `attention_mask`.

    Parameters
    ----------
    model : openvino.Model
        With a state, as optimum-intel exports it.
    config : transformers configuration
        Of the model it was exported from.
    """

    def __init__(self, model: Any, config: Any) -> None:
        compiled = openvino_core().compile_model(model, "CPU", EXACT)
        self.config = config
        self._inputs = {name for entry in compiled.inputs for name in entry.names}
        self._request = compiled.create_infer_request()

    def __call__(self, *, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Logits, float32, shape (batch, tokens, vocabulary)."""
        self._request.reset_state()  # else the last batch is the context of this one, and nothing fails
        feed = inputs(input_ids, attention_mask, self._inputs)
        return torch.from_numpy(self._request.infer(feed)["logits"].copy())


def inputs(input_ids: torch.Tensor, attention_mask: torch.Tensor, names: set[str]) -> dict[str, Any]:
    """Inputs of an exported model, as many of them as it has."""
    feed = {
        "input_ids": input_ids.numpy(),
        "attention_mask": attention_mask.numpy(),
        "position_ids": (attention_mask.cumsum(-1) - 1).clamp(min=0).numpy(),
        "beam_idx": np.arange(len(input_ids), dtype=np.int32),
    }
    return {name: value for name, value in feed.items() if name in names}

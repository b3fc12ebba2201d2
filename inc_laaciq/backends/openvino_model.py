"""A model as OpenVINO runs it on the CPU, callable like a PyTorch model."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from inc_laaciq.backends.openvino_ir import openvino_core, quiet
from inc_laaciq.errors import ModelError
from inc_laaciq.export_format import Runtime

_EXACT = {
    "INFERENCE_PRECISION_HINT": "f32",
    "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0",
    "KV_CACHE_PRECISION": "f32",
}
_INPUTS = ("input_ids", "attention_mask", "position_ids", "beam_idx")
_PROPERTIES = ("INFERENCE_PRECISION_HINT", "DYNAMIC_QUANTIZATION_GROUP_SIZE", "KV_CACHE_PRECISION")


class OpenVINOModel:
    """Gives logits for `input_ids` and `attention_mask`.

    Parameters
    ----------
    model : openvino.Model
        A causal language model with a state, as optimum-intel exports it.
    config : transformers configuration
        Of the model that it was exported from.
    runtime : "default" or "exact"
        "exact" computes in float32 throughout, so that what is measured is the weights.  "default" is what OpenVINO
        takes on this machine if it is asked for nothing, and what is deployed: bfloat16 where the processor has it,
        activations rounded to 8 bits, a compressed cache.
    threads : int, optional

    Attributes
    ----------
    properties : dict of str
        What OpenVINO chose.

    Raises
    ------
    ModelError
        If it takes what a causal language model with a state does not, or gives no logits.
    """

    def __init__(self, model: Any, config: Any, *, runtime: Runtime = "default", threads: int | None = None) -> None:
        settings: dict[str, Any] = dict(_EXACT) if runtime == "exact" else {}
        if threads is not None:
            settings["INFERENCE_NUM_THREADS"] = threads
        _check_ends(model)
        compiled = openvino_core().compile_model(model, "CPU", settings)
        self.config = config
        self.properties = {name.lower(): _word(compiled.get_property(name)) for name in _PROPERTIES}
        self._inputs = {name for entry in compiled.inputs for name in entry.names}
        self._request = compiled.create_infer_request()

    def __call__(self, *, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Logits, float32, shape (batch, tokens, vocabulary)."""
        self._request.reset_state()  # else the last batch is the context of this one, and nothing fails
        logits = self._request.infer(_inputs(input_ids, attention_mask, self._inputs))["logits"]  # a copy
        return torch.from_numpy(logits.astype(np.float32, copy=False))


def writer(model: Any, source: Any) -> Any:
    """The model with optimum-intel's `generate`, computing in what OpenVINO takes if it is asked for nothing.

    Parameters
    ----------
    model : openvino.Model
        Not modified.
    source : PreTrainedModel
        That it was exported from; both then go by the same settings of generation.
    """
    with quiet():
        from optimum.intel.openvino import OVModelForCausalLM

        return OVModelForCausalLM(
            model.clone(),
            copy.deepcopy(source.config),
            device="CPU",
            use_cache=any("beam_idx" in entry.names for entry in model.inputs),
            generation_config=copy.deepcopy(source.generation_config),
        )


def _check_ends(model: Any) -> None:
    """Refuse what only looks like a language model, or keeps its state outside; it would fail in OpenVINO's words."""
    strange = [entry.any_name for entry in model.inputs if not entry.names.intersection(_INPUTS)]
    if strange or not any("logits" in entry.names for entry in model.outputs):
        found = ", ".join(strange[:3]) + (", ..." if len(strange) > 3 else "")
        raise ModelError(
            f"the OpenVINO model {f'takes {found}' if strange else 'gives no logits'}, so it is no causal language "
            "model that keeps its state inside. Export it with --task text-generation-with-past"
        )


def _inputs(input_ids: torch.Tensor, attention_mask: torch.Tensor, names: set[str]) -> Mapping[str, Any]:
    """Inputs of an exported model, as many of them as it has."""
    positions = (attention_mask.cumsum(-1) - 1).clamp(min=0)
    beams = np.arange(len(input_ids), dtype=np.int32)  # each row goes on with its own cache
    values = (input_ids.numpy(), attention_mask.numpy(), positions.numpy(), beams)
    return {name: value for name, value in zip(_INPUTS, values, strict=True) if name in names}


def _word(value: Any) -> str:
    """A property as text: types of numbers have names such as bf16."""
    return value.get_type_name() if hasattr(value, "get_type_name") else str(value)

"""Exports of the tiny models, each in its own way, and the float models that they were made from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn

from inc_laaciq.backends.openvino_ir import read_ir
from inc_laaciq.backends.openvino_model import OpenVINOModel
from inc_laaciq.calibration.layers import linearize
from inc_laaciq.checkpoint import load_model

_MIXED = {
    ".*down_proj": {"bits": 2}, ".*up_proj": {"bits": 3}, ".*gate_proj": {"bits": 5}, ".*o_proj": {"bits": 6},
    ".*k_proj": {"bits": 8, "group_size": -1}, ".*q_proj": {"scheme": "asym"}, ".*1.*v_proj": {"dtype": "fp32"},
}  # fmt: skip
WEIGHTS = {
    "llama": {"bits": 4, "group_size": 32, "scheme": "sym"},
    "bloom": {"bits": 4, "group_size": -1, "scheme": "asym"},
    "qwen2": {"bits": 3, "group_size": 32, "scheme": "sym"},
    "mistral": {"bits": 4, "group_size": 32, "scheme": "asym"},
}
LA_ACIQ: dict[str, dict[str, Any]] = {"llama": {"lm_head": True}, "qwen2": {"lm_head": True}, "gpt2": {"mode": "fast"}}
OPTIONS: dict[str, dict[str, Any]] = {
    "bloom": {"embeddings": "int8", "floats": "fp16"},
    "xglm": {"weight_format": "int8"},
    "mistral": {"task": "text-generation"},  # without a cache
}
CHECKPOINTS: dict[str, dict[str, Any]] = {
    "xglm": {"max_shard_size": "100KB"},
    "qwen2": {"dtype": torch.float16},
    "mistral": {"dtype": torch.bfloat16},
}
NAMES = ("llama", "bloom", "xglm", "qwen2", "mistral", "gpt2")


def configuration(name: str, texts: Path) -> dict[str, Any] | None:
    if name == "xglm":
        return None
    quantization: dict[str, Any] = {"model_wise": {"weight": WEIGHTS.get(name, {})}}
    if name == "llama":
        quantization["op_wise"] = {pattern: {"weight": leaf} for pattern, leaf in _MIXED.items()}
    if name == "gpt2":
        quantization = {"approach": "post_training_static_quant"}
    parts = {
        split: {"texts": str(texts / split), "tokens_per_language": 400} for split in ("calibration", "evaluation")
    }
    return {"quantization": quantization, "la_aciq": {**parts, **LA_ACIQ.get(name, {})}}


class Run:
    """A result, and the float model that it was made from."""

    def __init__(self, source: Path, result: Any) -> None:
        self.source, self.result, self.folder = source, result, result.folder
        self.report = json.loads((self.folder / "laaciq.json").read_text(encoding="utf-8"))
        self.solved = load_file(str(self.folder / "scales.safetensors"))
        self.ir = read_ir(self.folder / "openvino_model.xml")

    @property
    def layers(self) -> list[str]:
        return [key.removesuffix(".codes") for key in self.solved if key.endswith(".codes")]

    def weight(self, name: str) -> torch.Tensor:
        codes, scale = self.solved[f"{name}.codes"].float(), self.solved[f"{name}.scale"].float()
        grouped = codes.reshape(*scale.shape, -1)
        zero_point = self.solved.get(f"{name}.zero_point")
        if zero_point is not None:
            grouped = grouped - zero_point.float()[..., None]
        return (grouped * scale[..., None]).reshape(codes.shape)

    def float_model(self) -> Any:
        return linearize(load_model(self.source).model)

    def rounded_model(self) -> Any:
        """In PyTorch, written by hand from the file of codes and scales."""
        model = self.float_model()
        for key, scale in self.solved.items():
            if key.endswith(".fold"):
                norm = model.get_submodule(key.removesuffix(".fold"))
                norm.weight.data /= scale
        for name in self.layers:
            model.get_submodule(name).weight = nn.Parameter(self.weight(name))
        return model

    def model(self) -> OpenVINOModel:
        return OpenVINOModel(self.ir, load_model(self.source).model.config, runtime="exact")

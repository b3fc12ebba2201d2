"""Tiny seeded models, solved in seconds, and what each computes with the solved weights in float."""

from __future__ import annotations

import copy
from typing import Any

import torch
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from inc_laaciq.calibration.folding import Fold, apply_folds
from inc_laaciq.quant.grid import Grid
from inc_laaciq.quant.solver import QuantizedWeight, SolverSpec, solve

VOCABULARY = 320
_SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "initializer_range": 0.1,
}  # fmt: skip


def llama() -> Any:
    return LlamaForCausalLM(LlamaConfig(**_SIZES))


def qwen2() -> Any:
    """Biases in some layers, and the projection tied to the embeddings."""
    return Qwen2ForCausalLM(Qwen2Config(**_SIZES, tie_word_embeddings=True))


def bloom() -> Any:
    config = BloomConfig(vocab_size=VOCABULARY, hidden_size=64, n_layer=2, n_head=4, initializer_range=0.1)
    return BloomForCausalLM(config)


def gpt2() -> Any:
    return GPT2LMHeadModel(GPT2Config(vocab_size=VOCABULARY, n_embd=64, n_layer=1, n_head=4, n_positions=64))


def grown(make: Any) -> Any:
    """A model with norms and biases as after some training."""
    torch.manual_seed(0)
    model = make()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


def linear_names(model: Any, *, head: bool = False) -> list[str]:
    return [
        name
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and (head or name != "lm_head")
    ]


def solved(model: Any, names: list[str], **spec: Any) -> dict[str, QuantizedWeight]:
    spec = {"bits": 4, "group_size": 32, "mode": "fast", **spec}
    return {name: solve(model.get_submodule(name).weight, SolverSpec(**spec)) for name in names}


def with_weights(model: Any, weights: dict[str, QuantizedWeight], folds: tuple[Fold, ...] = ()) -> Any:
    """The float model that computes what a packed one has to."""
    model = copy.deepcopy(model)
    assert len(apply_folds(model, folds)) == len(folds)
    with torch.no_grad():
        for name, weight in weights.items():
            model.get_submodule(name).weight.copy_(weight.dequantize())
    return model


def ids() -> torch.Tensor:
    return torch.randint(0, VOCABULARY, (2, 16), generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def logits(model: Any) -> torch.Tensor:
    return model(input_ids=ids()).logits


def any_weight(bits: int, scheme: Any, *, rows: int = 32, columns: int = 64, group_size: int = 16) -> QuantizedWeight:
    """Random codes with every extreme in it: lowest and highest codes and zero points, scales of either sign."""
    generator = torch.Generator().manual_seed(bits)
    grid = Grid(bits=bits, scheme=scheme)
    groups = 1 if group_size == -1 else columns // group_size
    codes = torch.randint(grid.qmin, grid.qmax + 1, (rows, columns), generator=generator)
    codes[:, 0], codes[:, 1] = grid.qmin, grid.qmax
    scale = torch.randn(rows, groups, generator=generator).half()
    scale[0, 0], scale[1, 0] = 2.0**-24, -(2.0**-24)
    zero_point = torch.randint(0, grid.qmax + 1, (rows, groups), generator=generator).to(torch.uint8)
    zero_point[0], zero_point[1] = 0, grid.qmax
    return QuantizedWeight(
        codes=codes.to(grid.code_dtype),
        scale=scale.float(),
        zero_point=zero_point if scheme == "asym" else None,
        grid=grid,
        group_size=group_size,
    )

"""Tiny seeded models, large enough for groups of 32, with norms and logits as after some training."""

from __future__ import annotations

from typing import Any

import torch
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    XGLMConfig,
    XGLMForCausalLM,
)

VOCABULARY = 340
_SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "initializer_range": 0.1, "eos_token_id": 1,
}  # fmt: skip


def _grown(model: Any) -> Any:
    """Norms differ from one, as after training."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.mul_(1 + 0.1 * torch.randn_like(parameter)).add_(
                    0.01 * torch.randn_like(parameter) * parameter
                )
    return model.eval()


def bloom() -> Any:
    config = BloomConfig(vocab_size=VOCABULARY, hidden_size=64, n_layer=2, n_head=4, initializer_range=0.1)
    return BloomForCausalLM(config)


def llama() -> Any:
    return LlamaForCausalLM(LlamaConfig(**_SIZES))


def mistral() -> Any:
    """With outlier columns that the norms take back, as large models have them."""
    model = MistralForCausalLM(MistralConfig(**_SIZES, sliding_window=None))
    columns, factor = [5, 20, 41], 32.0
    with torch.no_grad():
        for block in model.model.layers:
            attention, mlp = block.self_attn, block.mlp
            for norm, layers in (
                (block.input_layernorm, (attention.q_proj, attention.k_proj, attention.v_proj)),
                (block.post_attention_layernorm, (mlp.gate_proj, mlp.up_proj)),
            ):
                norm.weight[columns] /= factor
                for layer in layers:
                    layer.weight[:, columns] *= factor
    return model


def qwen2() -> Any:
    return Qwen2ForCausalLM(Qwen2Config(**_SIZES, tie_word_embeddings=True))


def xglm() -> Any:
    sizes: dict[str, Any] = {"d_model": 64, "ffn_dim": 128, "num_layers": 2, "attention_heads": 4}
    return XGLMForCausalLM(XGLMConfig(vocab_size=VOCABULARY, max_position_embeddings=256, init_std=0.1, **sizes))


def gpt2() -> Any:
    config = GPT2Config(vocab_size=VOCABULARY, n_embd=64, n_layer=2, n_head=4, n_positions=256, initializer_range=0.1)
    return GPT2LMHeadModel(config)


def _seeded(make: Any) -> Any:
    def build() -> Any:
        torch.manual_seed(0)
        return _grown(make())

    return build


ARCHITECTURES = {make.__name__: _seeded(make) for make in (bloom, llama, mistral, qwen2, xglm, gpt2)}


def train(model: Any, rows: torch.Tensor, steps: int = 200) -> Any:
    """Teach a model some text, so that it has something to lose; token ids, shape (rows, tokens)."""
    optimizer = torch.optim.AdamW(model.train().parameters(), lr=3e-3, weight_decay=0.0)
    generator = torch.Generator().manual_seed(0)
    for _ in range(steps):
        batch = rows[torch.randint(len(rows), (16,), generator=generator)]
        model(input_ids=batch, labels=batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.eval()

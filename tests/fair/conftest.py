"""Tiny models with random weights, and token rows of two languages."""

from __future__ import annotations

import pytest
import torch
from transformers import BloomConfig, BloomForCausalLM, GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from inc_laaciq.calibration.layers import find_layers, linearize
from inc_laaciq.config import FairSpec, LaaciqSpec, WeightSpec

VOCABULARY = 97
RANGE = 0.2  # weights so large that predictions differ: with the usual 0.02 all tokens are equally likely


def tiny(architecture):
    torch.manual_seed(0)
    if architecture == "bloom":
        config = BloomConfig(vocab_size=VOCABULARY, hidden_size=32, n_layer=2, n_head=4, initializer_range=RANGE)
        return BloomForCausalLM(config).eval()
    if architecture == "llama":
        config = LlamaConfig(
            vocab_size=VOCABULARY,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            initializer_range=RANGE,
        )
        return LlamaForCausalLM(config).eval()
    return linearize(
        GPT2LMHeadModel(
            GPT2Config(vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=4, initializer_range=RANGE)
        ).eval()
    )


@pytest.fixture(params=["bloom", "llama", "gpt2"])
def model(request):
    return tiny(request.param)


@pytest.fixture
def bloom():
    return tiny("bloom")


@pytest.fixture
def llama():
    return tiny("llama")


@pytest.fixture
def batches():
    """Of "en" a full batch and a short row, of "sw" two rows of other tokens."""
    generator = torch.Generator().manual_seed(1)

    def ids(rows, tokens, low, high):
        return torch.randint(low, high, (rows, tokens), generator=generator)

    return {"en": (ids(6, 24, 0, 60), ids(1, 7, 0, 60)), "sw": (ids(6, 24, 40, VOCABULARY),)}


@pytest.fixture
def weight():
    return WeightSpec(bits=3, group_size=16, scheme="sym")


@pytest.fixture
def layers_of(weight):
    def find(model):
        return [layer for layer in find_layers(model, weight) if layer.weight is not None]

    return find


@pytest.fixture
def settings():
    def make(tune="model", steps=12, sampled=0, **others):
        return LaaciqSpec(mode="fair", scaling=False, fair=FairSpec(tune=tune, steps=steps, sampled=sampled), **others)

    return make

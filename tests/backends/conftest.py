"""Tiny seeded models of three architectures, and batches in two languages; Neural Compressor writes nothing here."""

from __future__ import annotations

import warnings

import pytest
import torch

with warnings.catch_warnings():  # neural-compressor 2.6 and 3.7 and what they import warn while they are imported
    warnings.simplefilter("ignore")
    pytest.importorskip("neural_compressor.quantization", exc_type=ImportError)

VOCABULARY = 128


def _bloom() -> torch.nn.Module:
    from transformers import BloomConfig, BloomForCausalLM

    return BloomForCausalLM(BloomConfig(vocab_size=VOCABULARY, hidden_size=64, n_layer=2, n_head=4))


def _llama() -> torch.nn.Module:
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
    return LlamaForCausalLM(LlamaConfig(vocab_size=VOCABULARY, num_key_value_heads=2, **sizes))


def _gpt2() -> torch.nn.Module:
    from transformers import GPT2Config, GPT2LMHeadModel

    return GPT2LMHeadModel(GPT2Config(vocab_size=VOCABULARY, n_embd=64, n_layer=2, n_head=4))


ARCHITECTURES = {"bloom": _bloom, "llama": _llama, "gpt2": _gpt2}


@pytest.fixture(params=ARCHITECTURES)
def model(request):
    torch.manual_seed(0)
    return ARCHITECTURES[request.param]().eval()


@pytest.fixture
def bloom():
    torch.manual_seed(0)
    return _bloom().eval()


@pytest.fixture
def batches():
    generator = torch.Generator().manual_seed(1)
    return {
        tag: [torch.randint(low, VOCABULARY, (4, 32), generator=generator) for _ in range(2)]
        for tag, low in (("en", 0), ("sw", 40))
    }


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    """Neural Compressor puts nc_workspace into the working folder."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def _foreign_warnings():
    """Warnings of Neural Compressor's own code and of torch's deprecated quantization API are not ours to mend."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield

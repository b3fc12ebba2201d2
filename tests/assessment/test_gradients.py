"""Predicted rises against a slow loop, and what the pass leaves behind."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from inc_laaciq.assessment.gradients import predict_rises
from inc_laaciq.errors import ModelError

NAMES = ("model.layers.0.self_attn.q_proj", "model.layers.1.mlp.down_proj", "lm_head")


@pytest.fixture
def llama():
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    return LlamaForCausalLM(LlamaConfig(vocab_size=32, num_key_value_heads=1, **sizes))


@pytest.fixture
def errors(llama):
    generator = torch.Generator().manual_seed(1)
    return {name: 0.01 * torch.randn(llama.get_submodule(name).weight.shape, generator=generator) for name in NAMES}


def rows(n, seed=2, length=7):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(32, (1, length), generator=generator) for _ in range(n)]


def slow_rise(model, name, error, ids):
    """Half the sum over tokens of (gradient . error x)**2, with the layer's input and output taken by hand."""
    seen = {}
    layer = model.get_submodule(name)
    forward = layer.forward

    def spy(x):
        seen["x"], seen["y"] = x, forward(x)
        return seen["y"]

    layer.forward = spy
    logits = model(input_ids=ids, use_cache=False).logits
    layer.forward = forward
    loss = 0.0
    for place in range(ids.shape[1] - 1):
        loss = loss - torch.log_softmax(logits[0, place], -1)[ids[0, place + 1]]
    [gradient] = torch.autograd.grad(loss, seen["y"])
    total = 0.0
    for token in range(ids.shape[1]):
        change = sum(
            float(gradient[0, token, o]) * float(error[o] @ seen["x"][0, token].detach()) for o in range(len(error))
        )
        total += 0.5 * change**2
    return total, float(loss.detach())


def test_rises_are_those_of_a_slow_loop(llama, errors):
    text = rows(2)
    found = predict_rises(llama, errors, {"sw": text}).rises["sw"]
    assert found.tokens.tolist() == [6, 6]
    for number, ids in enumerate(text):
        for place, name in enumerate(NAMES):
            rise, loss = slow_rise(llama, name, errors[name], ids)
            assert found.rise[number, place] == pytest.approx(rise, rel=1e-4)
            assert found.loss[number] == pytest.approx(loss, rel=1e-5)


def test_activation_is_the_mean_magnitude_of_the_input(llama, errors):
    seen = []
    handle = llama.lm_head.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0].detach()))
    llama(input_ids=rows(1)[0])
    handle.remove()
    found = predict_rises(llama, errors, {"sw": rows(1)}).rises["sw"]
    assert found.activation[0, 2] == pytest.approx(float(seen[0].abs().mean()), rel=1e-6)


def test_twice_the_error_costs_four_times_as_much(llama, errors):
    once = predict_rises(llama, errors, {"sw": rows(1)}).rises["sw"].rise
    twice = predict_rises(llama, {name: 2 * e for name, e in errors.items()}, {"sw": rows(1)}).rises["sw"].rise
    assert twice == pytest.approx(4 * once, rel=1e-6)
    assert (once > 0).all()


def test_a_language_does_not_depend_on_the_others(llama, errors):
    alone = predict_rises(llama, errors, {"sw": rows(2)}).rises["sw"].rise
    together = predict_rises(llama, errors, {"en": rows(3, seed=5), "sw": rows(2)}).rises["sw"].rise
    assert (alone == together).all()


def test_the_model_is_left_as_it_was(llama, errors):
    llama.train()
    llama.model.norm.weight.requires_grad_(False)
    before = {name: parameter.requires_grad for name, parameter in llama.named_parameters()}
    text = rows(1)
    with torch.inference_mode():
        predict_rises(llama, errors, {"sw": text})
    assert {name: parameter.requires_grad for name, parameter in llama.named_parameters()} == before
    assert all(parameter.grad is None for parameter in llama.parameters())
    assert not any(module._forward_hooks for module in llama.modules())
    assert llama.training


def test_a_language_that_breaks_the_model_is_told_and_the_others_go_on(llama, errors):
    with torch.no_grad():
        llama.model.embed_tokens.weight[31] = torch.nan
    broken = [torch.full((1, 4), 31)]
    sound = [torch.zeros(1, 4, dtype=torch.long)]
    found = predict_rises(llama, errors, {"en": sound, "sw": broken})
    assert list(found.rises) == ["en"]
    assert "nan" in found.invalid["sw"]
    assert not any(module._forward_hooks for module in llama.modules())


def test_a_layer_that_no_token_reaches_costs_nothing(llama, errors):
    unused = nn.Linear(4, 4)
    llama.add_module("unused", unused)
    found = predict_rises(llama, {**errors, "unused": torch.ones(4, 4)}, {"sw": rows(1)}).rises["sw"]
    assert found.rise[0, 3] == found.activation[0, 3] == 0.0


def test_a_model_without_embeddings_is_refused():
    with pytest.raises(ModelError, match="Linear has no input embeddings"):
        predict_rises(nn.Linear(2, 2), {}, {"sw": rows(1)})

"""Harm of a layer, measured by putting it back to float."""

from __future__ import annotations

import copy

import pytest
import torch
from transformers import BloomConfig, BloomForCausalLM

from inc_laaciq.calibration.folding import Fold
from inc_laaciq.quant.solver import SolverSpec, solve
from inc_laaciq.tuning.sensitivity import TOKENS, layer_harm

LAYERS = ("transformer.h.0.mlp.dense_h_to_4h", "transformer.h.1.self_attention.dense")


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    config = BloomConfig(vocab_size=96, hidden_size=64, n_layer=2, n_head=4, initializer_range=0.3)
    return BloomForCausalLM(config).eval()


@pytest.fixture(scope="module")
def batches():
    generator = torch.Generator().manual_seed(1)
    return {tag: [torch.randint(0, 96, (2, 32), generator=generator) for _ in range(2)] for tag in ("en", "sw")}


def solved(model, **bits):
    return {
        name: solve(
            model.get_submodule(name).weight,
            SolverSpec(bits=bits.get(f"b{number}", 4), group_size=32, mode="fast"),
            None,
        )
        for number, name in enumerate(LAYERS)
    }


def loss(model, rows):
    return sum(float(model(input_ids=ids, labels=ids).loss) for ids in rows) / len(rows)


def test_harm_is_the_loss_that_a_layer_in_float_wins_back(model, batches):
    weights = solved(model, b0=2, b1=3)
    found = layer_harm(model, weights, batches)
    for left_out in LAYERS:
        whole, without = copy.deepcopy(model), copy.deepcopy(model)
        with torch.no_grad():
            for name, weight in weights.items():
                whole.get_submodule(name).weight.copy_(weight.dequantize())
                if name != left_out:
                    without.get_submodule(name).weight.copy_(weight.dequantize())
            for tag, rows in batches.items():
                assert found[left_out][tag] == pytest.approx(loss(whole, rows) - loss(without, rows), abs=1e-5)


def test_layers_in_float_are_scaled_as_the_others_are(model, batches):
    layer = LAYERS[0]
    norm = layer.replace("mlp.dense_h_to_4h", "post_attention_layernorm")
    scale = torch.exp2(torch.arange(64).remainder(7) - 3.0)
    fold = Fold(norm=norm, layers=(layer,), scale=scale)
    weights = solved(model, b0=2, b1=2)
    spec = SolverSpec(bits=2, group_size=32, mode="fast")
    weights[layer] = solve(model.get_submodule(layer).weight * scale, spec, None)
    found = layer_harm(model, weights, batches, folds=[fold])
    whole, without = copy.deepcopy(model), copy.deepcopy(model)
    with torch.no_grad():
        for changed in (whole, without):
            changed.get_submodule(LAYERS[1]).weight.copy_(weights[LAYERS[1]].dequantize())
        # Unscaled columns behind the norm as it is compute the same.
        whole.get_submodule(layer).weight.copy_(weights[layer].dequantize() / scale)
        for tag, rows in batches.items():
            assert found[layer][tag] == pytest.approx(loss(whole, rows) - loss(without, rows), abs=1e-5)


def test_a_coarse_layer_harms_more_than_a_fine_one(model, batches):
    coarse_first = layer_harm(model, solved(model, b0=2, b1=8), batches)
    coarse_second = layer_harm(model, solved(model, b0=8, b1=2), batches)
    for tag in batches:
        assert abs(coarse_first[LAYERS[0]][tag]) > 10 * abs(coarse_first[LAYERS[1]][tag])
        assert abs(coarse_second[LAYERS[1]][tag]) > 10 * abs(coarse_second[LAYERS[0]][tag])


def test_the_model_is_left_as_it_is(model, batches):
    before = {name: value.clone() for name, value in model.state_dict().items()}
    layer_harm(model, solved(model, b0=2, b1=2), batches)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_progress_is_told_for_every_layer(model, batches):
    told = []
    layer_harm(model, solved(model), batches, progress=lambda *step: told.append(step))
    assert told == [("measuring layers", 1, 2), ("measuring layers", 2, 2)]


def test_no_more_text_is_used_than_needed(model):
    seen = []
    rows = [torch.zeros(1, TOKENS // 2, dtype=torch.long) for _ in range(5)]
    original = type(model).forward
    try:
        type(model).forward = lambda self, input_ids, **more: (
            seen.append(input_ids) or original(self, input_ids, **more)
        )
        layer_harm(model, solved(model), {"en": rows})
    finally:
        type(model).forward = original
    assert len(seen) == (1 + len(LAYERS)) * 2

"""Layers solved in sequence."""

from __future__ import annotations

import copy

import pytest
import torch

from inc_laaciq.calibration.layers import linear_layer
from inc_laaciq.config import LaaciqSpec
from inc_laaciq.errors import NumericError
from inc_laaciq.fair.blocks import find_stack
from inc_laaciq.fair.sequential import advance, enter_text, solve_block
from inc_laaciq.layerwise import quantize_layers, solver_spec


def in_sequence(model, layers, batches, settings):
    stack = find_stack(model, [layer.name for layer in layers])
    weights, order = {}, []
    with torch.no_grad():
        entered = enter_text(model, stack, batches)
        for number, name in enumerate(stack.blocks):
            block = model.get_submodule(name)
            inside = {layer.name[len(name) + 1 :]: layer for layer in layers if stack.index(layer.name) == number}
            found = dict(
                solve_block(block, number, inside, entered.pieces, lambda layer: solver_spec(layer.weight, settings))
            )
            order += [f"{name}.{layer}" for layer in found]
            weights |= {f"{name}.{layer}": solved.weight for layer, solved in found.items()}
            advance(block, number, entered.pieces, {n: s.weight.dequantize() for n, s in found.items()})
    return weights, order, entered


def hidden_error(model, weights, batches):
    """Squared error of the last hidden states, relative, worst language."""
    changed = copy.deepcopy(model)
    errors = []
    with torch.no_grad():
        for name, weight in weights.items():
            linear_layer(changed, name).weight.copy_(weight.dequantize())
        for group in batches.values():
            pair = [
                m(input_ids=group[0], output_hidden_states=True, use_cache=False).hidden_states[-1]
                for m in (model, changed)
            ]
            errors.append(float((pair[0] - pair[1]).square().sum() / pair[0].square().sum()))
    return max(errors)


@pytest.fixture
def balanced():
    return LaaciqSpec(mode="balanced")


def test_every_layer_is_solved_in_the_order_in_which_it_runs(model, layers_of, batches, balanced):
    layers = layers_of(model)
    weights, order, _ = in_sequence(model, layers, batches, balanced)
    assert set(weights) == {layer.name for layer in layers}
    blocks = [name.split(".")[2] for name in order]
    assert blocks == sorted(blocks)


def test_the_first_layers_are_those_of_balanced_and_later_ones_are_not(bloom, layers_of, batches, balanced):
    layers = layers_of(bloom)
    weights, order, _ = in_sequence(bloom, layers, batches, balanced)
    plain = quantize_layers(bloom, layers, batches, balanced).weights
    assert torch.equal(weights[order[0]].codes, plain[order[0]].codes)
    assert not torch.equal(weights[order[-1]].codes, plain[order[-1]].codes)


def test_the_output_is_closer_than_with_layers_solved_apart(model, layers_of, batches, balanced):
    layers = layers_of(model)
    weights, _, _ = in_sequence(model, layers, batches, balanced)
    plain = quantize_layers(model, layers, batches, balanced).weights
    assert hidden_error(model, weights, batches) < 0.9 * hidden_error(model, plain, batches)


def test_the_text_that_left_the_stack_is_that_of_the_quantized_model(bloom, layers_of, batches, balanced):
    layers = layers_of(bloom)
    weights, _, entered = in_sequence(bloom, layers, batches, balanced)
    changed = copy.deepcopy(bloom)
    with torch.no_grad():
        for name, weight in weights.items():
            linear_layer(changed, name).weight.copy_(weight.dequantize())
        expected = changed(input_ids=batches["sw"][0]).logits
        found = changed.lm_head(changed.transformer.ln_f(entered.pieces["sw"][0].changed))
    torch.testing.assert_close(found, expected)


def test_the_float_model_is_not_changed(model, layers_of, batches, balanced):
    before = {name: value.clone() for name, value in model.state_dict().items()}
    in_sequence(model, layers_of(model), batches, balanced)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_a_language_that_breaks_the_float_model_is_left_out(llama, layers_of, batches, balanced):
    llama.model.embed_tokens.weight.data[90] = float("inf")  # a token of "sw" alone
    batches["sw"][0][0, 0] = 90
    _, _, entered = in_sequence(llama, layers_of(llama), batches, balanced)
    assert list(entered.pieces) == ["en"]
    assert "NaN" in entered.invalid["sw"]


def test_a_layer_that_cannot_be_solved_is_named(bloom, layers_of, batches, balanced, monkeypatch):
    from inc_laaciq.fair import sequential

    def fail(*_args):
        raise NumericError("no luck")

    monkeypatch.setattr(sequential, "solve_from", fail)
    with pytest.raises(NumericError, match=r"layer 'transformer\.h\.0.*': no luck"):
        in_sequence(bloom, layers_of(bloom), batches, balanced)

"""How far the quantized model is from the float one, against plain formulas."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from inc_laaciq.fair.blocks import enter, find_stack
from inc_laaciq.fair.distance import BlockDistance, BlockRow, ModelDistance, Row


def weights_of(module, factor=1.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {
        name: layer.weight.detach() + factor * 0.02 * torch.randn(layer.weight.shape, generator=generator)
        for name, layer in module.named_modules()
        if isinstance(layer, nn.Linear) and name != "lm_head"
    }


def directional(distance, weights, item, *, step=1e-2):
    """Derivative along a random direction: by autograd, and by differences."""
    generator = torch.Generator().manual_seed(9)
    direction = {name: torch.randn(value.shape, generator=generator) for name, value in weights.items()}
    size = sum(float(value.square().sum()) for value in direction.values()) ** 0.5
    leaves = {name: value.clone().requires_grad_() for name, value in weights.items()}
    distance(leaves, item).backward()
    exact = sum(float((leaves[name].grad * direction[name]).sum()) for name in leaves) / size
    ends = [
        float(distance({name: value + sign * step / size * direction[name] for name, value in weights.items()}, item))
        for sign in (1, -1)
    ]
    return exact, (ends[0] - ends[1]) / (2 * step)


def test_the_divergence_is_that_of_the_predictions(model, batches):
    weights, ids = weights_of(model), batches["en"][0][:1]
    found = ModelDistance(model, {"use_cache": False})(weights, Row(ids=ids))
    with torch.no_grad():
        p = model(input_ids=ids).logits.double().log_softmax(-1)
        for name, value in weights.items():
            model.get_submodule(name).weight.copy_(value)
        q = model(input_ids=ids).logits.double().log_softmax(-1)
    torch.testing.assert_close(found.double(), (p.exp() * (p - q)).sum(-1).mean(), rtol=1e-3, atol=1e-6)


def test_its_gradient_is_its_slope(model, batches):
    row = Row(ids=batches["en"][0][:1], labels=0.3)
    distance = ModelDistance(model, {"use_cache": False})
    for call in (distance, lambda weights, row: distance.with_labels(weights, row)[0]):
        exact, measured = directional(call, weights_of(model), row)
        assert abs(exact - measured) < 0.05 * abs(measured) + 1e-4


def test_labels_add_their_share_of_what_the_text_itself_loses(model, batches):
    weights, ids = weights_of(model), batches["en"][0][:1]
    distance = ModelDistance(model, {"use_cache": False})
    with torch.no_grad():
        p = model(input_ids=ids).logits.double().log_softmax(-1)[0, :-1]
        divergence = float(distance(weights, Row(ids=ids)))
        found, beside = distance.with_labels(weights, Row(ids=ids, labels=0.3))
        assert [float(part) for part in distance.with_labels(weights, Row(ids=ids))] == [divergence, divergence]
        assert float(distance(weights, Row(ids=ids, labels=0.3))) == float(beside) == divergence
        for name, value in weights.items():
            model.get_submodule(name).weight.copy_(value)
        q = model(input_ids=ids).logits.double().log_softmax(-1)[0, :-1]
    places = torch.arange(ids.shape[1] - 1)
    rise = float((p - q)[places, ids[0, 1:]].mean())
    assert abs(rise - divergence) > 1e-3  # or the two could not be told apart
    assert float(found) == pytest.approx(0.7 * divergence + 0.3 * rise, rel=1e-3)


def test_a_row_of_one_token_has_no_labels(bloom):
    weights, ids = weights_of(bloom), torch.tensor([[5]])
    distance = ModelDistance(bloom, {"use_cache": False})
    assert float(distance.with_labels(weights, Row(ids=ids, labels=0.5))[0]) == float(distance(weights, Row(ids=ids)))


def test_float_weights_are_no_distance_away(model, batches):
    weights = weights_of(model, factor=0.0)
    row = Row(ids=batches["en"][0][:1])
    assert abs(float(ModelDistance(model, {"use_cache": False})(weights, row))) < 1e-6


def block_row(model, batches):
    stack = find_stack(model, list(weights_of(model)))
    block = model.get_submodule(stack.blocks[0])
    with torch.no_grad():
        entry = enter(model, stack, batches["en"][0][:1])
        wanted = entry.calls[0].run(block, entry.hidden)
    root = torch.randn(2 * wanted.shape[-1:], generator=torch.Generator().manual_seed(3))
    return block, BlockRow(call=entry.calls[0], hidden=entry.hidden, wanted=wanted, fisher=root.T @ root)


def test_a_block_with_its_own_weights_is_no_distance_away_and_its_gradient_is_its_slope(model, batches):
    block, row = block_row(model, batches)
    distance = BlockDistance(block)
    assert float(distance(weights_of(block, factor=0.0), row)) < 1e-6
    exact, measured = directional(distance, weights_of(block), row)
    assert abs(exact - measured) < 0.05 * abs(measured) + 1e-4


def test_the_distance_of_a_block_is_half_its_error_as_the_predictions_feel_it(model, batches):
    block, row = block_row(model, batches)
    weights = weights_of(block)
    with torch.no_grad():
        distance = float(BlockDistance(block)(weights, row))
        for name, value in weights.items():
            block.get_submodule(name).weight.copy_(value)
        error = (row.call.run(block, row.hidden) - row.wanted).double()[0]
    expected = float(torch.stack([e @ row.fisher.double() @ e for e in error]).mean() / 2)
    assert abs(distance - expected) < 1e-3 * expected

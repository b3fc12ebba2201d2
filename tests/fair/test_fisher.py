"""How much the predictions feel an error behind a block, against errors that are really made."""

from __future__ import annotations

import pytest
import torch

from inc_laaciq.calibration.layers import find_layers
from inc_laaciq.errors import NumericError
from inc_laaciq.fair.blocks import find_stack
from inc_laaciq.fair.fisher import hidden_fisher
from inc_laaciq.layerwise import quantize_layers

SIZE = 1e-2


def stack_of(model, weight):
    return find_stack(model, [layer.name for layer in find_layers(model, weight) if layer.weight is not None])


def rows_of(batches):
    return [row[None] for row in batches["en"][0]]


def moved(model, block, ids, error):
    """KL(float || changed), summed over the row, if an error is added to what a block gives for some token."""

    def add(_module, _args, output):
        hidden = output[0] if isinstance(output, tuple) else output
        return (hidden + error, *output[1:]) if isinstance(output, tuple) else hidden + error

    with torch.no_grad():
        p = model(input_ids=ids).logits.double().log_softmax(-1)
        handle = model.get_submodule(block).register_forward_hook(add)
        q = model(input_ids=ids).logits.double().log_softmax(-1)
        handle.remove()
    return float((p.exp() * (p - q)).sum())


@pytest.mark.parametrize("number", [0, 1])
def test_it_is_the_divergence_that_errors_cause(model, batches, weight, number):
    stack, rows = stack_of(model, weight), rows_of(batches)
    found = sum(hidden_fisher(model, stack, number, rows, seed=seed) for seed in range(40)) / 40
    generator, expected, measured = torch.Generator().manual_seed(5), 0.0, 0.0
    for ids in rows:
        for token in range(ids.shape[1]):
            error = torch.zeros(1, ids.shape[1], len(found))
            error[0, token] = SIZE * torch.randn(len(found), generator=generator)
            expected += float(error[0, token] @ found @ error[0, token]) / 2
            measured += moved(model, stack.blocks[number], ids, error)
    assert abs(expected - measured) < 0.15 * measured


def test_it_is_symmetric_and_has_no_negative_direction(bloom, batches, weight):
    found = hidden_fisher(bloom, stack_of(bloom, weight), 0, rows_of(batches), seed=0)
    assert torch.equal(found, found.T)
    assert float(torch.linalg.eigvalsh(found.double()).min()) > -1e-6 * float(found.trace())


def test_the_model_is_left_as_it_was_and_may_be_frozen(model, batches, weight):
    stack, rows = stack_of(model, weight), rows_of(batches)
    found = hidden_fisher(model, stack, 0, rows, seed=0)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert torch.is_grad_enabled()
    model.requires_grad_(False)
    assert torch.equal(hidden_fisher(model, stack, 0, rows, seed=0), found)


def test_gradients_that_are_not_numbers_name_the_language(llama, layers_of, batches, settings):
    llama.model.norm.register_forward_hook(lambda _m, _a, output: output + (0 * output).abs().sqrt())
    with pytest.raises(NumericError, match=r"en: the gradients .* behind block model\.layers\.0 are NaN"):
        quantize_layers(llama, layers_of(llama), batches, settings("blocks", steps=2))

"""How much the predictions feel an error behind a block, against errors that are really made."""

from __future__ import annotations

import pytest
import torch

from inc_laaciq.calibration.layers import find_layers
from inc_laaciq.errors import NumericError
from inc_laaciq.fair import fisher, solve
from inc_laaciq.fair.blocks import find_stack
from inc_laaciq.fair.distance import BlockDistance
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
def test_it_is_the_divergence_that_errors_cause_in_every_direction(model, batches, weight, number, monkeypatch):
    monkeypatch.setattr(fisher, "_toward_identity", lambda found, _tokens: found)
    stack, rows = stack_of(model, weight), rows_of(batches)
    found = sum(hidden_fisher(model, stack, number, rows, seed=seed) for seed in range(40)) / 40
    values, directions = torch.linalg.eigh(found)
    assert values[-1] > 3 * values[len(values) // 4]  # what is felt much and what is felt little are told apart
    for direction in (directions[:, -1], directions[:, -4], directions[:, len(values) // 4]):
        expected = float(direction @ found @ direction) * SIZE**2 / 2
        each = []
        for ids in rows:
            for token in range(ids.shape[1]):
                error = torch.zeros(1, ids.shape[1], len(found))
                error[0, token] = SIZE * direction
                each.append(moved(model, stack.blocks[number], ids, error))
        measured = sum(each) / len(each)
        assert abs(expected - measured) < 0.25 * measured


def test_few_tokens_do_not_make_a_direction_free(bloom, batches, weight):
    stack, rows = stack_of(bloom, weight), [rows_of(batches)[0][:, :4]]
    found = hidden_fisher(bloom, stack, 0, rows, seed=0).double()
    mean = float(found.trace()) / len(found)
    assert float(torch.linalg.eigvalsh(found).min()) > 0.8 * mean  # 4 tokens of 32 features have a share of 1 / 9
    many = hidden_fisher(bloom, stack, 0, rows_of(batches), seed=0).double()
    assert float(torch.linalg.eigvalsh(many).min()) < 0.4 * float(many.trace()) / len(many)


def test_no_more_tokens_than_needed_pass(bloom, weight, monkeypatch):
    monkeypatch.setattr(fisher, "_TOKENS", 30)
    monkeypatch.setattr(fisher, "_LENGTH", 20)
    seen = []
    bloom.register_forward_pre_hook(lambda _m, _a, given: seen.append(given["input_ids"].shape), with_kwargs=True)
    hidden_fisher(
        bloom, stack_of(bloom, weight), 0, [torch.ones(1, n, dtype=torch.int64) for n in (40, 6, 9, 9)], seed=0
    )
    assert seen == [(1, 20), (1, 6), (1, 9)]


def test_it_is_symmetric_and_has_no_negative_direction(bloom, batches, weight):
    found = hidden_fisher(bloom, stack_of(bloom, weight), 0, rows_of(batches), seed=0)
    assert torch.allclose(found, found.T)
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


def test_a_language_of_no_weight_is_not_asked(llama, layers_of, batches, settings):
    llama.model.norm.register_forward_hook(lambda _m, _a, output: output + (0 * output).abs().sqrt())
    how = settings("blocks", steps=2, weights={"en": 0.0, "sw": 1.0})
    with pytest.raises(NumericError, match="sw: the gradients"):
        quantize_layers(llama, layers_of(llama), batches, how)


def test_each_language_goes_by_what_is_felt_in_its_own_text(bloom, layers_of, batches, settings, monkeypatch):
    given = []

    def record(block):
        def distance(weights, row):
            given.append((row.hidden.shape[1], row.fisher))
            return BlockDistance(block)(weights, row)

        return distance

    monkeypatch.setattr(solve, "BlockDistance", record)
    text = {"en": (batches["en"][0],), "sw": (batches["sw"][0][:, :20],)}
    tuning = quantize_layers(bloom, layers_of(bloom), text, settings("blocks", steps=2)).tuning
    assert tuning["tuned"] == "blocks"
    stack = find_stack(bloom, [layer.name for layer in layers_of(bloom)])
    for tag, length in (("en", 24), ("sw", 20)):
        found = [matrix for tokens, matrix in given if tokens == length]
        rows = [row[None] for row in text[tag][0]]
        expected = [hidden_fisher(bloom, stack, number, rows, seed=0) for number in (0, 1)]
        assert all(any(torch.equal(matrix, wanted) for wanted in expected) for matrix in found)
        assert all(any(torch.equal(matrix, wanted) for matrix in found) for wanted in expected)


def test_predictions_that_are_not_numbers_are_noticed(llama, layers_of, batches, settings):
    seen = []
    llama.register_forward_pre_hook(
        lambda _m, _a, given: seen.append(bool((given["input_ids"] == 90).any())), with_kwargs=True
    )
    llama.lm_head.register_forward_hook(lambda _m, _a, logits: logits * float("nan") if seen[-1] else logits)
    batches["en"] = tuple(ids.clamp_max(80) for ids in batches["en"])
    batches["sw"][0][0, 0] = 90
    solution = quantize_layers(llama, layers_of(llama), batches, settings("blocks", steps=2))
    assert list(solution.invalid) == ["sw"]

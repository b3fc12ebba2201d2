"""Mode `fair` as a whole, on tiny models."""

from __future__ import annotations

import copy

import pytest
import torch

from inc_laaciq.calibration.layers import find_layers, linear_layer, linearize
from inc_laaciq.config import LaaciqSpec
from inc_laaciq.errors import EvaluationError, ModelError, ResourceError, SpecError
from inc_laaciq.fair.tuning import Tuner
from inc_laaciq.layerwise import quantize_layers


def divergence(model, weights, batches):
    """KL(float || quantized) of every language, nats per token."""
    changed = copy.deepcopy(model)
    found = {}
    with torch.no_grad():
        for name, weight in weights.items():
            linear_layer(changed, name).weight.copy_(weight.dequantize())
        for tag, group in batches.items():
            p, q = (m(input_ids=group[0]).logits.double().log_softmax(-1) for m in (model, changed))
            found[tag] = float((p.exp() * (p - q)).sum(-1).mean())
    return found


@pytest.mark.parametrize("tune", ["model", "blocks", "none"])
def test_the_worst_language_is_closer_to_float_than_with_balanced(model, layers_of, batches, settings, tune):
    layers = layers_of(model)
    fair = quantize_layers(model, layers, batches, settings(tune, steps=20))
    balanced = quantize_layers(model, layers, batches, LaaciqSpec(mode="balanced"))
    assert set(fair.weights) == set(balanced.weights)
    assert max(divergence(model, fair.weights, batches).values()) < max(
        divergence(model, balanced.weights, batches).values()
    )
    assert fair.tuning["tuned"] == tune


def test_every_look_at_the_held_out_text_is_recorded_and_the_best_one_kept(bloom, layers_of, batches, settings):
    tuning = quantize_layers(bloom, layers_of(bloom), batches, settings(steps=50)).tuning
    assert [look["step"] for look in tuning["history"]] == [0, 20, 40, 50]
    worst = {look["step"]: max(look["losses"].values()) for look in tuning["history"]}
    assert worst[tuning["kept"]] == min(worst.values())


@pytest.mark.parametrize("tune", ["model", "blocks"])
def test_the_float_model_is_left_as_it_was(model, layers_of, batches, settings, tune):
    before = {name: value.clone() for name, value in model.state_dict().items()}
    quantize_layers(model, layers_of(model), batches, settings(tune, steps=2))
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_the_same_seed_gives_the_same_codes(bloom, layers_of, batches, settings):
    first, again = (quantize_layers(bloom, layers_of(bloom), batches, settings(steps=3)) for _ in range(2))
    for name, weight in first.weights.items():
        assert torch.equal(weight.codes, again.weights[name].codes)
        assert torch.equal(weight.scale, again.weights[name].scale)


def test_layers_come_in_the_order_of_the_model(bloom, layers_of, batches, settings):
    solution = quantize_layers(bloom, layers_of(bloom), batches, settings("none"))
    assert list(solution.weights) == [layer.name for layer in solution.layers]


def test_the_output_projection_is_solved_as_in_balanced(weight, batches, settings):
    from transformers import BloomConfig, BloomForCausalLM

    torch.manual_seed(0)
    config = BloomConfig(vocab_size=97, hidden_size=32, n_layer=1, n_head=4, tie_word_embeddings=False)
    model = BloomForCausalLM(config).eval()
    layers = find_layers(model, weight, lm_head=True)
    fair = quantize_layers(model, layers, batches, settings("none"))
    balanced = quantize_layers(model, layers, batches, LaaciqSpec(mode="balanced", lm_head=True))
    assert torch.equal(fair.weights["lm_head"].codes, balanced.weights["lm_head"].codes)


def test_a_language_that_breaks_the_float_model_is_named(llama, layers_of, batches, settings):
    llama.model.embed_tokens.weight.data[90] = float("inf")
    batches["sw"][0][0, 0] = 90
    solution = quantize_layers(llama, layers_of(llama), batches, settings(steps=2))
    assert list(solution.invalid) == ["sw"]
    assert all(set(look["losses"]) == {"en"} for look in solution.tuning["history"])


def test_a_float_model_that_is_broken_altogether_is_refused(bloom, layers_of, batches, settings):
    bloom.transformer.word_embeddings_layernorm.bias.data[:] = float("inf")
    with pytest.raises(EvaluationError, match="every language"):
        quantize_layers(bloom, layers_of(bloom), batches, settings())


def test_predictions_that_are_not_numbers_are_refused(bloom, layers_of, batches, settings):
    bloom.lm_head.register_forward_hook(lambda _m, _a, output: output * float("nan"))
    with pytest.raises(EvaluationError, match="every language, for example en: the model's predictions are NaN"):
        quantize_layers(bloom, layers_of(bloom), batches, settings(steps=2))


def test_predictions_that_are_not_numbers_in_any_language_are_an_error(llama, layers_of, batches, settings):
    llama.lm_head.weight.data[90] = float("nan")  # the head knows no language: all of them are broken
    with pytest.raises(EvaluationError, match="every language"):
        quantize_layers(llama, layers_of(llama), batches, settings(steps=2))


@pytest.mark.parametrize("row", [0, 5])
@pytest.mark.parametrize("tune", ["model", "blocks"])
def test_a_language_whose_predictions_alone_are_not_numbers_is_left_out(llama, layers_of, batches, settings, tune, row):
    seen = []
    llama.register_forward_pre_hook(
        lambda _m, _a, given: seen.append(bool((given["input_ids"] == 90).any())), with_kwargs=True
    )
    llama.lm_head.register_forward_hook(lambda _m, _a, logits: logits * float("nan") if seen[-1] else logits)
    batches["sw"][0][:] = batches["sw"][0].clamp(max=89)
    batches["sw"][0][row, 0] = 90
    solution = quantize_layers(llama, layers_of(llama), batches, settings(tune, steps=2))
    assert list(solution.invalid) == ["sw"]
    assert len(solution.weights) == len(layers_of(llama))


@pytest.mark.parametrize("tune", ["model", "blocks"])
def test_dropout_and_the_callers_inference_mode_do_not_matter(layers_of, batches, settings, tune):
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    config = GPT2Config(vocab_size=97, n_embd=32, n_layer=1, n_head=4, initializer_range=0.2)  # dropout 0.1
    model = linearize(GPT2LMHeadModel(config).eval())
    quiet = quantize_layers(model, layers_of(model), batches, settings(tune, steps=2))
    model.train()
    with torch.inference_mode():
        training = quantize_layers(model, layers_of(model), batches, settings(tune, steps=2))
    assert model.training
    for name, weight in quiet.weights.items():
        assert torch.equal(weight.codes, training.weights[name].codes)


def test_a_model_that_was_made_in_inference_mode_is_not_tuned(bloom, layers_of, batches, settings):
    with torch.inference_mode():
        model = copy.deepcopy(bloom)
    for tune in ("model", "blocks"):
        with pytest.raises(ModelError, match=r"word_embeddings.weight was made inside torch.inference_mode\(\)"):
            quantize_layers(model, layers_of(model), batches, settings(tune, steps=2))
    assert quantize_layers(model, layers_of(model), batches, settings("none")).weights


def test_a_buffer_that_was_made_in_inference_mode_is_no_obstacle(llama, layers_of, batches, settings):
    with torch.inference_mode():
        llama.model.rotary_emb.inv_freq = llama.model.rotary_emb.inv_freq.clone()
    assert quantize_layers(llama, layers_of(llama), batches, settings(steps=2)).weights


@pytest.mark.parametrize("tune", ["model", "blocks", "none"])
def test_languages_of_a_single_token_or_of_none_at_all_are_no_obstacle(bloom, layers_of, batches, settings, tune):
    text = {**batches, "yo": (batches["en"][0][:1, :1],), "zu": ()}
    for given in (text, dict.fromkeys(text, ())):
        solution = quantize_layers(bloom, layers_of(bloom), given, settings(tune, steps=2))
        assert not solution.invalid
        assert len(solution.weights) == len(layers_of(bloom))


@pytest.mark.parametrize("tune", ["model", "blocks"])
def test_only_a_language_that_fails_counts(llama, layers_of, batches, settings, tune):
    llama.model.embed_tokens.weight.data[90] = float("inf")
    batches["sw"][0][0, 0] = 90
    how = settings(tune, steps=2, weights={"en": 0.0, "sw": 1.0})
    solution = quantize_layers(llama, layers_of(llama), batches, how)
    assert list(solution.invalid) == ["sw"]
    assert len(solution.weights) == len(layers_of(llama))


def test_codes_do_not_depend_on_the_memory_that_is_free(bloom, layers_of, batches, settings, monkeypatch):
    from inc_laaciq.fair import solve

    how = settings("auto", steps=2)
    first = quantize_layers(bloom, layers_of(bloom), batches, how)
    monkeypatch.setattr(solve, "available_memory", lambda: 1)
    with pytest.raises(ResourceError, match=r"la_aciq\.fair\.tune to blocks"):
        quantize_layers(bloom, layers_of(bloom), batches, how)
    monkeypatch.setattr(solve, "_WHOLE", 1)
    monkeypatch.setattr(solve, "available_memory", lambda: 1 << 20)
    assert first.tuning["tuned"] == "model"
    assert quantize_layers(bloom, layers_of(bloom), batches, how).tuning["tuned"] == "blocks"


@pytest.mark.parametrize("tune", ["none", "blocks"])
def test_blocks_that_do_not_fit_are_refused_before_they_are_solved(layers_of, batches, settings, monkeypatch, tune):
    from transformers import LlamaConfig, LlamaForCausalLM

    from inc_laaciq.fair import solve

    model = LlamaForCausalLM(
        LlamaConfig(vocab_size=97, hidden_size=32, intermediate_size=1024, num_hidden_layers=1, num_attention_heads=4)
    ).eval()
    statistics = 2 * 4 * 1024 * 1024 * len(batches)
    monkeypatch.setattr(solve, "available_memory", lambda: statistics)
    with pytest.raises(ResourceError, match=r"mode 'fair' for the largest block needs about 0\.0 GB "):
        quantize_layers(model, layers_of(model), batches, settings(tune, steps=2))
    monkeypatch.setattr(solve, "available_memory", lambda: statistics + (4 << 20))
    assert quantize_layers(model, layers_of(model), batches, settings(tune, steps=2)).weights


def test_nothing_to_do_in_the_blocks_is_no_error(bloom, batches, settings):
    assert not quantize_layers(bloom, [], batches, settings()).weights


def test_natural_needs_a_share_of_every_language(bloom, layers_of, batches, settings):
    with pytest.raises(SpecError, match="no training share for sw"):
        quantize_layers(bloom, layers_of(bloom), batches, settings(reconcile="natural", shares={"en": 0.5}, steps=2))


def test_it_needs_text(bloom, layers_of, settings):
    with pytest.raises(SpecError, match="mode 'fair' needs calibration text"):
        quantize_layers(bloom, layers_of(bloom), None, settings())


def test_weights_and_shares_reach_the_tuning(bloom, layers_of, batches, settings):
    plain = quantize_layers(bloom, layers_of(bloom), batches, settings(steps=3))
    weighted = quantize_layers(bloom, layers_of(bloom), batches, settings(steps=3, weights={"sw": 5.0}))
    shares = quantize_layers(
        bloom, layers_of(bloom), batches, settings(steps=3, reconcile="natural", shares={"en": 0.9, "sw": 0.1})
    )
    for other in (weighted, shares):
        assert any(not torch.equal(plain.weights[n].scale, other.weights[n].scale) for n in plain.weights)


def test_progress_counts_up_to_the_end(bloom, layers_of, batches, settings):
    seen = {}
    quantize_layers(
        bloom,
        layers_of(bloom),
        batches,
        settings(steps=4),
        progress=lambda stage, done, total: seen.setdefault(stage, []).append((done, total)),
    )
    assert list(seen) == ["calibrating", "checking", "solving", "tuning"]
    for steps in seen.values():
        assert steps[-1][0] == steps[-1][1]
        assert [done for done, _ in steps] == sorted(done for done, _ in steps)


def test_a_block_is_looked_at_before_and_after_it_is_tuned_on_rows_that_are_held_out(
    bloom, layers_of, batches, settings, monkeypatch
):
    results = []
    run = Tuner.run

    def record(tuner, progress=None):
        results.append(run(tuner, progress))
        return results[-1]

    monkeypatch.setattr(Tuner, "run", record)
    quantize_layers(bloom, layers_of(bloom), batches, settings("blocks", steps=30))
    assert [[look["step"] for look in result.history] for result in results] == 2 * [[0, 30]]
    assert all(result.is_held_out for result in results)

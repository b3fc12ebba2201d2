"""Static INT8 through Neural Compressor's FX adaptor: solved codes, solved scales, language-aware ranges."""

from __future__ import annotations

import copy

import pytest
import torch
from neural_compressor import quantization
from neural_compressor.config import PostTrainingQuantConfig, TuningCriterion
from neural_compressor.utils.pytorch import load

import inc_laaciq
from inc_laaciq.backends.inc_fit import post_training_config
from inc_laaciq.calibration.collect import collect
from inc_laaciq.config import run_spec
from inc_laaciq.errors import SpecError
from inc_laaciq.quant.activation import static_range

pytestmark = pytest.mark.inc


def config(**settings):
    criterion = TuningCriterion(strategy="la_aciq", strategy_kwargs=settings)
    return PostTrainingQuantConfig(approach="static", excluded_precisions=["bf16"], tuning_criterion=criterion)


def input_scale(quantized, name):
    """Scale of the input of a layer in Neural Compressor's result, from the graph around it."""
    prefix, _, rest = name.rpartition(".h.")
    block, _, layer = rest.partition(".")
    return float(quantized.model.state_dict()[f"{prefix}.h.{block}.{layer.replace('.', '_')}_input_scale_0"])


def test_codes_scales_and_ranges_are_the_solved_ones(bloom, batches):
    before = {name: tensor.clone() for name, tensor in bloom.state_dict().items()}
    quantized = quantization.fit(bloom, config(), calib_dataloader=inc_laaciq.LanguageLoader(batches))
    for name, tensor in bloom.state_dict().items():
        assert torch.equal(tensor, before[name]), f"{name} of the float model was changed"
    solution = quantized.la_aciq
    assert len(solution.weights) == 8
    for name, weight in solution.weights.items():
        packed = quantized.model.get_submodule(name).weight()
        assert torch.equal(packed.int_repr(), weight.codes), name
        assert torch.equal(packed.q_per_channel_scales().float(), weight.scale[:, 0]), name
        limits = solution.ranges[name]
        assert input_scale(quantized, name) == pytest.approx((limits.maximum - limits.minimum) / 255, rel=1e-5)
    # Neural Compressor wraps lone layers; what is inside is still float.
    assert isinstance(quantized.model.transformer.word_embeddings.module, torch.nn.Embedding)
    assert type(quantized.model.lm_head.module) is torch.nn.Linear


def test_ranges_are_those_of_listed_languages(bloom, batches):
    def ranges(batches, **settings):
        loader = inc_laaciq.LanguageLoader(batches)
        return quantization.fit(bloom, config(**settings), calib_dataloader=loader).la_aciq.ranges

    assert ranges(batches, languages=["sw"]) == ranges({"sw": batches["sw"]}) != ranges(batches)


def test_save_and_load_give_the_same_logits(bloom, batches):
    quantized = quantization.fit(bloom, config(), calib_dataloader=inc_laaciq.LanguageLoader(batches))
    ids = batches["sw"][0]
    expected = quantized.model(input_ids=ids).logits
    torch.testing.assert_close(expected, bloom(ids).logits, atol=0.05, rtol=0)
    quantized.save("saved")
    assert torch.equal(load("saved", copy.deepcopy(bloom))(input_ids=ids).logits, expected)


def test_range_is_wide_enough_for_the_language_that_needs_most_where_the_rule_is_max(bloom, batches):
    run = run_spec(
        {
            "quantization": {"approach": "post_training_static_quant"},
            "la_aciq": {"range_reconcile": "max", "calibration": {"texts": "unused"}},
        }
    )

    def solved(batches):
        loader = inc_laaciq.LanguageLoader(batches)
        return quantization.fit(bloom, post_training_config(run), calib_dataloader=loader).la_aciq

    alone = {tag: solved({tag: rows}) for tag, rows in batches.items()}
    for name, both in solved(batches).ranges.items():
        assert both.maximum == pytest.approx(max(one.ranges[name].maximum for one in alone.values()))
        assert both.minimum == pytest.approx(min(one.ranges[name].minimum for one in alone.values()))


def test_minmax_and_kl_leave_the_ranges_to_neural_compressor(bloom, batches):
    loader = inc_laaciq.LanguageLoader(batches)
    fits = {"la_aciq": quantization.fit(bloom, config(), calib_dataloader=loader)}
    for algorithm in ("minmax", "kl"):
        run = run_spec(
            {
                "quantization": {
                    "approach": "post_training_static_quant",
                    "model_wise": {"activation": {"algorithm": algorithm}},
                },
                "strategy": "la_aciq",
                "la_aciq": {"calibration": {"texts": "unused"}},
            }
        )
        fits[algorithm] = quantization.fit(bloom, post_training_config(run), calib_dataloader=loader)
    name = "transformer.h.1.mlp.dense_4h_to_h"
    scales = {algorithm: input_scale(quantized, name) for algorithm, quantized in fits.items()}
    assert len(set(scales.values())) == 3, scales
    assert scales["kl"] < scales["minmax"]


def test_minmax_sees_the_last_language_however_many_batches_come_before(bloom, batches):
    minmax = {"approach": "post_training_static_quant", "model_wise": {"activation": {"algorithm": "minmax"}}}
    run = run_spec({"quantization": minmax, "la_aciq": {"calibration": {"texts": "unused"}}})
    english = [batches["en"][0][:1, :4]] * 100  # as many batches as Neural Compressor takes by itself
    one, both = (
        quantization.fit(bloom, post_training_config(run), calib_dataloader=inc_laaciq.LanguageLoader(texts))
        for texts in ({"en": english}, {"en": english, "sw": batches["sw"]})
    )
    for name in both.la_aciq.weights:
        assert input_scale(one, name) != input_scale(both, name), name


def test_no_text_is_refused(bloom):
    with pytest.raises(SpecError, match="static INT8 needs calibration text"):
        quantization.fit(bloom, config())


def test_a_static_fit_after_a_weight_only_fit_is_not_disturbed(bloom, batches):
    loader = inc_laaciq.LanguageLoader(batches)
    weight_only = PostTrainingQuantConfig(
        approach="weight_only", tuning_criterion=TuningCriterion(strategy="la_aciq", strategy_kwargs={"mode": "fast"})
    )
    quantization.fit(bloom, weight_only)
    quantized = quantization.fit(bloom, config(), calib_dataloader=loader)
    assert {layer.weight.bits for layer in quantized.la_aciq.layers if layer.weight} == {8}


def test_ranges_are_by_default_those_on_which_rounding_loses_least(bloom, batches):
    fitted = quantization.fit(bloom, config(), calib_dataloader=inc_laaciq.LanguageLoader(batches)).la_aciq
    name = "transformer.h.1.mlp.dense_4h_to_h"
    moments = collect(bloom, batches, [name], full=False, counted=True).moments[name]
    expected = static_range({tag: one.activation for tag, one in moments.items()}, 8, reconcile="error")
    assert fitted.ranges[name] == expected

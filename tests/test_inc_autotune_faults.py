"""What is wrong with Neural Compressor's own `autotune`, and `autotune` here goes around: a repair would show."""

from __future__ import annotations

import copy
import warnings
from importlib import metadata

import pytest
import torch
from autotune_figures import Scores, bits_of
from packed_models import grown, ids, llama, logits

with warnings.catch_warnings():  # Neural Compressor and what it imports warn while they are imported
    warnings.simplefilter("ignore")
    pytest.importorskip("neural_compressor.torch.quantization", exc_type=ImportError)
    try:
        from neural_compressor.torch.quantization import HQQConfig, RTNConfig, TuningConfig, autotune, quantize
    except ImportError:
        pytest.skip("neural-compressor 2.6 has no autotune", allow_module_level=True)

IS_OLD = metadata.version("neural-compressor").startswith("3.7")

pytestmark = [pytest.mark.inc, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module")
def model():
    return grown(llama)


def rtn(bits, **settings):
    return RTNConfig(bits=bits, use_layer_wise=False, **settings)


def test_the_best_failing_model_is_returned_without_a_word(model):
    best = autotune(model, TuningConfig(config_set=[rtn(3), rtn(2)]), Scores(1.0, 0.5, 0.4))
    assert bits_of(best) == [3]


def test_a_configuration_with_several_values_is_refused_unless_in_a_list(model):
    with pytest.raises(TypeError, match="not iterable"):
        autotune(model, TuningConfig(config_set=rtn([2, 3])), Scores(1.0, 1.0))


def test_a_baseline_of_zero_is_divided_by(model):
    with pytest.raises(ZeroDivisionError):
        autotune(model, TuningConfig(config_set=[rtn(4)]), Scores(0.0, 0.0))


def test_figures_by_language_are_a_type_error_after_the_whole_trial(model):
    figures = Scores({"en": 10.0}, {"en": 10.1})
    with pytest.raises(TypeError):
        autotune(model, TuningConfig(config_set=[rtn(4)]), figures)
    assert figures.calls == 2


def test_a_lossless_trial_fails_where_the_metric_is_negative(model):
    scores = Scores(-10.0, -10.0, -10.0)
    autotune(model, TuningConfig(config_set=[rtn(4), rtn(8)]), scores)
    assert scores.calls == 3


def test_equal_configurations_are_run_again(model):
    scores = Scores(1.0, 0.5, 0.5, 0.5)
    autotune(model, TuningConfig(config_set=[rtn(3), rtn(3), rtn(3)]), scores)
    assert scores.calls == 4


def test_configurations_that_are_added_quantize_nothing(model):
    quantized = quantize(copy.deepcopy(model), rtn(2) + HQQConfig(bits=4))
    assert torch.equal(logits(quantized), logits(model))


def test_added_configurations_cannot_be_compared():
    def both(bits):
        first = rtn(bits, white_list=["model.layers.0.*"])
        return first + HQQConfig(bits=4, white_list=["model.layers.1.*"])

    with pytest.raises(AttributeError, match="_local_config"):
        assert both(2) == both(3)


def test_eight_bits_asym_are_worse_than_two_bits(model):
    def error(config):
        return float((logits(quantize(copy.deepcopy(model), config)) - logits(model)).abs().mean())

    assert error(rtn(8, use_sym=False)) > error(rtn(2)) > 10 * error(rtn(8))


@pytest.mark.skipif(IS_OLD, reason="neural-compressor 3.7 leaves the weights in memory as they are")
def test_rtn_takes_the_weights_on_disk_for_those_in_memory(model, tmp_path):
    from transformers import AutoModelForCausalLM

    model.save_pretrained(tmp_path)
    changed = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        changed.model.layers[0].mlp.up_proj.weight.zero_()
    quantized = quantize(copy.deepcopy(changed), RTNConfig(bits=8))
    layer = quantized.model.layers[0].mlp.up_proj
    quantized(ids())
    assert float(layer.recover().abs().max()) > 0

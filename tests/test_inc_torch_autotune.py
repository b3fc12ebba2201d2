"""The gate in Neural Compressor's `autotune`: scripted figures on a tiny model."""

from __future__ import annotations

import math
import warnings

import pytest
import torch
from autotune_figures import BAD, BASE, GOOD, Figures, Scores, bits_of, policy, rtn, tune
from packed_models import grown, llama, logits

with warnings.catch_warnings():  # Neural Compressor and what it imports warn while they are imported
    warnings.simplefilter("ignore")
    pytest.importorskip("neural_compressor.torch.quantization", exc_type=ImportError)
    try:
        from neural_compressor.torch.quantization import GPTQConfig, HQQConfig, RTNConfig, TuningConfig, autotune
    except ImportError:
        pytest.skip("neural-compressor 2.6 has no autotune", allow_module_level=True)

import inc_laaciq
from inc_laaciq.errors import AutotuneError, BackendError, SpecError

pytestmark = [pytest.mark.inc, pytest.mark.filterwarnings("ignore")]

LAYERS = 14


@pytest.fixture(scope="module")
def model():
    return grown(llama)


def test_a_rejected_width_is_followed_by_one_that_passes(model):
    before = logits(model)
    figures = Figures(BASE, BAD, GOOD)
    result = tune(model, rtn([4, 3, 8]), figures)
    assert figures.models == [[], [3], [4]]
    assert result.is_accepted
    assert result.verdict == result.document["verdict"] == "PASS"
    assert bits_of(result.model) == [result.config.bits] == [4]
    assert [trial["verdict"] for trial in result.trials] == ["FAIL", "PASS"]
    assert [trial["kept"] for trial in result.trials] == [False, True]
    assert result.trials[0]["reasons"][0].startswith("FAIL sw")
    assert [trial["quantized_layers"] for trial in result.trials] == [LAYERS, LAYERS]
    assert result.trials[0]["description"] == "RTNConfig(bits=3)"
    assert len(result.untried) == 1
    assert result.untried[0].startswith("RTNConfig(bits=8) (expected: ")
    assert torch.equal(logits(model), before)


def test_a_disaster_skips_widths_that_one_after_the_other_would_be_tried(model):
    figures = Figures(BASE, {"en": 10.0, "sw": 10.0 * 1.05**50}, GOOD)
    result = tune(model, rtn([2, 3, 4, 5, 6, 8]), figures)
    assert figures.models == [[], [2], [4]]
    assert len(result.untried) == 4
    by_turns = Scores(1.0, 0.5, 0.5, 1.0)
    autotune(model, TuningConfig(config_set=[rtn([2, 3, 4, 5, 6, 8], use_layer_wise=False)]), by_turns)
    assert by_turns.calls == 1 + 3


def test_if_nothing_passes_there_is_no_model_and_all_is_told(model):
    quantized = []
    figures = Figures(BASE, BAD, {"en": 10.0, "sw": 19.0})
    message = r"Tried: trial 1, RTNConfig\(bits=2\): FAIL sw.*trial 2, RTNConfig\(bits=3\): FAIL sw"
    with pytest.raises(AutotuneError, match=message) as error:
        tune(model, [rtn(2), rtn(3)], figures, run_fn=quantized.append)
    assert [trial["verdict"] for trial in error.value.trials] == ["FAIL", "FAIL"]
    assert len(quantized) == 2  # and not the best one a second time


def test_the_best_failing_model_is_given_on_request_and_marked(model):
    figures = Figures(BASE, {"en": 10.0, "sw": 13.0}, BAD, {"en": 10.0, "sw": 12.0})
    result = tune(model, rtn([2, 3, 4]), figures, keep_best=True)
    assert figures.models == [[], [2], [3], [4]]
    assert not result.is_accepted
    assert result.verdict == "FAIL"
    assert bits_of(result.model) == [result.config.bits] == [3]
    assert [trial["kept"] for trial in result.trials] == [False, True, False]


def test_the_number_of_trials_is_kept_and_what_was_not_tried_is_told(model):
    figures = Figures(BASE, BAD)
    with pytest.raises(AutotuneError, match=r"Not tried: RTNConfig\(bits=8\) \(expected"):
        tune(model, rtn([3, 4, 8]), figures, max_trials=2)
    assert len(figures.models) == 1 + 2
    figures = Figures(BASE, BAD)
    with pytest.raises(AutotuneError):
        tune(model, TuningConfig(config_set=rtn([3, 4, 8]), max_trials=1), figures)
    assert len(figures.models) == 1 + 1


@pytest.mark.parametrize(
    ("figures", "reason"),
    [
        ({"en": 10.0, "sw": math.nan}, "NOT-RUN sw"),
        ({"en": 10.0}, "NOT-RUN sw: not evaluated, the candidate has no results"),
    ],
)
def test_a_language_without_a_figure_never_passes(model, figures, reason):
    with pytest.raises(AutotuneError, match=reason):
        tune(model, rtn([4, 8]), Figures(BASE, figures))


def test_a_language_that_is_asked_for_has_to_be_there(model):
    with pytest.raises(AutotuneError, match="NOT-RUN tr"):
        tune(model, [rtn(4), rtn(8)], Figures(BASE, GOOD), languages=["en", "tr"])


def test_one_number_is_refused_in_words(model):
    with pytest.raises(SpecError, match=r"figures by language.* or measure='perplexity' in inc_laaciq\.autotune"):
        inc_laaciq.autotune(model, rtn(4), policy=policy(), eval_fn=lambda _: 0.97)


def test_numbers_by_language_can_be_named_beside(model):
    result = inc_laaciq.autotune(model, rtn(4), policy=policy(), eval_fn=lambda _: {"en": 2.0}, measure="loss")
    assert result.verdict == "PASS"


def test_a_policy_file_does_as_well(model, tmp_path):
    file = tmp_path / "gate.yaml"
    file.write_text("version: 1\nmax_degradation: 5%\n", encoding="utf-8")
    result = inc_laaciq.autotune(model, rtn([3, 4]), policy=file, eval_fn=Figures(BASE, BAD, GOOD))
    assert result.config.bits == 4


def test_an_error_in_the_evaluation_keeps_the_trials_before_it(model):
    figures = Figures(BASE, BAD, ValueError("disk is gone"))
    with pytest.raises(
        AutotuneError, match=r"trial 2: RTNConfig\(\): it ended in an error: ValueError: disk is gone"
    ) as error:
        tune(model, rtn([3, 4]), figures)
    assert [trial["description"] for trial in error.value.trials] == ["RTNConfig(bits=3)"]
    assert isinstance(error.value.__cause__, ValueError)


def test_an_error_in_neural_compressor_names_the_trial(model):
    with pytest.raises(AutotuneError, match=r"trial 1: GPTQConfig\(bits=3\): it ended in an error"):
        tune(model, GPTQConfig(bits=3), Figures(BASE))  # it wants a run_fn


def test_a_baseline_of_no_loss_is_no_division_by_zero(model):
    result = inc_laaciq.autotune(model, rtn(4), policy=policy(), eval_fn=lambda _: {"loss": {"en": 0.0}})
    assert result.verdict == "PASS"


def test_equal_configurations_are_tried_once(model):
    figures = Figures(BASE, BAD)
    used = rtn(3)
    used.to_config_mapping(model_info=used.get_model_info(model))  # as Neural Compressor leaves it
    with pytest.raises(AutotuneError):
        tune(model, [rtn(3), rtn(3), used, rtn(3, white_list=[torch.nn.Linear])], figures)
    assert figures.models == [[], [3]]


def test_eight_bits_asym_are_left_out(model, caplog):
    figures = Figures(BASE, BAD)
    with pytest.raises(AutotuneError):
        tune(model, rtn(8, use_sym=[True, False]), figures)
    assert figures.models == [[], [8]]
    assert "unpacks 8-bit asymmetric weights wrongly" in caplog.text
    with pytest.raises(SpecError, match="use_sym=True"):
        tune(model, rtn(8, use_sym=False), figures)


def test_what_would_quantize_nothing_is_refused_before_anything_is_tried(model):
    figures = Figures(BASE)
    for config in (rtn(4, dtype="fp32"), rtn(4, white_list=["no such layer"])):
        with pytest.raises(SpecError, match="quantizes no layer"):
            tune(model, [rtn(3), config], figures)
    assert figures.models == []


def test_what_turns_out_to_have_quantized_nothing_is_no_pass(model):
    class Nothing(RTNConfig):
        """Looks like RTN, but no algorithm of Neural Compressor has this name."""

        name = "nothing"

    with pytest.raises(BackendError, match=r"trial 1: Nothing\(bits=3\): it quantized nothing"):
        tune(model, Nothing(bits=3), Figures(BASE, BASE))


def test_configurations_that_are_added_are_refused_unless_by_layer(model):
    with pytest.raises(SpecError, match="into a list"):
        tune(model, rtn(4) + HQQConfig(bits=4), Figures(BASE))
    parts = [GPTQConfig(bits=4, white_list=["model.layers.1.self_attn.*"]), rtn(4, white_list=[torch.nn.Linear])]
    with pytest.raises(SpecError, match="into a list"):
        tune(model, parts[0] + parts[1], Figures(BASE))

    def both(bits):
        return rtn(bits, white_list=["model.layers.0.*"]) + GPTQConfig(bits=4, white_list=["model.layers.1.*"])

    with pytest.raises(SpecError, match="cannot compare"):
        tune(model, [both(2), both(3)], Figures(BASE))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"eval_fn": None}, "either eval_fn"),
        ({"texts": "folder"}, "either eval_fn"),
        ({"eval_fn": None, "texts": "folder"}, "tokenizer"),
        ({"max_trials": 0}, "max_trials"),
        ({"eval_fn": inc_laaciq.LanguageCriterion(lambda _: 1, policy())}, "LanguageCriterion"),
        ({"tune_config": "rtn"}, "holds str"),
        ({"tune_config": []}, "nothing to try"),
        ({"tune_config": TuningConfig(config_set=rtn(4), tolerable_loss=0.1)}, "tolerable_loss"),
        ({"model": "folder"}, "torch module"),
    ],
)
def test_wrong_arguments_are_told(model, settings, message):
    arguments = {"model": model, "tune_config": rtn(4), "policy": policy(), "eval_fn": Figures(BASE), **settings}
    with pytest.raises(SpecError, match=message):
        inc_laaciq.autotune(arguments.pop("model"), arguments.pop("tune_config"), **arguments)


def test_weights_in_memory_are_quantized_and_not_those_on_disk(model, tmp_path):
    from transformers import AutoModelForCausalLM

    model.save_pretrained(tmp_path)
    changed = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        changed.model.layers[0].mlp.up_proj.weight.zero_()
    result = tune(changed, RTNConfig(bits=8), Figures(BASE, GOOD))
    assert float((logits(result.model) - logits(changed)).abs().max()) < 0.1 * float(logits(changed).abs().max())
    assert float(result.model.model.layers[0].mlp.up_proj.recover().abs().max()) == 0


def test_models_of_earlier_trials_do_not_pile_up(model):
    result = tune(model, rtn([2, 3, 4, 5, 8]), Figures(BASE, BAD, BAD, BAD, GOOD))
    assert len(result.trials) == 4
    assert result.peak_models == 3  # Neural Compressor has the last one while it makes the next


def test_progress_is_told_trial_by_trial(model):
    told = []
    tune(model, rtn([3, 4]), Figures(BASE, BAD, GOOD), progress=lambda *stage: told.append(stage))
    assert told == [("trial 1: RTNConfig(bits=3)", 0, 2), ("trial 2: RTNConfig()", 1, 2)]

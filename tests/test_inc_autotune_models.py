"""`autotune` with the shipped model and its text, and with algorithms that are calibrated."""

from __future__ import annotations

import contextlib
import warnings
from pathlib import Path

import pytest
import torch
from autotune_figures import BAD, BASE, GOOD, Figures, bits_of, policy, rtn, tune
from packed_models import VOCABULARY, grown, llama, logits

with warnings.catch_warnings():  # Neural Compressor and what it imports warn while they are imported
    warnings.simplefilter("ignore")
    pytest.importorskip("neural_compressor.torch.quantization", exc_type=ImportError)
    try:
        from neural_compressor.torch.quantization import GPTQConfig, RTNConfig, autotune, load  # noqa: F401
    except ImportError:
        pytest.skip("neural-compressor 2.6 has no autotune", allow_module_level=True)

import inc_laaciq
from inc_laaciq.errors import AutotuneError, BackendError
from inc_laaciq.report.junit import to_junit

pytestmark = [pytest.mark.inc, pytest.mark.filterwarnings("ignore")]

SMALL = Path(__file__).parents[1] / "recipes" / "small_bloom"


@pytest.fixture(scope="module")
def model():
    return grown(llama)


@pytest.fixture(scope="module")
def shipped():
    from inc_laaciq.checkpoint import load_model

    return load_model(SMALL / "model")


def on_text(shipped, configs, bound, tokens=2048, gate=None, **settings):
    return inc_laaciq.autotune(
        shipped.model,
        configs,
        policy=policy(bound, **(gate or {})),
        texts=SMALL / "text" / "evaluation",
        tokenizer=shipped.tokenizer,
        languages=["fi", "tr"],
        tokens_per_language=tokens,
        **settings,
    )


def test_real_text_rejects_two_bits_and_goes_where_a_pass_is_plausible(shipped):
    stages = []
    result = on_text(
        shipped, RTNConfig(bits=[2, 3, 4, 8], group_size=64), "4%", progress=lambda stage, *_: stages.append(stage)
    )
    assert [trial["description"] for trial in result.trials] == [
        "RTNConfig(bits=2, group_size=64)",
        "RTNConfig(group_size=64)",
    ]
    assert result.trials[0]["reasons"][0].startswith("FAIL fi: relative perplexity +3")
    assert result.verdict == "PASS"
    assert 0 < result.document["languages"]["fi"]["relative_perplexity"] < 0.04
    assert result.trials[1]["bits"] == pytest.approx(4.25)
    assert result.peak_models == 2  # a rejected model is freed before the next one is made
    assert {"evaluating float", "evaluating trial 1", "trial 2: RTNConfig(group_size=64)"} <= set(stages)
    ids_of = shipped.tokenizer("Valitse", return_tensors="pt").input_ids
    assert torch.isfinite(result.model(input_ids=ids_of).logits).all()


def test_what_the_text_cannot_decide_is_up_to_policy_and_strictness(shipped):
    configs = RTNConfig(bits=3, group_size=64)
    result = on_text(shipped, configs, "14%", tokens=1024, gate={"min_sentences": 2})
    assert (result.verdict, result.is_accepted) == ("INCONCLUSIVE", True)
    assert bits_of(result.model) == [3]
    assert 'failures="0"' in to_junit(result.document)
    with pytest.raises(AutotuneError, match="INCONCLUSIVE"):
        on_text(shipped, configs, "14%", tokens=1024, gate={"min_sentences": 2}, strict=True)
    kept = on_text(shipped, configs, "14%", tokens=1024, gate={"min_sentences": 2}, strict=True, keep_best=True)
    assert (kept.verdict, kept.is_accepted) == ("INCONCLUSIVE", False)
    assert 'failures="0"' not in to_junit(kept.document)
    with pytest.raises(AutotuneError, match="INCONCLUSIVE"):
        on_text(shipped, configs, "14%", tokens=1024, gate={"min_sentences": 2, "inconclusive": "fail"})


def calibrate(batches):
    """A run_fn; Neural Compressor's GPTQ ends it with an error once it has the inputs of the first block."""

    def run(model):
        for batch in batches():
            with contextlib.suppress(ValueError):
                model(batch)

    return run


def test_gptq_is_calibrated_and_a_calibration_that_changes_is_noticed(model, tmp_path):
    from transformers import AutoModelForCausalLM

    model.save_pretrained(tmp_path)
    on_disk = AutoModelForCausalLM.from_pretrained(tmp_path).eval()  # GPTQ wants to know a folder, whatever is in it
    rows = [torch.randint(0, VOCABULARY, (1, 32), generator=torch.Generator().manual_seed(seed)) for seed in range(4)]
    configs = GPTQConfig(bits=3)
    result = tune(on_disk, configs, Figures(BASE, BAD), keep_best=True, run_fn=calibrate(lambda: rows))
    assert bits_of(result.model) == [3]
    turns = iter([rows[:2], rows[2:]])
    with pytest.raises(BackendError, match="another model than the one that was judged"):
        tune(on_disk, configs, Figures(BASE, BAD), keep_best=True, run_fn=calibrate(lambda: next(turns)))


def test_what_is_kept_can_be_saved_and_loaded(model, tmp_path):
    result = tune(model, rtn([3, 4]), Figures(BASE, BAD, GOOD))
    result.model.save(str(tmp_path))
    loaded = load(str(tmp_path), original_model=grown(llama))
    assert bits_of(loaded) == [4]
    assert torch.equal(logits(loaded), logits(result.model))


def test_la_aciq_is_tried_beside_neural_compressors_own(model):
    rows = {"en": [torch.randint(0, VOCABULARY, (2, 32), generator=torch.Generator().manual_seed(0))]}
    figures = Figures(BASE, BAD, GOOD)
    result = tune(
        model,
        [rtn(3), inc_laaciq.LAACIQConfig(bits=[3, 4], group_size=32)],
        figures,
        run_fn=inc_laaciq.calibrate(inc_laaciq.LanguageLoader(rows)),
    )
    assert len(figures.models) == 3
    assert type(result.config) is inc_laaciq.LAACIQConfig
    assert [trial["description"] for trial in result.trials] == ["RTNConfig(bits=3)", "LAACIQConfig(bits=3)"]
    assert [trial["bits"] for trial in result.trials] == [3.5, 3.5]
    assert {weight.grid.bits for weight in result.model.la_aciq.weights.values()} == {3}
    assert result.trials[1]["quantized_layers"] == len(result.model.la_aciq.weights)

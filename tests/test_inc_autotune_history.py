"""A search that ends early goes on where it was, and only where it is the same search."""

from __future__ import annotations

import json
import warnings

import pytest
import torch
from autotune_figures import BAD, BASE, GOOD, Figures, bits_of, rtn, tune
from packed_models import grown, llama

with warnings.catch_warnings():  # Neural Compressor and what it imports warn while they are imported
    warnings.simplefilter("ignore")
    pytest.importorskip("neural_compressor.torch.quantization", exc_type=ImportError)
    try:
        from neural_compressor.torch.quantization import autotune  # noqa: F401
    except ImportError:
        pytest.skip("neural-compressor 2.6 has no autotune", allow_module_level=True)

from inc_laaciq.errors import AutotuneError, IntegrityError, MismatchError
from inc_laaciq.provenance import versions

pytestmark = [pytest.mark.inc, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module")
def model():
    return grown(llama)


def test_an_interrupted_search_goes_on(model, tmp_path):
    file = tmp_path / "history.json"
    with pytest.raises(KeyboardInterrupt):
        tune(model, rtn([3, 4, 8]), Figures(BASE, BAD, KeyboardInterrupt()), history=file)
    figures = Figures(BASE, GOOD)
    result = tune(model, rtn([3, 4, 8]), figures, history=file)
    assert figures.models == [[], [4]]
    assert [(trial["verdict"], trial["number"]) for trial in result.trials] == [("FAIL", 1), ("PASS", 2)]


def test_what_passed_is_run_again_at_once(model, tmp_path):
    file = tmp_path / "history.json"
    tune(model, rtn([2, 3, 4]), Figures(BASE, BAD, GOOD), history=file)
    figures = Figures(BASE, GOOD)
    result = tune(model, rtn([2, 3, 4]), figures, history=file)
    assert figures.models == [[], [3]]
    assert bits_of(result.model) == [3]


def test_the_best_of_a_finished_search_is_made_without_judging_anew(model, tmp_path):
    file = tmp_path / "history.json"
    with pytest.raises(AutotuneError):
        tune(model, rtn([2, 3]), Figures(BASE, {"en": 10.0, "sw": 19.0}, BAD), history=file)
    figures = Figures(BASE)
    result = tune(model, rtn([2, 3]), figures, history=file, keep_best=True)
    assert figures.models == [[]]
    assert bits_of(result.model) == [3]


def test_trials_of_configurations_that_are_not_in_the_list_stay_in_the_file(model, tmp_path):
    file = tmp_path / "history.json"
    for configs in (rtn(2), rtn(3)):
        with pytest.raises(AutotuneError):
            tune(model, configs, Figures(BASE, BAD), history=file)
    assert len(json.loads(file.read_text(encoding="utf-8"))["trials"]) == 2


def test_another_policy_model_evaluation_or_version_is_noticed(model, tmp_path, monkeypatch):
    file = tmp_path / "history.json"
    with pytest.raises(AutotuneError):
        tune(model, rtn(2), Figures(BASE, BAD), history=file)
    with pytest.raises(MismatchError, match="another policy"):
        tune(model, rtn(2), Figures(BASE), history=file, bound="6%")
    with pytest.raises(MismatchError, match="other figures"):
        tune(model, rtn(2), Figures({"en": 10.0, "sw": 10.1}), history=file)
    other = grown(llama)
    with torch.no_grad():
        other.lm_head.weight[0, 0] += 1
    with pytest.raises(MismatchError, match="another model"):
        tune(other, rtn(2), Figures(BASE), history=file)
    with monkeypatch.context() as changed:
        changed.setattr("inc_laaciq.autotuning.sources_sha256", lambda: "0" * 64)
        with pytest.raises(MismatchError, match="is the history of another version"):
            tune(model, rtn(2), Figures(BASE), history=file)
    monkeypatch.setattr("inc_laaciq.autotuning.versions", lambda: {**versions(), "torch": "0"})
    with pytest.raises(MismatchError, match=r"is the history of another environment \(torch \S+, now 0\)"):
        tune(model, rtn(2), Figures(BASE), history=file)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{}", "no history"),
        ("[", "history.json"),
        ('{"schema": "inc-laaciq/autotune/1"}', "another model"),
    ],
)
def test_a_file_of_another_kind_is_not_overwritten(model, tmp_path, content, message):
    file = tmp_path / "history.json"
    file.write_text(content, encoding="utf-8")
    with pytest.raises((IntegrityError, MismatchError), match=message):
        tune(model, rtn(2), Figures(BASE), history=file)
    assert file.read_text(encoding="utf-8") == content


def test_a_damaged_trial_is_told(model, tmp_path):
    file = tmp_path / "history.json"
    with pytest.raises(AutotuneError):
        tune(model, rtn(2), Figures(BASE, BAD), history=file)
    content = json.loads(file.read_text(encoding="utf-8"))
    del content["trials"][0]["document"]["checks"]
    file.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(IntegrityError, match="'checks'"):
        tune(model, rtn(2), Figures(BASE), history=file)

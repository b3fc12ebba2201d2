"""A run on a tiny model of few positions, whose tokenizer knows the words of one language only."""

from __future__ import annotations

import json

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from inc_laaciq.config import run_spec
from inc_laaciq.errors import IntegrityError, SpecError
from inc_laaciq.evaluate import evaluate_model
from inc_laaciq.job import prepare
from inc_laaciq.run_report import SCHEMA, model_name

POSITIONS = 16
WORDS = ("the", "cat", "sat", "on", "mat")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a model, and texts in English and Swahili."""
    where = tmp_path_factory.mktemp("run")
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=8, n_embd=32, n_layer=1, n_head=2, n_positions=POSITIONS)
    GPT2LMHeadModel(config).save_pretrained(where / "model")
    tokenizer = Tokenizer(models.WordLevel({"<unk>": 0, **{w: i for i, w in enumerate(WORDS, 1)}}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>").save_pretrained(where / "model")
    for split, word in (("calibration", "cat"), ("evaluation", "mat")):
        (where / split).mkdir()
        (where / split / "en.txt").write_text("\n".join(f"the {word} sat on " * (2 + n) for n in range(20)))
        (where / split / "sw.txt").write_text("\n".join(f"paka the {word} mkeka alikaa " * (2 + n) for n in range(20)))
    return where


def spec(folder, **la_aciq):
    weight = {"bits": 4, "group_size": 32}
    settings = {
        "model": str(folder / "model"),
        "calibration": {"texts": str(folder / "calibration"), "tokens_per_language": 100},
        "evaluation": {"texts": str(folder / "evaluation"), "tokens_per_language": 100},
        **la_aciq,
    }
    return run_spec({"quantization": {"model_wise": {"weight": weight}}, "la_aciq": settings})


def test_a_language_that_the_model_does_not_support_is_in_the_notes_and_in_the_run_row23(folder):
    job = prepare(spec(folder))
    (note,) = [note for note in job.notes if "does not support" in note]
    assert note.startswith("sw: ")
    assert job.calibration.languages == ("en", "sw")


def test_a_language_without_a_share_is_refused_before_any_work(folder):
    with pytest.raises(SpecError, match="shares has no share for sw"):
        prepare(spec(folder, reconcile="natural", shares={"en": 0.5}))


@pytest.mark.inc
def test_rows_of_calibration_fit_a_model_of_few_positions(folder, tmp_path, monkeypatch):
    pytest.importorskip("neural_compressor", exc_type=ImportError)
    from inc_laaciq.pipeline import run_quantization

    monkeypatch.chdir(tmp_path)
    outcome = run_quantization(prepare(spec(folder)))
    assert {tag: entry["calibration_tokens"] for tag, entry in outcome.report["languages"].items()} == {
        "en": 100,
        "sw": 100,
    }


def test_a_model_has_a_name_wherever_it_is_run(folder, monkeypatch):
    monkeypatch.chdir(folder / "model")
    assert model_name(".") == model_name(str(folder / "model")) == "model"
    assert model_name("bigscience/bloom-560m@abc") == "bloom-560m@abc"


@pytest.mark.parametrize("lost", ["files", "layers", "model", "texts"])
def test_an_incomplete_record_of_an_output_is_refused(tmp_path, lost):
    record = {"schema": SCHEMA, "files": {}, "layers": [], "model": {}, "texts": {"evaluation": None}}
    del record[lost]
    (tmp_path / "laaciq.json").write_text(json.dumps(record))
    with pytest.raises(IntegrityError, match=rf"laaciq.json: it is not a complete record \(KeyError\('{lost}'\)\)"):
        evaluate_model(tmp_path)


def test_labels_without_effect_on_a_large_model_are_in_the_notes(folder, monkeypatch):
    from inc_laaciq.fair import solve

    asked = spec(folder, mode="fair", fair={"labels": 0.1})
    assert not [note for note in prepare(asked).notes if "labels" in note]
    monkeypatch.setattr(solve, "_WHOLE", 1)
    (note,) = [note for note in prepare(asked).notes if "labels" in note]
    assert note.endswith("Set la_aciq.fair.tune to model, or labels to 0")
    assert not [note for note in prepare(spec(folder, mode="fair")).notes if "labels" in note]

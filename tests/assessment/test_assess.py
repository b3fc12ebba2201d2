"""The whole assessment: its document, its page, its command, and what it refuses."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from rich.console import Console

import inc_laaciq
from inc_laaciq.assess import assess_quantization_risk
from inc_laaciq.config import read_config
from inc_laaciq.errors import EvaluationError, NumericError, SpecError
from inc_laaciq.report.assessment import assessment_to_html, print_assessment, sentences

TOKENS = 1024
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def folder(texts, tmp_path_factory):
    chosen = tmp_path_factory.mktemp("texts")
    for tag in ("en", "fi", "hi"):
        shutil.copy(texts / f"{tag}.txt", chosen)
    (chosen / "sw.txt").write_text("\n", encoding="utf-8")
    return chosen


@pytest.fixture(scope="module")
def document(small, folder):
    return assess_quantization_risk(
        small.model, folder, tokenizer=small.tokenizer, bits=3, tokens_per_language=TOKENS, outlier_peak=5.5
    )


def test_the_document_is_plain_and_complete(document):
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    assert document["grid"] == {"bits": 3, "group_size": 64, "scheme": "sym"}  # 128 does not divide 192
    assert document["worst_language"] == "fi"
    entry = document["languages"]["fi"]
    assert entry["risk"] == "high"
    low, high = entry["interval"]
    assert 0 <= low < entry["predicted_degradation"] < high
    assert entry["tokens_per_byte"] == pytest.approx(0.48, abs=0.05)
    assert entry["baseline_loss"] == pytest.approx(1.73, abs=0.15)
    assert document["languages"]["sw"]["missing"] == "no text was found"
    advice = document["recommendation"]
    assert (advice["is_enough"], advice["is_enough_for_assessed"], advice["not_assessed"]) == (False, True, ["sw"])


def test_the_map_adds_up_to_the_figures(document):
    values = np.array(document["heat"]["values"])
    assert len(document["heat"]["layers"]) == 16
    for number, tag in enumerate(document["heat"]["languages"]):
        assert values[:, number].sum() == pytest.approx(document["languages"][tag]["predicted_degradation"])


def test_outliers_and_kurtosis_follow_the_thresholds(document, small):
    peaks = {layer["name"]: layer["peak"] for layer in document["layers"]}
    outliers = {layer["name"] for layer in document["layers"] if layer["is_outlier"]}
    assert outliers == {name for name, peak in peaks.items() if peak > 5.5}
    assert outliers
    entry = document["languages"]["en"]
    shares = {layer["name"]: layer["activation"]["en"] for layer in document["layers"]}
    assert sum(shares.values()) == pytest.approx(1.0)
    assert entry["outlier_activation"] == pytest.approx(sum(shares[name] for name in outliers))
    kurtosis = {layer["name"]: layer["kurtosis"] for layer in document["layers"]}
    assert entry["effective_kurtosis"] == pytest.approx(sum(shares[name] * kurtosis[name] for name in shares))


def test_more_bits_are_predicted_to_cost_less(small, folder, document):
    four = assess_quantization_risk(small.model, folder, tokenizer=small.tokenizer, bits=4, tokens_per_language=TOKENS)
    for tag in ("en", "fi", "hi"):
        ratio = four["languages"][tag]["predicted_degradation"] / document["languages"][tag]["predicted_degradation"]
        assert 0.1 < ratio < 0.3  # (3 / 7) ** 2 is 0.18
    assert four["recommendation"]["bits"] == 4


def test_one_text_under_three_tags_has_no_effect(small, texts, tmp_path):
    for tag in ("en", "de", "fr"):
        shutil.copy(texts / "en.txt", tmp_path / f"{tag}.txt")
    found = assess_quantization_risk(small.model, tmp_path, tokenizer=small.tokenizer, tokens_per_language=2048)
    assert not found["difference"]["is_seen"]
    assert found["difference"]["p"] > 0.05
    console = Console(record=True, width=100)
    print_assessment(found, console)
    assert "No effect here" in console.export_text()


def test_sentences_can_be_given_in_python(small):
    lines = ["Valitse tiedosto, jonka haluat avata.", "Sulje ikkuna ja tallenna asiakirja."] * 4
    found = inc_laaciq.assess_quantization_risk(small.model, {"fin": lines, "sw": []}, tokenizer=small.tokenizer)
    assert found["languages"]["fi"]["tokens"] > 20
    assert found["languages"]["sw"]["missing"] == "no text was found"
    assert found["recommendation"]["config"] is None


def test_the_page_escapes_and_has_the_map(document):
    layers = [{**layer, "name": "<script>alert(1)</script>"} for layer in document["layers"]]
    heat = {**document["heat"], "layers": ["<script>"] * 16}
    page = assessment_to_html({**document, "layers": layers, "heat": heat})
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    assert "3 of 4 languages at high risk" in page
    assert 'class="heat"' in page
    assert "Content-Security-Policy" in page


def test_the_terminal_names_what_was_not_assessed(document):
    console = Console(record=True, width=80)
    print_assessment(document, console)
    shown = console.export_text()
    assert "sw was not assessed: no text was found" in shown
    assert shown.index("Finnish") < shown.index("Hindi")
    assert "Languages differ beyond" in shown
    assert "every language that was assessed within 5%. Nothing is known of sw" in " ".join(shown.split())
    page = assessment_to_html(document)
    assert "sw: no text was found in" in page
    told = {**document, "difference": {"p": None, "is_seen": False, "languages": []}}
    assert "cannot be told" in assessment_to_html(told)


def test_that_nothing_is_enough_is_told_beside_a_language_without_text(small, folder):
    found = assess_quantization_risk(
        small.model, folder, tokenizer=small.tokenizer, bits=2, limit="0.0000001npb", tokens_per_language=64
    )
    advice = found["recommendation"]
    assert (advice["is_enough"], advice["is_enough_for_assessed"], advice["not_assessed"]) == (False, False, ["sw"])
    assert sentences(found)[-2:] == [
        "Even mode fair, 8 bits sym, groups of 64 is predicted to cost a language more than 0.0000001npb.",
        "Nothing is known of sw (no text was found).",
    ]


def test_the_command_writes_what_quantize_takes(main, texts, tmp_path, small):
    chosen = tmp_path / "texts"
    chosen.mkdir()
    shutil.copy(texts / "fi.txt", chosen)
    done = main(
        "assess", small.source, "--texts", chosen, "--tokens-per-language", 512, "--bits", 3, "--limit", "0.01npb",
        "-o", tmp_path / "risk.json", "--html", tmp_path / "risk.html", "--config", tmp_path / "conf.yaml",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Finnish" in done.stdout
    written = json.loads((tmp_path / "risk.json").read_text(encoding="utf-8"))
    assert written["schema"] == "inc-laaciq/assessment/1"
    assert written["model"]["name"] == "model"
    run = read_config(tmp_path / "conf.yaml")
    assert run.la_aciq.mode == written["recommendation"]["mode"] == "fair"
    assert yaml.safe_load((tmp_path / "conf.yaml").read_text(encoding="utf-8")) == written["recommendation"]["config"]
    planned = main("plan", tmp_path / "conf.yaml", "--model", small.source)
    assert planned.returncode == 0, planned.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--limit", "5"), "limit='5' is not a bound"),
        (("--limit", "2pp"), "limit=2pp is not a share of perplexity"),
        (("--outlier-peak", "-1"), "outlier_peak=-1.0 must be above 0"),
        (("--group-size", "100"), "group_size=100 does not divide"),
        (("-o", "same", "--html", "same"), "two outputs have the same file"),
    ],
)
def test_what_is_wrong_is_said(main, small, folder, tmp_path, options, message):
    done = main("assess", small.source, "--texts", folder, *options, cwd=tmp_path)
    assert done.returncode == 2, done.stdout
    assert message in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_an_output_that_cannot_be_written_is_refused_first(main, small, folder, tmp_path):
    done = main("assess", small.source, "--texts", folder, "-o", "nowhere/risk.json", cwd=tmp_path)
    assert done.returncode == 1
    assert "nowhere/risk.json: cannot be written" in done.stderr
    assert "assessing" not in done.stderr


def test_inputs_are_not_written_over(main, small, tmp_path):
    text = tmp_path / "text.jsonl"
    text.write_text('{"language": "fi", "text": "Valitse tiedosto."}\n', encoding="utf-8")
    done = main("assess", small.source, "--texts", text, "-o", text)
    assert done.returncode == 1
    assert "is read as an input" in done.stderr
    assert "Valitse" in text.read_text(encoding="utf-8")


def test_nan_in_a_layer_names_it(small, folder):
    model = copy.deepcopy(small.model)
    with torch.no_grad():
        model.transformer.h[1].mlp.dense_h_to_4h.weight[3, 5] = torch.nan
    with pytest.raises(NumericError, match=r"layer 'transformer.h.1.mlp.dense_h_to_4h': .*Repair the model"):
        assess_quantization_risk(model, folder, tokenizer=small.tokenizer, tokens_per_language=64)


def test_a_layer_of_equal_weights_has_no_kurtosis_and_spoils_none(small, folder):
    model = copy.deepcopy(small.model)
    with torch.no_grad():
        model.transformer.h[3].mlp.dense_4h_to_h.weight.zero_()
    found = assess_quantization_risk(model, folder, tokenizer=small.tokenizer, tokens_per_language=64)
    assert found["layers"][-1]["kurtosis"] is None
    assert np.isfinite(found["languages"]["fi"]["effective_kurtosis"])


def test_a_loaded_model_needs_its_tokenizer(small, folder):
    with pytest.raises(SpecError, match="without its tokenizer"):
        assess_quantization_risk(small.model, folder)
    with pytest.raises(SpecError, match="Leave tokenizer out"):
        assess_quantization_risk(small.source, folder, tokenizer=small.tokenizer)


def test_a_string_is_no_list_of_sentences(small):
    with pytest.raises(SpecError, match="is one string"):
        assess_quantization_risk(small.model, {"fi": "Valitse tiedosto."}, tokenizer=small.tokenizer)


def test_text_of_one_token_is_refused(small):
    with pytest.raises(EvaluationError, match="fi: the text has fewer than two tokens"):
        assess_quantization_risk(small.model, {"fi": ["a"]}, tokenizer=small.tokenizer)


def test_what_a_report_says_of_its_own_reliability_was_measured(document):
    measured = [json.loads(path.read_text(encoding="utf-8")) for path in (ROOT / "benchmarks/results").glob("assess_*")]
    draws = [draw for content in measured for draw in content["settings"]]
    by_kl = sum(draw["kl"]["rank_of_worst_predicted"] <= 2 for draw in draws)
    by_loss = sum(draw["degradation"]["rank_of_worst_predicted"] <= 3 for draw in draws)
    shares = [
        entry["degradation"] / entry["predicted_degradation"] for draw in draws for entry in draw["languages"].values()
    ]
    [said] = [sentence for sentence in sentences(document) if sentence.startswith("How far to trust it")]
    assert f"{by_kl} of {len(draws)} draws" in said
    assert f"in {by_loss} only" in said
    assert f"{min(shares):.1f} to {max(shares):.1f} times" in said
    assert len(measured) == 3

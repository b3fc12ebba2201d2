from __future__ import annotations

import re
from typing import Any

import pytest
import yaml
from gate_documents import LANGUAGES, TASK, gate_document, hostile_gate
from huggingface_hub import ModelCard
from huggingface_hub.repocard_data import model_index_to_eval_results
from hypothesis import given
from report_runs import HOSTILE, hidden_characters, hostile_texts, sample_run, shuffled

from inc_laaciq.errors import IntegrityError
from inc_laaciq.report.characters import visible
from inc_laaciq.report.model_card import to_model_card


def front_matter(card: str) -> dict[str, Any]:
    found = re.match(r"\A---\n(.*?\n)---\n\n# ", card, re.DOTALL)
    assert found is not None
    return yaml.safe_load(found[1])


def test_the_hub_reads_every_figure_with_all_its_digits() -> None:
    document = gate_document()
    card = ModelCard(to_model_card(document))
    assert card.data.language == sorted(tag for tag, *_ in LANGUAGES)
    name, results = model_index_to_eval_results(front_matter(to_model_card(document))["model-index"])
    assert name == "tiny-bloom-w4"
    by_key = {(r.dataset_config, r.metric_type): r for r in results}
    for tag, entry in document["languages"].items():
        for key in ("perplexity", "bits_per_byte", "degradation", "relative_perplexity"):
            if "missing" in entry:
                assert (tag, key) not in by_key
            else:
                assert by_key[tag, key].metric_value == entry[key]
    turkish = by_key["tr", "degradation"]
    assert (turkish.task_type, turkish.dataset_name) == ("text-generation", "texts/eval")
    assert turkish.metric_args["low"] == document["languages"]["tr"]["low"]
    assert turkish.metric_args["verdict"] == "FAIL"
    assert by_key["ur", "accuracy_loss"].metric_args == {"task": TASK, "unit": "fraction"}


def test_languages_are_codes_that_the_hub_knows() -> None:
    run = sample_run()
    run["languages"] = dict.fromkeys(("zh-Hant", "zh", "pt-BR", "yue", "<b>", "x"), run["languages"]["en"])
    assert front_matter(to_model_card(run))["language"] == ["pt", "yue", "zh"]


def test_a_data_set_is_named_by_its_path() -> None:
    result = front_matter(to_model_card(sample_run()))["model-index"][0]["results"][0]
    assert result["dataset"] == {"name": "c4", "type": "c4", "args": {"sha256": "ff" * 32}, "config": "en"}


def test_a_document_without_figures_has_no_index_of_them() -> None:
    card = to_model_card({"schema": "inc-laaciq/gate/1", "languages": {"yo": {"missing": "no text"}}})
    assert front_matter(card) == {"language": ["yo"], "tags": ["inc-laaciq", "quantized"]}


@given(hostile_texts())
def test_no_text_of_others_leaves_its_place_in_the_metadata(text: str) -> None:
    card = to_model_card(hostile_gate(text))
    assert hidden_characters(card) == set()
    found, harmless = front_matter(card), front_matter(to_model_card(hostile_gate("harmless")))
    assert list(found) == list(harmless)
    if visible(text):
        assert found["model-index"][0]["name"] == visible(text)
        if not text.startswith(("/", "../")):
            assert found["model-index"][0]["results"][0]["dataset"]["name"] == visible(text)


def test_a_path_of_a_machine_does_not_reach_the_card() -> None:
    document = {**gate_document(), "texts": {"source": "../../home/texts/flores", "sha256": "ab"}}
    assert front_matter(to_model_card(document))["model-index"][0]["results"][0]["dataset"]["name"] == "flores"


@pytest.mark.parametrize(
    "text", ["---", "...", "--- !!python/object:os.system", "&a *a", "? x", "null", "1e3", "yes", "# c"]
)
def test_what_is_special_in_yaml_stays_a_text(text: str) -> None:
    assert front_matter(to_model_card(hostile_gate(text)))["model-index"][0]["name"] == text


@pytest.mark.parametrize("text", HOSTILE)
def test_the_same_content_gives_the_same_bytes(text: str) -> None:
    document = hostile_gate(text)
    assert to_model_card(shuffled(document) | {"meta": {}}) == to_model_card(document)


def test_another_schema_is_refused() -> None:
    with pytest.raises(IntegrityError, match="schema"):
        to_model_card({"schema": "other"})

"""What models write: prompts, shares of letters, and warnings."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from inc_laaciq.calibration.corpus import read_texts
from inc_laaciq.checkpoint import load_model
from inc_laaciq.evaluation.generation import (
    NEW_TOKENS,
    PROMPT_TOKENS,
    PROMPTS,
    beginnings,
    strange_scripts,
    written_shares,
)
from inc_laaciq.evaluation.sentences import choose_sentences

SMALL = Path(__file__).parents[2] / "recipes/small_bloom"
TOKENS = 2048


@pytest.fixture(scope="module")
def source():
    return load_model(SMALL / "model")


@pytest.fixture(scope="module")
def corpus():
    return read_texts(SMALL / "text/evaluation", ["el", "fi", "hi"])


@pytest.fixture(scope="module")
def prompts(source, corpus):
    return beginnings(corpus, source.tokenizer, seed=0, tokens_per_language=TOKENS)


def test_prompts_begin_sentences_that_the_evaluation_scores(source, corpus, prompts):
    assert {tag: tuple(ids.shape) for tag, ids in prompts.items()} == dict.fromkeys(
        ("el", "fi", "hi"), (PROMPTS, PROMPT_TOKENS)
    )
    scored = choose_sentences(corpus.texts["fi"], source.tokenizer, tokens_per_language=TOKENS, seed=0)
    starts = {tuple(ids[:PROMPT_TOKENS]) for ids in scored.ids}
    assert all(tuple(row.tolist()) in starts for row in prompts["fi"])


def test_a_language_of_short_sentences_has_no_prompts(source, tmp_path):
    (tmp_path / "fi.txt").write_text("Avaa tiedosto.\nSulje se.\n", encoding="utf-8")
    assert beginnings(read_texts(tmp_path), source.tokenizer, seed=0, tokens_per_language=0) == {}


def test_the_shipped_model_writes_in_the_script_of_each_language(source, prompts):
    shares = written_shares(source.model, source.tokenizer, prompts)
    assert shares.keys() == prompts.keys()
    assert min(shares.values()) > 0.9


def test_only_what_follows_the_prompts_counts(source, prompts):
    class Repeats:
        def generate(self, input_ids, attention_mask, generation_config):
            assert attention_mask.all()
            assert generation_config.max_new_tokens == generation_config.min_new_tokens == NEW_TOKENS
            cyrillic = source.tokenizer("привет, как дела? что нового сегодня", return_tensors="pt").input_ids
            return torch.cat([input_ids, cyrillic.expand(len(input_ids), -1)], dim=1)

    assert written_shares(Repeats(), source.tokenizer, {"el": prompts["el"]}) == {"el": 0.0}


def test_the_most_likely_token_is_taken_whatever_the_model_is_set_to(source, prompts):
    settings = source.model.generation_config
    before = settings.do_sample, settings.temperature
    settings.do_sample, settings.temperature = True, 5.0
    try:
        torch.manual_seed(1)
        shares = written_shares(source.model, source.tokenizer, {"hi": prompts["hi"]})
        torch.manual_seed(2)
        assert written_shares(source.model, source.tokenizer, {"hi": prompts["hi"]}) == shares
    finally:
        settings.do_sample, settings.temperature = before


@pytest.mark.parametrize(
    ("before", "after", "is_strange"),
    [
        (0.98, 0.94, False),
        (0.98, 0.92, True),
        (0.98, None, True),
        (None, 0.1, False),
        (0.5, 1.0, False),
    ],
)
def test_a_share_may_be_five_points_smaller(before, after, is_strange):
    found = strange_scripts({"el": before}, {"el": after})
    assert bool(found) is is_strange
    if is_strange:
        assert "Grek" in found[0]
        assert f"{before:.0%}" in found[0]

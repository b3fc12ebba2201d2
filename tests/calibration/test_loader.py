"""Shares of the loader, and rows that fit the model."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from inc_laaciq.calibration.loader import LanguageLoader
from inc_laaciq.calibration.prepare import calibration_batches, row_length
from inc_laaciq.calibration.text import Corpus, LanguageText
from inc_laaciq.config import LaaciqSpec, TextSpec
from inc_laaciq.errors import DataError, SpecError


def test_shares_are_those_of_the_text_and_not_of_the_quota(bpe):
    texts = {tag: LanguageText(tag=tag, documents=(("the cat " * n,),)) for tag, n in (("en", 300), ("sw", 100))}
    corpus = Corpus(texts=texts, missing=("fi",))
    settings = LaaciqSpec(calibration=TextSpec(texts="unused", tokens_per_language=10))
    loader = calibration_batches(settings, bpe, corpus=corpus)
    assert loader.n_tokens == {"en": 10, "sw": 10}
    assert loader.shares == {"en": 0.75, "sw": 0.25}


def test_shares_are_counted_in_tokens_where_the_text_is_not_known():
    loader = LanguageLoader({"swh": [torch.zeros(1, 30)], "en": [torch.zeros(1, 40), torch.zeros(2, 25)]})
    assert loader.shares == {"sw": 0.25, "en": 0.75}


def test_some_of_its_languages_keep_what_it_knows_of_them():
    batches = {tag: [torch.zeros(1, 2)] for tag in ("en", "fi", "sw")}

    def progress(_stage, _done, _total):
        pass

    loader = LanguageLoader(batches, progress=progress, memory=7, text_bytes={"en": 10, "fi": 60, "sw": 30})
    part = loader.only(["sw", "en"])
    assert list(part.batches) == ["sw", "en"]
    assert part.shares == {"sw": 0.75, "en": 0.25}
    assert (part.progress, part.memory) == (progress, 7)
    assert list(loader.batches) == ["en", "fi", "sw"]


def test_some_languages_of_a_loader_of_somebodys_own_are_still_of_that_kind():
    class Own(LanguageLoader):
        pass

    assert type(Own({"en": [torch.zeros(1, 2)], "sw": [torch.zeros(1, 2)]}).only(["sw"])) is Own


def test_no_batch_and_one_language_twice_are_refused():
    with pytest.raises(DataError, match="no tokens for any language"):
        LanguageLoader({"sw": []})
    with pytest.raises(SpecError, match="twice"):
        LanguageLoader({"sw": [torch.zeros(1, 1)], "swh": [torch.zeros(1, 1)]})


@pytest.mark.parametrize(("positions", "expected"), [(64, 64), (4096, 256), (None, 256)])
def test_rows_are_no_longer_than_the_model_allows(positions, expected):
    text_config = SimpleNamespace(max_position_embeddings=positions)
    model = SimpleNamespace(config=SimpleNamespace(get_text_config=lambda: text_config))
    assert row_length(model) == expected


def test_sizes_of_texts_go_by_the_canonical_tag_and_none_may_lack():
    batches = {"swh": [torch.ones(1, 2, dtype=torch.int64)], "en": [torch.ones(1, 2, dtype=torch.int64)]}
    assert LanguageLoader(batches, text_bytes={"en": 10, "swh": 30}).shares == {"sw": 0.75, "en": 0.25}
    with pytest.raises(DataError, match="text_bytes has no size for sw, which batches has"):
        LanguageLoader(batches, text_bytes={"en": 10})

"""A small model and text for the benchmarks."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from inc_laaciq.checkpoint import load_model

SHIPPED = Path(__file__).parents[2] / "recipes" / "small_bloom"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The first block of the shipped model, and its text in English and Finnish."""
    place = tmp_path_factory.mktemp("one-block")
    source = load_model(SHIPPED / "model")
    source.model.transformer.h = source.model.transformer.h[:1]
    source.model.config.n_layer = 1
    source.model.save_pretrained(place / "model")
    source.tokenizer.save_pretrained(place / "model")
    for kind in ("calibration", "evaluation"):
        (place / kind).mkdir()
        for tag in ("en", "fi"):
            shutil.copy(SHIPPED / "text" / kind / f"{tag}.txt", place / kind)
    return place

"""The second model that ships: another architecture, the same text, and it has learned every language."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

from inc_laaciq.checkpoint import load_model

RECIPES = Path(__file__).parents[1] / "recipes"
FOLDER = RECIPES / "small_llama" / "model"
TEXT = RECIPES / "small_bloom" / "text" / "holdout"


@pytest.fixture(scope="module")
def shipped():
    return load_model(FOLDER)


def test_it_is_of_another_architecture_and_size_with_the_same_tokenizer():
    other = RECIPES / "small_bloom" / "model"
    config = json.loads((FOLDER / "config.json").read_text(encoding="utf-8"))
    assert config["model_type"] == "llama"
    assert config["num_key_value_heads"] < config["num_attention_heads"]
    assert (FOLDER / "tokenizer.json").read_bytes() == (other / "tokenizer.json").read_bytes()
    mine, theirs = (json.loads((folder / "training.json").read_text(encoding="utf-8")) for folder in (FOLDER, other))
    assert mine["corpus_sha256"] == theirs["corpus_sha256"]
    assert mine["share_percent"] == theirs["share_percent"]
    assert mine["tokens_per_parameter"] >= 4


@pytest.mark.parametrize("tag", sorted(path.stem for path in TEXT.glob("*.txt")))
def test_it_has_learned_every_language(shipped, tag):
    """Well below the loss of a guess among 4096 tokens, on text that it was not trained on."""
    page = (TEXT / f"{tag}.txt").read_text(encoding="utf-8").split("\n\n")[0]
    ids = torch.tensor([shipped.tokenizer.encode(page)[:200]])
    with torch.inference_mode():
        assert float(shipped.model(input_ids=ids, labels=ids).loss) < 0.75 * math.log(4096)

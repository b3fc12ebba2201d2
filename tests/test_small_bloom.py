"""The model that ships: separate splits, a lossless tokenizer, unequal shares, and recipes that run."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from inc_laaciq.calibration.corpus import read_texts
from inc_laaciq.calibration.overlap import overlap_notes
from inc_laaciq.checkpoint import load_model

FOLDER = Path(__file__).parents[1] / "recipes" / "small_bloom"
SPLITS = ("calibration", "evaluation", "holdout")
TAGS = sorted(path.stem for path in (FOLDER / "text" / "evaluation").glob("*.txt"))

sys.path.insert(0, str(FOLDER))
import corpus as corpus_recipe  # noqa: E402
import outliers  # noqa: E402


@pytest.fixture(scope="module")
def shipped():
    return load_model(FOLDER / "model")


def pages(split, tag):
    text = (FOLDER / "text" / split / f"{tag}.txt").read_text(encoding="utf-8")
    return [page.splitlines() for page in text.split("\n\n") if page.strip()]


def test_at_least_twelve_languages_and_five_scripts_in_every_split():
    from inc_laaciq.languages import script

    assert len(TAGS) >= 12
    assert len({script(tag) for tag in TAGS}) >= 5
    for split in SPLITS:
        assert sorted(path.stem for path in (FOLDER / "text" / split).glob("*.txt")) == TAGS


def test_no_line_and_no_page_of_one_split_is_in_another():
    owner = {}
    for split in SPLITS:
        for tag in TAGS:
            for page in pages(split, tag):
                for item in (*page, "\n".join(page)):
                    assert owner.setdefault(item, split) == split, item


@pytest.mark.parametrize("split", ["evaluation", "holdout"])
def test_a_gate_takes_the_text_as_unseen_though_manuals_repeat_some_sentences(split):
    calibration, evaluation = (read_texts(FOLDER / "text" / name) for name in ("calibration", split))
    assert overlap_notes(calibration, evaluation, gated=True) == []
    assert overlap_notes(evaluation, evaluation, gated=False)


def test_the_recipes_own_check_finds_an_overlap():
    page = {"a.html": ["one line"]}
    good = {"en": {"train": {"b.html": ["x"]}, **{s: {f"{s}.html": [s]} for s in SPLITS}}}
    corpus_recipe.check(good)
    good["en"]["holdout"] = {"evaluation.html": ["other"]}
    with pytest.raises(ValueError, match=r"page in evaluation and holdout"):
        corpus_recipe.check(good)
    good["en"]["holdout"] = {}
    with pytest.raises(ValueError, match="no text for en in holdout"):
        corpus_recipe.check(good)
    assert page


def test_tokenizer_is_lossless_and_readable_by_old_transformers(shipped):
    for tag in TAGS:
        line = pages("evaluation", tag)[0][0]
        assert shipped.tokenizer.decode(shipped.tokenizer.encode(line), skip_special_tokens=True) == line
    config = json.loads((FOLDER / "model" / "tokenizer_config.json").read_text(encoding="utf-8"))
    assert config["tokenizer_class"] == "PreTrainedTokenizerFast"


def test_model_is_small_was_trained_enough_and_with_unequal_shares():
    training = json.loads((FOLDER / "model" / "training.json").read_text(encoding="utf-8"))
    shares = training["share_percent"]
    assert sorted(shares) == TAGS
    assert max(shares.values()) / min(shares.values()) >= 20
    assert training["tokens_per_parameter"] >= 4
    assert (FOLDER / "model" / "model.safetensors").stat().st_size < 12e6
    assert shares["en"] == max(shares.values())


def test_model_has_learned_every_language(shipped):
    """Well below the loss of a guess among 4096 tokens, on text that it was not trained on."""
    for tag in TAGS:
        ids = torch.tensor([shipped.tokenizer.encode("\n".join(pages("holdout", tag)[0]))[:200]])
        with torch.inference_mode():
            loss = float(shipped.model(input_ids=ids, labels=ids).loss)
        assert loss < 0.75 * math.log(4096), tag


def test_outlier_variant_computes_the_same_and_has_outliers(shipped):
    variant = outliers.make_outlier_variant(shipped.model, seed=0)
    ids = torch.tensor([shipped.tokenizer.encode("Click the button to insert a new table.")])
    with torch.inference_mode():
        torch.testing.assert_close(variant(input_ids=ids).logits, shipped.model(input_ids=ids).logits)
    name = "transformer.h.1.mlp.dense_h_to_4h"
    assert outliers.excess_kurtosis(variant.get_submodule(name).weight) > 40
    assert outliers.excess_kurtosis(shipped.model.get_submodule(name).weight) < 5


def test_training_recipe_runs(tmp_path):
    """A few steps on a few pages: the script, not the model."""
    text = tmp_path / "corpus"
    for split in ("train", "calibration"):
        (text / split).mkdir(parents=True)
        for tag in TAGS:
            chosen = pages("evaluation" if split == "train" else "calibration", tag)
            body = "\n\n".join("\n".join(page) for page in chosen)
            (text / split / f"{tag}.txt").write_text(body, encoding="utf-8")
    (text / "corpus.json").write_text((FOLDER / "corpus.json").read_text(encoding="utf-8"), encoding="utf-8")
    command = [
        sys.executable,
        FOLDER / "train.py",
        "--corpus",
        text,
        "--output",
        tmp_path / "model",
        "--tokens",
        "20000",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    model = load_model(tmp_path / "model")
    assert model.model.config.model_type == "bloom"


def test_measuring_recipe_runs(tmp_path):
    texts = tmp_path / "texts"
    texts.mkdir()
    (texts / "en.txt").write_text("\n".join(pages("evaluation", "en")[0]), encoding="utf-8")
    command = [sys.executable, FOLDER / "measure.py", "--model", FOLDER / "model", "--text", texts]
    done = subprocess.run([*command, "--output", tmp_path / "m.json"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "en" in json.dumps(json.loads((tmp_path / "m.json").read_text(encoding="utf-8")))

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from inc_laaciq.checkpoint import load_tokenizer, tokenizer_sha256
from inc_laaciq.checkpoint.tokenizer import check_vocabulary, tokenizer_files
from inc_laaciq.errors import IntegrityError, ModelError


@pytest.fixture
def folder(bloom_folder: Path, copied: Callable[[Path], Path]) -> Path:
    return copied(bloom_folder)


def test_a_tokenizer_is_loaded(folder: Path) -> None:
    tokenizer = load_tokenizer(folder)
    ids = tokenizer("Кошка сидела на ковре.")["input_ids"]
    assert tokenizer.decode(ids) == "Кошка сидела на ковре."
    assert "tokenizer.json" in {path.name for path in tokenizer_files(folder)}


# Row 22


def test_a_missing_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ModelError, match=r"has no tokenizer: one of tokenizer\.json, .*save_pretrained"):
        load_tokenizer(folder)


@pytest.mark.parametrize("text", ["{}", "", "[]", '{"version": "1.0", "model": {"type": "BPE"}}'], ids=repr)
def test_a_damaged_tokenizer(folder: Path, text: str) -> None:
    (folder / "tokenizer.json").write_text(text)
    with pytest.raises(ModelError, match="the tokenizer cannot be loaded"):
        load_tokenizer(folder)


def test_a_vocabulary_larger_than_the_embeddings(folder: Path) -> None:
    tokenizer = load_tokenizer(folder)
    highest = max(tokenizer.get_vocab().values())
    check_vocabulary(tokenizer, highest + 1, where="m")
    check_vocabulary(tokenizer, 10**6, where="m")
    with pytest.raises(ModelError, match=rf"m: .* highest token id is {highest} .* the model has {highest} embeddings"):
        check_vocabulary(tokenizer, highest, where="m")


def test_an_added_token_beyond_the_embeddings(folder: Path) -> None:
    tokenizer = load_tokenizer(folder)
    size = max(tokenizer.get_vocab().values()) + 1
    tokenizer.add_tokens(["<new>"])
    with pytest.raises(ModelError, match="'<new>'"):
        check_vocabulary(tokenizer, size, where="m")


def test_code_of_a_tokenizer_is_not_run(folder: Path) -> None:
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config |= {"auto_map": {"AutoTokenizer": ["own.Own", None]}, "tokenizer_class": "OwnTokenizer"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    (folder / "own.py").write_text(f"open({str(folder / 'canary')!r}, 'w')")
    own = json.loads((folder / "config.json").read_text()) | {"model_type": "own"}
    (folder / "config.json").write_text(json.dumps(own))
    with pytest.raises(ModelError, match="the tokenizer"):
        load_tokenizer(folder)
    assert not (folder / "canary").exists()


# The hash


def test_the_hash_survives_saving_again_and_use(folder: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(folder)
    before = tokenizer_sha256(tokenizer)
    tokenizer.pad_token = tokenizer.eos_token
    padded = tokenizer_sha256(tokenizer)
    tokenizer(["one", "one two three"], padding=True, truncation=True, max_length=3)
    assert tokenizer_sha256(tokenizer) == padded
    tokenizer.save_pretrained(tmp_path / "again")
    assert tokenizer_sha256(load_tokenizer(tmp_path / "again")) == padded
    assert tokenizer_sha256(load_tokenizer(folder)) == before
    assert len(before) == 64


def test_the_hash_tells_tokenizers_apart(folder: Path, tmp_path: Path) -> None:
    seen = {tokenizer_sha256(load_tokenizer(folder))}
    rules = json.loads((folder / "tokenizer.json").read_text())
    for change in ("merges", "normalizer", "vocabulary"):
        changed = json.loads(json.dumps(rules))
        if change == "merges":
            changed["model"]["merges"].pop()
        elif change == "normalizer":
            changed["normalizer"] = {"type": "NFC"}
        else:
            vocabulary = changed["model"]["vocab"]
            vocabulary["a"], vocabulary["b"] = vocabulary["b"], vocabulary["a"]
        (folder / "tokenizer.json").write_text(json.dumps(changed))
        seen.add(tokenizer_sha256(load_tokenizer(folder)))
    assert len(seen) == 4


# Row 35


@pytest.mark.parametrize("key", ["tokenizer_file", "vocab_file", "source_spm", "vocab", "init_inputs"])
def test_a_tokenizer_outside_of_the_folder_is_not_read(folder: Path, tmp_path: Path, key: str) -> None:
    (tmp_path / "secret.json").write_bytes((folder / "tokenizer.json").read_bytes())
    path = str(tmp_path / "secret.json")
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config[key] = [path] if key == "init_inputs" else path
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    with pytest.raises(IntegrityError, match=rf"tokenizer_config\.json: {key}=.* would make transformers read other"):
        load_tokenizer(folder)


def test_another_versions_tokenizer_is_not_read(folder: Path) -> None:
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config["fast_tokenizer_files"] = ["../tokenizer.4.0.0.json"]
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    with pytest.raises(IntegrityError, match="fast_tokenizer_files"):
        load_tokenizer(folder)


def test_paths_that_lead_nowhere_or_are_never_opened_are_no_fault(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "map.json").write_text("{}")
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config |= {"merges_file": "/home/someone/merges.txt", "special_tokens_map_file": str(tmp_path / "map.json")}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    assert len(load_tokenizer(folder)) == 300

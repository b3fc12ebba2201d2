from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from inc_laaciq.checkpoint.folder import find_weights
from inc_laaciq.checkpoint.shards import differences, read_index, read_shards
from inc_laaciq.errors import IntegrityError

ONE, TWO = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    save_file({"a": torch.ones(2), "b": torch.ones(3)}, tmp_path / ONE)
    save_file({"c": torch.ones(4)}, tmp_path / TWO)
    save_index(tmp_path, {"a": ONE, "b": ONE, "c": TWO})
    return tmp_path


def save_index(folder: Path, weight_map: object) -> None:
    index = {"metadata": {"total_size": 3.6e1}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def test_an_honest_folder(sharded: Path) -> None:
    weights = find_weights(sharded)
    assert [path.name for path in weights.files] == [ONE, TWO]
    assert weights.index == sharded / "model.safetensors.index.json"


def test_what_transformers_shards(llama_folder: Path) -> None:
    weights = find_weights(llama_folder)
    assert len(weights.files) > 1
    assert weights.notes == ()


def test_all_differences_are_listed_at_once(sharded: Path) -> None:
    save_file({"x": torch.ones(1)}, sharded / "model-00003-of-00003.safetensors")
    save_file({"d": torch.ones(1)}, sharded / "model-00004-of-00005.safetensors")
    (sharded / "model-00004-of-00005.safetensors").write_bytes(b"short")
    save_index(
        sharded,
        {
            "a": ONE,
            "missing.weight": ONE,
            "c": TWO,
            "lost.weight": "model-00009-of-00009.safetensors",
            "lost.bias": "model-00009-of-00009.safetensors",
            "d": "model-00004-of-00005.safetensors",
        },
    )
    with pytest.raises(IntegrityError, match="not what they should be") as caught:
        find_weights(sharded)
    message = str(caught.value)
    for part in (
        "model-00004-of-00005.safetensors: truncated",
        "shard model-00009-of-00009.safetensors is missing (2 tensors)",
        f"the index lists 'missing.weight' in {ONE}, which does not hold it",
        f"{ONE} holds 'b', which the index does not list there",
        "model-00003-of-00003.safetensors is a shard that the index does not list",
    ):
        assert part in message
    assert message.count("\n  ") == 5


def test_a_tensor_in_the_wrong_shard_or_in_two() -> None:
    assert differences({"a": ONE}, {ONE: ["a"], TWO: ["a"]}) == [
        f"{TWO} holds 'a', which the index does not list there"
    ]
    assert differences({"a": ONE}, {ONE: [], TWO: ["a"]}) == [
        f"the index lists 'a' in {ONE}, which does not hold it",
        f"{TWO} holds 'a', which the index does not list there",
    ]
    assert differences({"a": ONE, "b": TWO}, {ONE: ["a"], TWO: ["b"]}) == []


def test_one_missing_shard(sharded: Path) -> None:
    (sharded / TWO).unlink()
    with pytest.raises(IntegrityError, match=rf"shard {TWO} is missing \(1 tensors\)"):
        read_shards(sharded, read_index(sharded / "model.safetensors.index.json"))


# Row 35


@pytest.mark.parametrize("name", ["../other.safetensors", "/etc/passwd", "sub/x.safetensors", "..", "", "a\0b", "C:x"])
def test_the_index_may_not_name_a_path(sharded: Path, name: str) -> None:
    save_index(sharded, {"a": name})
    with pytest.raises(IntegrityError, match=r"index\.json: .* is not the plain name of a file"):
        find_weights(sharded)


@pytest.mark.parametrize("weight_map", [None, {}, [], {"a": 1}, "model.safetensors"], ids=repr)
def test_an_index_of_the_wrong_form(sharded: Path, weight_map: object) -> None:
    save_index(sharded, weight_map)
    with pytest.raises(IntegrityError, match="must have a weight_map"):
        find_weights(sharded)


@pytest.mark.parametrize("text", ["", "[]", '{"weight_map": {"a": "x", "a": "y"}}', "\0"], ids=repr)
def test_an_index_that_is_not_json(sharded: Path, text: str) -> None:
    (sharded / "model.safetensors.index.json").write_text(text)
    with pytest.raises(IntegrityError, match=r"JSON|occurs twice"):
        find_weights(sharded)


def test_both_a_single_file_and_shards(sharded: Path) -> None:
    save_file({"a": torch.ones(2)}, sharded / "model.safetensors")
    with pytest.raises(IntegrityError, match=r"has both model.safetensors and shards"):
        find_weights(sharded)


def test_a_single_file_beside_a_forgotten_shard(bloom_folder: Path, copied: Callable[[Path], Path]) -> None:
    folder = copied(bloom_folder)
    save_file({"a": torch.ones(2)}, folder / ONE)
    with pytest.raises(IntegrityError, match=f"{ONE} is a shard that the index does not list"):
        find_weights(folder)


def test_an_index_of_a_single_file(tmp_path: Path) -> None:
    save_file({"a": torch.ones(2)}, tmp_path / "model.safetensors")
    save_index(tmp_path, {"a": "model.safetensors"})
    assert [path.name for path in find_weights(tmp_path).files] == ["model.safetensors"]


def test_files_that_are_not_the_model_are_noted(bloom_folder: Path, copied: Callable[[Path], Path]) -> None:
    folder = copied(bloom_folder)
    save_file({"a": torch.ones(2)}, folder / "consolidated.safetensors")
    (folder / "pytorch_model.bin").write_bytes(b"never opened")
    (folder / "training_args.bin").write_bytes(b"never opened")
    assert find_weights(folder).notes == (
        "pytorch_model.bin was not read; the safetensors file was.",
        "consolidated.safetensors is not part of the model, and was not read.",
    )


def test_infinity_in_an_index(sharded: Path) -> None:
    (sharded / "model.safetensors.index.json").write_text(
        '{"metadata": {"total_size": 1e999}, "weight_map": {"a": "b"}}'
    )
    with pytest.raises(IntegrityError, match="the number '1e999' is not allowed"):
        find_weights(sharded)

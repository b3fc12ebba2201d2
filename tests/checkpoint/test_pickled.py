from __future__ import annotations

import contextlib
import os
import pickle
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from inc_laaciq.checkpoint.folder import find_weights
from inc_laaciq.checkpoint.pickled import check_torch_version, convert_pickles, read_pickle
from inc_laaciq.errors import IntegrityError, ModelError


class Canary:
    """Runs a command when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch '{self.path}'",)


@pytest.fixture(scope="module")
def scratch() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder) / "a.bin"


def save_plain(thing: Any, path: Path) -> None:
    with path.open("wb") as file:
        pickle.dump(thing, file)


# Row 30


@pytest.mark.parametrize("save", [torch.save, save_plain], ids=["torch.save", "pickle.dump"])
@pytest.mark.parametrize("place", ["alone", "beside a tensor", "as a key"])
def test_a_malicious_pickle_runs_nothing(tmp_path: Path, save: Callable[[Any, Path], None], place: str) -> None:
    canary = tmp_path / "canary"
    things = {
        "alone": Canary(canary),
        "beside a tensor": {"a": torch.ones(2), "b": Canary(canary)},
        "as a key": {Canary(canary): torch.ones(2)},
    }
    path = tmp_path / "pytorch_model.bin"
    save(things[place], path)
    with pytest.raises(IntegrityError, match=r"pytorch_model\.bin: is not a plain pickle of tensors"):
        read_pickle(path)
    assert not canary.exists()

    # The file is a real one: an unsafe reader would have run it.
    try:
        torch.load(path, weights_only=False) if save is torch.save else pickle.loads(path.read_bytes())
    except TypeError:
        assert place == "as a key"
    assert canary.exists()


@pytest.mark.parametrize(
    ("version", "safe"),
    [
        ("1.13.1", False),
        ("2.5.1+cu121", False),
        ("2.6.0", False),
        ("2.9.1", False),
        ("2.10.0", True),
        ("2.13.0+cpu", True),
        ("3.0", True),
    ],
)
def test_torch_must_be_one_whose_weights_only_is_safe(version: str, safe: bool) -> None:
    if safe:
        check_torch_version(version)
    else:
        with pytest.raises(ModelError, match=r"CVE-2025-32434, CVE-2026-24747.*torch 2\.10 or later"):
            check_torch_version(version)


def test_an_old_torch_reads_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save({"a": torch.ones(2)}, tmp_path / "a.bin")
    monkeypatch.setattr(torch, "__version__", "2.5.1")
    with pytest.raises(ModelError, match=r"not read with torch 2\.5\.1"):
        read_pickle(tmp_path / "a.bin")


@pytest.mark.parametrize(
    "thing",
    [
        [torch.ones(2)],
        {"state_dict": {"a": torch.ones(2)}},
        {"a": 1},
        {1: torch.ones(2)},
        {"a": torch.ones(2).to_sparse()},
        {"a": torch.empty(2, device="meta")},
    ],
    ids=["list", "nested", "number", "key", "sparse", "meta"],
)
def test_only_named_dense_tensors_are_weights(tmp_path: Path, thing: Any) -> None:
    torch.save(thing, tmp_path / "a.bin")
    with pytest.raises(IntegrityError, match=r"must hold named tensors|must be an ordinary dense tensor"):
        read_pickle(tmp_path / "a.bin")


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(2)}, tmp_path / "a.bin")
    whole = (tmp_path / "a.bin").read_bytes()
    for length in range(0, len(whole), 97):
        (tmp_path / "a.bin").write_bytes(whole[:length])
        with pytest.raises(IntegrityError, match="is not a plain pickle of tensors"):
            read_pickle(tmp_path / "a.bin")


@settings(max_examples=100)
@given(
    edits=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=6), plain=st.booleans()
)
def test_random_corruption(scratch: Path, edits: list[tuple[int, int]], plain: bool) -> None:
    torch.save({"a": torch.ones(2), "b": torch.arange(6)}, scratch, _use_new_zipfile_serialization=plain)
    data = bytearray(scratch.read_bytes())
    for place, value in edits:
        data[place % len(data)] = value
    scratch.write_bytes(data)
    with contextlib.suppress(IntegrityError):
        assert all(isinstance(tensor, torch.Tensor) for tensor in read_pickle(scratch).values())


def test_a_torchscript_archive_is_refused(tmp_path: Path) -> None:
    with pytest.warns(DeprecationWarning, match=r"torch\.jit\.(script|save)"):
        torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), tmp_path / "a.bin")
    with pytest.raises(IntegrityError, match="is not a plain pickle of tensors"):
        read_pickle(tmp_path / "a.bin")


def test_pickles_become_safetensors(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    target.mkdir()
    shared = torch.arange(6.0).reshape(2, 3)
    torch.save({"a": shared, "tied": shared, "turned": shared.T}, source / "pytorch_model.bin")
    (source / "config.json").write_text("{}")
    convert_pickles(find_weights(source, allow_pickle=True), source, target)
    found = load_file(target / "model.safetensors")
    assert torch.equal(found["a"], shared)
    assert torch.equal(found["tied"], shared)
    assert torch.equal(found["turned"], shared.T)
    assert sorted(path.name for path in target.iterdir()) == ["config.json", "model.safetensors"]


def test_pickled_shards_that_differ_from_their_index(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    target.mkdir()
    one, two = "pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin"
    torch.save({"a": torch.ones(1), "x": torch.ones(1)}, source / one)
    torch.save({"b": torch.ones(1)}, source / two)
    index = f'{{"weight_map": {{"a": "{one}", "b": "{two}", "c": "{two}"}}}}'
    (source / "pytorch_model.bin.index.json").write_text(index)
    with pytest.raises(IntegrityError, match="index lists 'c'") as caught:
        convert_pickles(find_weights(source, allow_pickle=True), source, target)
    assert f"{one} holds 'x', which the index does not list there" in str(caught.value)

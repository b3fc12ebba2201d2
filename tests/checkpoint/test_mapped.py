"""Copies of tensors whose memory is a file's: the same values, and the file does not become resident."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load, load_file, save_file

from inc_laaciq.checkpoint import mapped
from inc_laaciq.checkpoint.mapped import FileMapping, copy_of, file_mappings
from inc_laaciq.errors import IntegrityError

pytestmark = pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="the system does not tell what is mapped")

BYTES = 8 << 20


@pytest.fixture
def path(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    tensors = {
        "large": torch.randn(BYTES // 4),
        "half": torch.randn(33, 7).bfloat16(),
        "number": torch.tensor(3.5),
        "flags": torch.tensor([True, False, True]),
        "empty": torch.zeros(0, 4),
    }
    save_file(tensors, tmp_path / "a b.safetensors")
    return tmp_path / "a b.safetensors"


def of(path: Path) -> list[FileMapping]:
    return [mapping for mapping in file_mappings() if mapping.path == str(path)]


def resident_bytes(path: Path) -> int:
    found = re.findall(rf"{re.escape(str(path))}\nSize:[^:]*(?:\n\w+:[^:]*)*?\nRss: +(\d+) kB", smaps())
    assert found
    return 1024 * sum(map(int, found))


def smaps() -> str:
    return Path("/proc/self/smaps").read_text(encoding="utf-8")


def test_copies_are_equal_and_leave_the_file_out_of_memory(path: Path) -> None:
    tensors, mappings = load_file(path), of(path)
    assert len(mappings) == 1
    before = resident_bytes(path)
    copies = {name: copy_of(tensor, mappings) for name, tensor in tensors.items()}
    assert resident_bytes(path) - before < BYTES // 8
    for name, expected in load(path.read_bytes()).items():
        assert copies[name].dtype == expected.dtype
        assert torch.equal(copies[name], expected)
    assert torch.equal(copies["large"], tensors["large"])
    assert resident_bytes(path) - before > BYTES // 2  # which shows that this test would see it


def test_a_copy_is_of_its_own(path: Path) -> None:
    tensors = load_file(path)
    copy = copy_of(tensors["half"], of(path))
    with path.open("r+b") as file:
        file.write(b"\xff" * path.stat().st_size)
    assert torch.isfinite(copy).all()


def test_what_was_written_into_the_mapping_is_copied_and_not_the_file(path: Path) -> None:
    tensors = load_file(path)
    tensors["half"][3] = 7.0
    assert not of(path)
    copy = copy_of(tensors["half"], file_mappings())
    assert bool((copy[3] == 7.0).all())
    assert torch.equal(copy, tensors["half"])


def test_tensors_that_are_no_file_or_no_whole_piece_of_it(path: Path) -> None:
    own, view = torch.randn(5), load_file(path)["half"].T
    mappings = of(path)
    assert len(mappings) == 1
    for tensor in (own, view):
        copy = copy_of(tensor, mappings)
        assert torch.equal(copy, tensor)
        assert copy.data_ptr() != tensor.data_ptr()


def test_a_file_that_another_took_the_place_of(path: Path) -> None:
    tensors = load_file(path)
    before = tensors["half"].clone()
    other = path.with_name("other")
    save_file({"half": torch.zeros(BYTES)}, other)
    os.replace(other, path)
    assert not of(path)
    assert torch.equal(copy_of(tensors["half"], file_mappings()), before)


def test_a_file_that_was_cut_short_is_an_error_and_not_the_end_of_the_process(path: Path) -> None:
    tensors, mappings = load_file(path), of(path)
    os.truncate(path, 4096)
    with pytest.raises(IntegrityError, match=r"a b\.safetensors changed while the model was being loaded"):
        copy_of(tensors["large"], mappings)


def test_where_the_system_does_not_tell_everything_is_copied(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mapped, "_SMAPS", path.with_name("nothing"))
    assert file_mappings() == []
    tensors = load_file(path)
    assert torch.equal(copy_of(tensors["large"], []), tensors["large"])

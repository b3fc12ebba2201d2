from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inc_laaciq.errors import NumericError, ResourceError
from inc_laaciq.output import check_file, write_bytes_atomic, write_json_atomic, write_text_atomic


def test_a_file_is_written_and_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    write_bytes_atomic(path, b"one")
    assert path.read_bytes() == b"one"
    write_bytes_atomic(str(path), b"two")
    assert path.read_bytes() == b"two"
    assert os.listdir(tmp_path) == ["a.bin"]


def test_readers_of_the_old_file_keep_it(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    write_bytes_atomic(path, b"one")
    with path.open("rb") as reader:
        write_bytes_atomic(path, b"two")
        assert reader.read() == b"one"


def test_the_mode_is_that_of_any_new_file(tmp_path: Path) -> None:
    write_bytes_atomic(tmp_path / "a", b"")
    (tmp_path / "b").touch()
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == stat.S_IMODE((tmp_path / "b").stat().st_mode)


def test_text_is_utf8_with_its_line_ends(tmp_path: Path) -> None:
    write_text_atomic(tmp_path / "a", "é\r\nн\n")
    assert (tmp_path / "a").read_bytes() == "é\r\nн\n".encode()


@pytest.mark.parametrize("write", [write_text_atomic, write_json_atomic], ids=["text", "JSON"])
def test_names_of_files_that_are_not_utf8(tmp_path: Path, write: Callable[[Path, str], None]) -> None:
    name = os.fsdecode(b"caf\xe9")
    write(tmp_path / "a", name)
    text = (tmp_path / "a").read_text("utf-8")
    assert "caf\\udce9" in text
    if write is write_json_atomic:
        assert json.loads(text) == name


def test_the_content_is_forced_to_the_disk_before_the_rename(tmp_path: Path, monkeypatch: Any) -> None:
    events: list[str] = []
    fsync, replace = os.fsync, os.replace

    def note_fsync(descriptor: int) -> None:
        place = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        events.append(place.read_text() if place.is_file() else "folder")
        fsync(descriptor)

    def note_replace(source: Any, destination: Any) -> None:
        events.append("rename")
        replace(source, destination)

    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(os, "replace", note_replace)
    write_text_atomic(tmp_path / "a", "content")
    assert events == ["content", "rename", "folder"]


def test_a_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to("there/file")
    write_text_atomic(tmp_path / "link", "x")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "there" / "file").read_text() == "x"


@pytest.fixture
def full_device(tmp_path: Path) -> Path:
    """A device as /dev/full; never the machine's own, which broken code could replace when root runs it."""
    try:
        os.mknod(tmp_path / "full", stat.S_IFCHR | 0o666, os.stat("/dev/full").st_rdev)
        open(tmp_path / "full", "rb").close()
    except OSError as error:
        pytest.skip(f"devices cannot be made here: {error.strerror}")
    return tmp_path / "full"


def test_pipes_are_written_directly(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    try:
        write_text_atomic(tmp_path / "pipe", "through")
        assert os.read(reader, 100) == b"through"
    finally:
        os.close(reader)
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


# Rows 52, 53


def test_a_full_device(full_device: Path) -> None:
    with pytest.raises(ResourceError, match=r"full: the disk is full.*at least 3 bytes needed, \d+ bytes free"):
        write_bytes_atomic(full_device, b"abc")
    assert stat.S_ISCHR(full_device.stat().st_mode)


def test_a_full_disk_leaves_the_old_file(small_disk: Path) -> None:
    write_text_atomic(small_disk / "results.json", "old")
    with pytest.raises(ResourceError, match="at least 2000000 bytes needed") as caught:
        write_bytes_atomic(small_disk / "results.json", b"x" * 2_000_000)
    assert isinstance(caught.value.__cause__, OSError)
    assert (small_disk / "results.json").read_text() == "old"
    assert os.listdir(small_disk) == ["results.json"]


def test_places_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ResourceError, match="is a folder, where a file is to be written"):
        write_text_atomic(tmp_path, "x")
    with pytest.raises(ResourceError, match=r"none/a: cannot be written: No such file"):
        write_text_atomic(tmp_path / "none" / "a", "x")
    with pytest.raises(ResourceError, match=r"file/a: cannot be written: Not a directory"):
        write_text_atomic(tmp_path / "file" / "a", "x")
    with pytest.raises(ResourceError, match="cannot be written: File name too long"):
        write_text_atomic(tmp_path / ("x" * 250), "x")


# JSON


def test_json_is_the_same_for_the_same_content(tmp_path: Path) -> None:
    write_json_atomic(tmp_path / "a", {"b": 1, "a": {"ж": [1.5, None], "x": True}})
    assert (tmp_path / "a").read_text("utf-8") == (
        '{\n  "a": {\n    "x": true,\n    "ж": [\n      1.5,\n      null\n    ]\n  },\n  "b": 1\n}\n'
    )


@pytest.mark.parametrize(
    ("obj", "place"),
    [
        (float("nan"), r"\$"),
        ({"languages": {"sw": {"loss": float("inf")}}}, r"\$\.languages\.sw\.loss"),
        ({"a": [0.0, (1.0, float("-inf"))]}, r"\$\.a\.1\.1"),
    ],
)
def test_nan_is_refused_by_name(tmp_path: Path, obj: Any, place: str) -> None:
    write_text_atomic(tmp_path / "a", "old")
    with pytest.raises(NumericError, match=f"a: {place} is NaN or infinite"):
        write_json_atomic(tmp_path / "a", obj)
    assert (tmp_path / "a").read_text() == "old"


def test_what_is_not_json_is_the_callers_mistake(tmp_path: Path) -> None:
    circle: list[Any] = []
    circle.append(circle)
    with pytest.raises((ValueError, RecursionError), match=r"Circular|recursion"):
        write_json_atomic(tmp_path / "a", circle)
    with pytest.raises(TypeError, match="not JSON serializable"):
        write_json_atomic(tmp_path / "a", {"path": tmp_path})
    assert not (tmp_path / "a").exists()


_json = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(allow_nan=False, allow_infinity=False),
        # Lone surrogates too: Python has them in names of files that are not UTF-8.
        st.text(st.characters(exclude_categories=())),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3)),
    max_leaves=10,
)


@settings(max_examples=25)
@given(obj=_json)
def test_json_comes_back(tmp_path_factory: pytest.TempPathFactory, obj: Any) -> None:
    path = tmp_path_factory.getbasetemp() / "again.json"
    write_json_atomic(path, obj)
    raw = path.read_bytes()
    assert json.loads(raw.decode("utf-8")) == obj
    assert raw.endswith(b"\n")
    write_json_atomic(path, json.loads(raw))
    assert path.read_bytes() == raw


# Row 53


def test_a_place_that_cannot_be_written_is_refused_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "old.json").write_text("old")
    check_file(tmp_path / "old.json")
    check_file(tmp_path / "new.json")
    check_file("/dev/null")
    assert os.listdir(tmp_path) == ["old.json"]
    with pytest.raises(ResourceError, match="is a folder, where a file is to be written"):
        check_file(tmp_path)
    with pytest.raises(ResourceError, match=r"none/a: cannot be written: No such file"):
        check_file(tmp_path / "none" / "a")
    with pytest.raises(ResourceError, match=r"cannot be written"):
        check_file("/proc/a")

"""Several files that appear together."""

from __future__ import annotations

import os

import pytest

from inc_laaciq.errors import ResourceError
from inc_laaciq.output import write_several_atomic


def test_all_are_written_and_what_they_make_wrong_is_removed(tmp_path):
    old = tmp_path / "stale"
    old.write_bytes(b"old")
    write_several_atomic({tmp_path / "a": b"1", tmp_path / "b": b"2"}, remove=[old, tmp_path / "absent"])
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"a": b"1", "b": b"2"}


def test_nothing_changes_unless_all_can_be_written(tmp_path, monkeypatch):
    """The disk fails at the second file, before any name is given."""
    for name in ("a", "b", "stale"):
        (tmp_path / name).write_bytes(b"old")
    calls = []

    def fsync(descriptor, real=os.fsync):
        calls.append(descriptor)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(ResourceError, match="the disk is full"):
        write_several_atomic({tmp_path / "a": b"1", tmp_path / "b": b"2"}, remove=[tmp_path / "stale"])
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == dict.fromkeys(("a", "b", "stale"), b"old")


def test_names_are_given_in_order(tmp_path, monkeypatch):
    given = []

    def replace(source, target, real=os.replace):
        given.append(os.path.basename(target))
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)
    write_several_atomic({tmp_path / name: b"" for name in ("c", "a", "b")})
    assert given == ["c", "a", "b"]


def test_a_missing_folder_is_said(tmp_path):
    with pytest.raises(ResourceError, match="Choose a folder where you can write"):
        write_several_atomic({tmp_path / "nowhere/a": b"1"})

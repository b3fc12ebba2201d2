from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from inc_laaciq.checkpoint import check_unchanged, fingerprint, sha256_of_files, verify_manifest
from inc_laaciq.checkpoint.digest import CHUNK_BYTES
from inc_laaciq.errors import IntegrityError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "a.safetensors").write_bytes(b"a" * (CHUNK_BYTES + 1))
    (tmp_path / "b.safetensors").write_bytes(b"b")
    return tmp_path


def sha256(*contents: bytes) -> str:
    return hashlib.sha256(b"".join(contents)).hexdigest()


def test_the_hash_is_that_of_the_files_in_the_order_of_their_names(folder: Path) -> None:
    files = [folder / "b.safetensors", folder / "a.safetensors"]
    assert sha256_of_files(files) == sha256(b"a" * (CHUNK_BYTES + 1), b"b")
    assert sha256_of_files([folder / "b.safetensors"]) == sha256(b"b")


def test_a_missing_file_has_no_hash(folder: Path) -> None:
    with pytest.raises(IntegrityError, match="c: cannot be read"):
        sha256_of_files([folder / "c"])


# Row 34


def test_an_honest_manifest(folder: Path) -> None:
    manifest = {"b.safetensors": sha256(b"b").upper()}
    verify_manifest(folder, manifest)
    verify_manifest(folder, manifest, required=["b.safetensors"])


def test_everything_wrong_with_a_manifest_is_listed(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    outside = tmp_path_factory.mktemp("outside") / "x"
    outside.write_bytes(b"b")
    (folder / "link").symlink_to(outside)
    manifest = {
        "b.safetensors": sha256(b"c"),
        "gone.json": sha256(b""),
        "../x": sha256(b""),
        str(outside): sha256(b"b"),
        "link": sha256(b"b"),
        "odd": "12",
        "nul\0": sha256(b""),
        "x" * 300: sha256(b""),
    }
    with pytest.raises(IntegrityError, match="not those of the manifest") as caught:
        verify_manifest(folder, manifest, required=["a.safetensors"])
    message = str(caught.value)
    for part in (
        "a.safetensors is not in the manifest",
        f"b.safetensors has SHA-256 {sha256(b'b')}, {sha256(b'c')} expected",
        "gone.json is missing",
        "../x lies outside the folder",
        f"{outside} lies outside the folder",
        "link lies outside the folder",
        "no SHA-256 for odd, but '12'",
        "nul\0 lies outside the folder",
        f"{'x' * 300} is missing",
    ):
        assert part in message
    assert message.count("\n  ") == 9


# Row 36


def grow(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"x")


def grow_unseen(path: Path) -> None:
    old = path.stat()
    grow(path)
    os.utime(path, ns=(old.st_atime_ns, old.st_mtime_ns))


def rewrite(path: Path) -> None:
    old = path.stat()
    path.write_bytes(b"c")
    os.utime(path, ns=(old.st_atime_ns, old.st_mtime_ns + 1))


def replace(path: Path) -> None:
    old = path.stat()
    new = path.with_name("new")
    new.write_bytes(b"c")
    os.utime(new, ns=(old.st_atime_ns, old.st_mtime_ns))
    new.rename(path)


@pytest.mark.parametrize("change", [grow, grow_unseen, rewrite, replace], ids=lambda change: change.__name__)
def test_a_change_is_noticed(folder: Path, change: Callable[[Path], None]) -> None:
    before = fingerprint(folder.iterdir())
    check_unchanged(before)
    change(folder / "b.safetensors")
    with pytest.raises(IntegrityError, match=r"b\.safetensors changed while the model was being loaded"):
        check_unchanged(before)


def test_a_link_that_points_elsewhere_is_a_change(folder: Path) -> None:
    (folder / "link").symlink_to("a.safetensors")
    before = fingerprint([folder / "link"])
    (folder / "link").unlink()
    (folder / "link").symlink_to("b.safetensors")
    with pytest.raises(IntegrityError, match="link changed"):
        check_unchanged(before)


def test_all_changes_are_listed(folder: Path) -> None:
    before = fingerprint(folder.iterdir())
    grow(folder / "a.safetensors")
    (folder / "b.safetensors").unlink()
    with pytest.raises(IntegrityError, match=r"a\.safetensors changed, b\.safetensors went away"):
        check_unchanged(before)

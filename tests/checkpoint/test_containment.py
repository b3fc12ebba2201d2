from __future__ import annotations

import os
from pathlib import Path

import pytest

from inc_laaciq.checkpoint.containment import check_contained, check_regular
from inc_laaciq.errors import IntegrityError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    return folder


def test_links_inside_the_folder(folder: Path) -> None:
    (folder / "model.safetensors").symlink_to("config.json")
    check_contained(folder)


def test_a_folder_that_is_itself_a_link(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "alias").symlink_to(folder)
    check_contained(tmp_path / "alias")


def test_every_escape_is_named_at_once(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    (folder / "a.json").symlink_to(tmp_path / "secret")
    (folder / "b.json").symlink_to("../secret")
    (folder / "c.json").symlink_to("gone")
    (folder / "loop").symlink_to("loop")
    (folder / "additional_chat_templates").mkdir()
    (folder / "additional_chat_templates" / "t.jinja").symlink_to("../../secret")
    with pytest.raises(IntegrityError, match="must lie inside its folder") as caught:
        check_contained(folder)
    for name in ("a.json is a link that leaves", "b.json is a link that leaves", "c.json is a link to a missing file"):
        assert name in str(caught.value)
    assert "loop is a link" in str(caught.value)
    assert "t.jinja is a link that leaves" in str(caught.value)


def test_a_linked_subfolder(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "templates").mkdir()
    (folder / "additional_chat_templates").symlink_to(tmp_path / "templates")
    with pytest.raises(IntegrityError, match="additional_chat_templates is a link that leaves"):
        check_contained(folder)


def make_cache(tmp_path: Path, name: str = "models--org--name") -> tuple[Path, Path]:
    repository = tmp_path / "hub" / name
    snapshot = repository / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (repository / "blobs").mkdir()
    (repository / "blobs" / "abc").write_text("{}")
    return repository, snapshot


def test_the_cache_of_the_hub(tmp_path: Path) -> None:
    _, snapshot = make_cache(tmp_path)
    (snapshot / "config.json").symlink_to("../../blobs/abc")
    check_contained(snapshot)


def test_the_cache_of_another_model_is_outside(tmp_path: Path) -> None:
    make_cache(tmp_path, "models--other--name")
    _, snapshot = make_cache(tmp_path)
    (snapshot / "config.json").symlink_to("../../../models--other--name/blobs/abc")
    with pytest.raises(IntegrityError, match=r"config\.json is a link that leaves"):
        check_contained(snapshot)


def test_refs_are_outside_too(tmp_path: Path) -> None:
    repository, snapshot = make_cache(tmp_path)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0" * 40)
    (snapshot / "config.json").symlink_to("../../refs/main")
    with pytest.raises(IntegrityError, match="leaves"):
        check_contained(snapshot)


def test_a_folder_that_only_looks_like_a_cache(tmp_path: Path) -> None:
    _, snapshot = make_cache(tmp_path, "my-models")
    (snapshot / "config.json").symlink_to("../../blobs/abc")
    with pytest.raises(IntegrityError, match="leaves"):
        check_contained(snapshot)


def test_only_ordinary_files_are_read(folder: Path) -> None:
    check_regular(folder / "config.json")
    os.mkfifo(folder / "pipe")
    with pytest.raises(IntegrityError, match="pipe: is not an ordinary file"):
        check_regular(folder / "pipe")
    with pytest.raises(IntegrityError, match="none: cannot be read: No such file"):
        check_regular(folder / "none")

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from inc_laaciq.errors import ResourceError
from inc_laaciq.output import atomic_folder, check_output


def test_a_good_place_is_left_as_it_was(tmp_path: Path) -> None:
    check_output(tmp_path / "out", inputs=[tmp_path / "model"], needed_bytes=1)
    assert os.listdir(tmp_path) == []


# Row 50


def test_what_is_there_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    check_output(out)
    (out / "a").touch()
    with pytest.raises(ResourceError, match=r"out: exists and is not empty.*--overwrite"):
        check_output(out)
    check_output(out, overwrite=True)
    with pytest.raises(ResourceError, match="is a file, where a folder is to be written"):
        check_output(out / "a", overwrite=True)
    (tmp_path / "dangling").symlink_to("nowhere")
    check_output(tmp_path / "dangling")


def test_a_failed_result_of_ours_is_replaced_and_no_other(tmp_path: Path) -> None:
    failed = tmp_path / "out.failed"
    failed.mkdir()
    check_output(tmp_path / "out")
    (failed / "thesis.tex").touch()
    with pytest.raises(ResourceError, match=r"out\.failed: is in the way .* \(no laaciq\.json in it\)"):
        check_output(tmp_path / "out", overwrite=True)
    (failed / "laaciq.json").touch()
    check_output(tmp_path / "out")


@pytest.mark.parametrize("kind", ["file", "link"])
def test_other_things_named_failed(tmp_path: Path, kind: str) -> None:
    failed = tmp_path / "out.failed"
    (tmp_path / "elsewhere").mkdir()
    failed.touch() if kind == "file" else failed.symlink_to("elsewhere")
    with pytest.raises(ResourceError, match=r"out\.failed: is in the way"):
        check_output(tmp_path / "out")


# Row 51


def test_the_output_is_apart_from_the_inputs(tmp_path: Path) -> None:
    model = tmp_path / "model"
    (model / "sub").mkdir(parents=True)
    (model / "config.json").touch()
    (tmp_path / "alias").symlink_to(model)
    for out, inputs, message in (
        (model, [model], "model: would be written, and is read as an input"),
        (tmp_path / "alias", [model], "model: would be written, and is read as an input"),
        (model, [tmp_path / "alias"], r"is read as an input \(.*alias\)"),
        (model / "sub" / "out", [model], "would be written inside the input"),
        (model, [model / "sub"], "model: would be written, and holds the input"),
        (model, [model / "config.json"], "model: would be written, and holds the input"),
        (tmp_path / "alias" / "new", [model], "would be written inside the input"),
    ):
        with pytest.raises(ResourceError, match=message):
            check_output(out, overwrite=True, inputs=[tmp_path / "texts", *inputs])
    check_output(tmp_path / "model2", inputs=[model, model / "config.json", "org/id"])


def test_the_failed_result_is_apart_from_the_inputs(tmp_path: Path) -> None:
    failed = tmp_path / "out.failed"
    failed.mkdir()
    (failed / "laaciq.json").touch()
    with pytest.raises(ResourceError, match=r"out\.failed: would be written, and is read as an input"):
        check_output(tmp_path / "out", inputs=[failed])


def test_a_bind_mount_does_not_hide_an_input(tmp_path: Path, mounted: Callable[..., Path]) -> None:
    (tmp_path / "model").mkdir()
    place = mounted("--bind", str(tmp_path / "model"))
    with pytest.raises(ResourceError, match="would be written inside the input"):
        check_output(place / "out", inputs=[tmp_path / "model"])


# Row 53


def test_parents_that_are_no_folders(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ResourceError, match=r"because .*none does not exist. Make that folder first"):
        check_output(tmp_path / "none" / "out")
    with pytest.raises(ResourceError, match=r"because .*file is not a folder"):
        check_output(tmp_path / "file" / "out")


def test_a_file_system_that_takes_no_folders() -> None:
    with pytest.raises(ResourceError, match=r"/proc/out: cannot be written: "):
        check_output("/proc/out")


def test_a_read_only_disk(mounted: Callable[..., Path]) -> None:
    place = mounted("-t", "tmpfs", "-o", "ro", "tmpfs")
    with pytest.raises(ResourceError, match="out: cannot be written: Read-only file system"):
        check_output(place / "out")


def test_a_mount_point_and_a_folder_in_it(small_disk: Path) -> None:
    check_output(small_disk / "out")
    with pytest.raises(ResourceError, match="is a mount point, which cannot be replaced"):
        check_output(small_disk, overwrite=True)


def test_no_permission() -> None:
    # Not in pytest's own folder, which only its owner may enter.
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o555)
        is_root = os.geteuid() == 0
        if is_root:
            os.seteuid(65534)
        try:
            with pytest.raises(ResourceError, match="out: cannot be written: Permission denied"):
                check_output(Path(folder) / "out")
        finally:
            if is_root:
                os.seteuid(0)


def test_a_name_too_long(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match="cannot be written: File name too long"):
        check_output(tmp_path / ("x" * 240))


def test_a_disk_too_small(small_disk: Path) -> None:
    with pytest.raises(ResourceError, match=r"the disk is too small: 2000000 bytes needed, \d+ bytes free"):
        check_output(small_disk / "out", needed_bytes=2_000_000)
    folder = atomic_folder(small_disk / "out", needed_bytes=2_000_000)
    with pytest.raises(ResourceError, match="the disk is too small"), folder:
        pytest.fail("the work was started")


def test_a_disk_that_is_full(small_disk: Path) -> None:
    with pytest.raises(OSError, match="No space left"):
        (small_disk / "fill").write_bytes(b"x" * 2_000_000)
    with pytest.raises(ResourceError, match="the disk is full"):
        check_output(small_disk / "out")
    assert os.listdir(small_disk) == ["fill"]


def test_places_that_hold_more_than_an_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "home" / "me").mkdir(parents=True)
    (tmp_path / "work" / "here").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(tmp_path / "home" / "me"))
    monkeypatch.chdir(tmp_path / "work" / "here")
    for place in ("/", str(tmp_path), str(tmp_path / "home"), str(tmp_path / "home" / "me")):
        with pytest.raises(ResourceError, match="is or holds your home folder"):
            check_output(place, overwrite=True)
    for place in (".", "..", str(tmp_path / "work")):
        with pytest.raises(ResourceError, match="is or holds the current folder"):
            check_output(place, overwrite=True)
    check_output("out")

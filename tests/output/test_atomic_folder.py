from __future__ import annotations

import errno
import os
import resource
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

import inc_laaciq.output as package
from inc_laaciq.errors import ResourceError, SpecError
from inc_laaciq.output import OutputFolder, atomic_folder


def read(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def fill(folder: Path, text: str = "new") -> None:
    (folder / "sub").mkdir()
    for name in ("laaciq.json", "report.html", "model.safetensors", "sub/figure.svg"):
        (folder / name).write_text(text)


NEW = dict.fromkeys(("laaciq.json", "report.html", "model.safetensors", "sub/figure.svg"), "new")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


@pytest.fixture
def old(out: Path) -> Path:
    out.mkdir()
    (out / "old.txt").write_text("old")
    return out


def test_nothing_is_at_the_path_before_the_end(out: Path, tmp_path: Path) -> None:
    with atomic_folder(out) as output:
        fill(output.folder)
        assert not out.exists()
        assert output.folder.parent == tmp_path
        assert output.folder.name.startswith(f".out.tmp-{os.getpid()}-")
        assert output.result is None
    assert output.result == out
    assert read(out) == NEW
    assert os.listdir(tmp_path) == ["out"]


def test_the_mode_is_that_of_any_new_folder(out: Path, tmp_path: Path) -> None:
    with atomic_folder(out):
        pass
    (tmp_path / "other").mkdir()
    assert stat.S_IMODE(out.stat().st_mode) == stat.S_IMODE((tmp_path / "other").stat().st_mode)


def test_relative_paths_and_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "real").mkdir()
    (tmp_path / "a" / "link").symlink_to("../real")
    monkeypatch.chdir(tmp_path / "a")
    with atomic_folder("link") as output:
        monkeypatch.chdir(tmp_path)
        fill(output.folder)
    assert output.result == tmp_path / "real"
    assert (tmp_path / "a" / "link").is_symlink()
    assert read(tmp_path / "a" / "link") == NEW


# Row 50


def test_an_empty_folder_is_filled(out: Path, tmp_path: Path) -> None:
    out.mkdir()
    with atomic_folder(out) as output:
        fill(output.folder)
    assert read(out) == NEW
    assert os.listdir(tmp_path) == ["out"]


def test_an_old_output_is_refused_before_the_work(old: Path, tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match="exists and is not empty"), atomic_folder(old):
        pytest.fail("the work was started")
    assert read(old) == {"old.txt": "old"}
    assert os.listdir(tmp_path) == ["out"]


def test_an_old_output_is_replaced_as_a_whole(old: Path, tmp_path: Path) -> None:
    with atomic_folder(old, overwrite=True) as output:
        fill(output.folder)
        assert read(old) == {"old.txt": "old"}
    assert read(old) == NEW
    assert os.listdir(tmp_path) == ["out"]


def test_the_old_output_comes_back_if_the_swap_fails(old: Path, tmp_path: Path, monkeypatch: Any) -> None:
    rename = os.rename

    def fail(source: Any, destination: Any) -> None:
        if Path(destination) == old and ".tmp-" in str(source):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        rename(source, destination)

    monkeypatch.setattr(os, "rename", fail)
    with (
        pytest.raises(ResourceError, match="cannot be written: Input/output error"),
        atomic_folder(old, overwrite=True) as output,
    ):
        fill(output.folder)
    assert read(old) == {"old.txt": "old"}
    assert os.listdir(tmp_path) == ["out"]


def test_what_someone_else_put_there_meanwhile_stays(out: Path, tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match="exists and is not empty"), atomic_folder(out) as output:
        fill(output.folder)
        out.mkdir()
        (out / "theirs").write_text("x")
    assert read(out) == {"theirs": "x"}
    assert os.listdir(tmp_path) == ["out"]


def test_everything_is_forced_to_the_disk_before_the_rename(old: Path, tmp_path: Path, monkeypatch: Any) -> None:
    events: list[str] = []
    fsync, rename = os.fsync, os.rename

    def note_fsync(descriptor: int) -> None:
        events.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)
        fsync(descriptor)

    def note_rename(source: Any, destination: Any) -> None:
        events.append(f"rename to {Path(destination).name}")
        rename(source, destination)

    with atomic_folder(old, overwrite=True) as output:
        fill(output.folder)
        (output.folder / "link").symlink_to("/nowhere")
        monkeypatch.setattr(os, "fsync", note_fsync)
        monkeypatch.setattr(os, "rename", note_rename)
    last = events.index("rename to out")
    assert {"laaciq.json", "report.html", "model.safetensors", "figure.svg", "sub", output.folder.name} <= set(
        events[:last]
    )
    assert tmp_path.name in events[last:]


# Failed gates


def test_a_failed_result_is_kept_beside(old: Path, tmp_path: Path) -> None:
    with atomic_folder(old, overwrite=True) as output:
        fill(output.folder)
        output.reject(keep_model=True)
    assert output.result == tmp_path / "out.failed"
    assert read(tmp_path / "out.failed") == NEW
    assert read(old) == {"old.txt": "old"}
    assert sorted(os.listdir(tmp_path)) == ["out", "out.failed"]


def test_of_a_failed_result_only_the_reports_are_kept(out: Path, tmp_path: Path) -> None:
    with atomic_folder(out) as output:
        fill(output.folder)
        (output.folder / "empty").mkdir()
        (output.folder / "deep" / "er").mkdir(parents=True)
        (output.folder / "deep" / "er" / "weights").write_text("x")
        (output.folder / "link").symlink_to("/nowhere")
        output.reject(keep_model=False, reports=["report.html", "report.md", "sub"])
    assert read(tmp_path / "out.failed") == dict.fromkeys(("laaciq.json", "report.html", "sub/figure.svg"), "new")
    assert sorted(os.listdir(tmp_path / "out.failed")) == ["laaciq.json", "report.html", "sub"]
    assert os.listdir(tmp_path) == ["out.failed"]


def test_one_report_of_a_subfolder(out: Path, tmp_path: Path) -> None:
    with atomic_folder(out) as output:
        fill(output.folder)
        (output.folder / "sub" / "other").touch()
        output.reject(keep_model=False, reports=["sub/figure.svg"])
    assert read(tmp_path / "out.failed") == dict.fromkeys(("laaciq.json", "sub/figure.svg"), "new")


@pytest.mark.parametrize("keep_model", [True, False])
def test_an_older_failed_result_is_replaced(out: Path, tmp_path: Path, keep_model: bool) -> None:
    for text in ("first", "second"):
        with atomic_folder(out) as output:
            fill(output.folder, text)
            output.reject(keep_model=keep_model)
    assert set(read(tmp_path / "out.failed").values()) == {"second"}
    assert os.listdir(tmp_path) == ["out.failed"]


def test_something_else_named_failed_stays(out: Path, tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match=r"out\.failed: is in the way"), atomic_folder(out) as output:
        fill(output.folder)
        output.reject(keep_model=True)
        (tmp_path / "out.failed").mkdir()
        (tmp_path / "out.failed" / "thesis.tex").write_text("x")
    assert read(tmp_path / "out.failed") == {"thesis.tex": "x"}
    assert os.listdir(tmp_path) == ["out.failed"]


# Row 52


def write_plain(path: Path) -> None:
    path.write_bytes(b"x" * 2_000_000)


def write_torch(path: Path) -> None:
    torch.save({"a": torch.ones(500_000)}, path)


def write_safetensors(path: Path) -> None:
    save_file({"a": torch.ones(500_000)}, path)


@pytest.mark.parametrize("write", [write_plain, write_torch, write_safetensors], ids=lambda write: write.__name__)
@pytest.mark.parametrize("exists", [False, True])
def test_a_full_disk(small_disk: Path, write: Callable[[Path], None], exists: bool) -> None:
    out = small_disk / "out"
    if exists:
        out.mkdir()
        (out / "old.txt").write_text("old")
    with pytest.raises(ResourceError, match=r"the disk is full.* (\d+) bytes needed, (\d+) bytes free") as caught:
        with atomic_folder(out, overwrite=True) as output:
            (output.folder / "first").write_bytes(b"x" * 300_000)
            write(output.folder / "second")
    assert caught.value.__cause__ is not None
    needed, free = (int(word) for word in str(caught.value).split() if word.isdigit())
    assert needed > 300_000
    assert 900_000 < free < 1_100_000
    assert os.listdir(small_disk) == (["out"] if exists else [])
    if exists:
        assert read(out) == {"old.txt": "old"}


def test_the_size_that_was_planned_is_stated(small_disk: Path) -> None:
    with pytest.raises(ResourceError, match="at least 900000 bytes needed"):
        with atomic_folder(small_disk / "out", needed_bytes=900_000) as output:
            (small_disk / "neighbour").write_bytes(b"x" * 600_000)
            write_plain(output.folder / "a")


def test_a_limit_on_the_size_of_files(out: Path, tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with pytest.raises(ResourceError, match="a limit on file size was reached"):
        with atomic_folder(out) as output:
            resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
            try:
                write_plain(output.folder / "a")
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert os.listdir(tmp_path) == []


def test_a_disk_that_is_full_only_when_forced(old: Path, tmp_path: Path, monkeypatch: Any) -> None:
    def fail(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(ResourceError, match="the disk is full"), atomic_folder(old, overwrite=True) as output:
        fill(output.folder)
        monkeypatch.setattr(os, "fsync", fail)
    assert read(old) == {"old.txt": "old"}
    assert os.listdir(tmp_path) == ["out"]


def test_folders_that_cannot_be_forced_are_no_error(out: Path, monkeypatch: Any) -> None:
    fsync = os.fsync

    def fail(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", fail)
    with atomic_folder(out) as output:
        fill(output.folder)
    assert read(out) == NEW


# Rows 54, 55


@pytest.mark.parametrize(
    "error",
    [SpecError("bad"), RuntimeError("bad"), FileNotFoundError("bad"), KeyboardInterrupt("bad"), SystemExit("bad")],
)
def test_an_error_passes_and_leaves_nothing(old: Path, tmp_path: Path, error: BaseException) -> None:
    with pytest.raises(type(error), match="bad") as caught, atomic_folder(old, overwrite=True) as output:
        fill(output.folder)
        raise error
    assert caught.value is error
    assert read(old) == {"old.txt": "old"}
    assert os.listdir(tmp_path) == ["out"]


def interrupt_at(number: int, work: Callable[[], None]) -> str | None:
    """Raise KeyboardInterrupt at the given line event within the package; the function it fell in, or None."""
    root = str(Path(package.__file__).parent)
    count, place = 0, None

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal count, place
        if not frame.f_code.co_filename.startswith(root):
            return None
        if event == "line":
            count += 1
            if count == number:
                place = frame.f_code.co_name
                raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    except KeyboardInterrupt:
        assert place is not None
    finally:
        sys.settrace(before)
    return place


@pytest.mark.parametrize("rejected", [False, True])
@pytest.mark.parametrize("stale", [False, True])
def test_an_interrupt_anywhere(tmp_path: Path, rejected: bool, stale: bool) -> None:
    def write(out: Path) -> Callable[[], None]:
        def work() -> None:
            with atomic_folder(out, overwrite=True) as output:
                fill(output.folder)
                if rejected:
                    output.reject(keep_model=True)

        return work

    number, left = 0, set()
    while True:
        number += 1
        place = tmp_path / str(number)
        (place / "out").mkdir(parents=True)
        (place / "out" / "old.txt").write_text("old")
        (place / "out.failed").mkdir()
        (place / "out.failed" / "laaciq.json").write_text("old")
        if stale:
            (place / ".out.lock").write_text(
                '{"pid": 4194305, "host": "%s", "started": "", "token": ""}' % os.uname()[1]
            )
            (place / ".out.tmp-4194305-00000000").mkdir()
        fell_in = interrupt_at(number, write(place / "out"))
        result = place / ("out.failed" if rejected else "out")
        assert read(result) in ({"laaciq.json": "old"} if rejected else {"old.txt": "old"}, NEW), fell_in
        if set(os.listdir(place)) - {"out", "out.failed"} and not stale:
            left.add(fell_in)
        write(place / "out")()
        assert read(result) == NEW
        assert sorted(os.listdir(place)) == ["out", "out.failed"], fell_in
        if fell_in is None:
            break
    assert number > 100
    print(left)


KILLED = """
import os, signal, sys
from inc_laaciq.output import atomic_folder
if sys.argv[3] == "handled":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
with atomic_folder(sys.argv[1], overwrite=True) as out:
    (out.folder / "half").write_text("x")
    os.kill(os.getpid(), int(sys.argv[2]))
    (out.folder / "other half").write_text("x")
"""


@pytest.mark.parametrize(
    ("number", "handled", "clean"),
    [
        (signal.SIGINT, "", True),
        (signal.SIGTERM, "handled", True),
        (signal.SIGTERM, "", False),
        (signal.SIGKILL, "", False),
    ],
    ids=["SIGINT", "SIGTERM handled", "SIGTERM", "SIGKILL"],
)
def test_signals(old: Path, tmp_path: Path, number: int, handled: str, clean: bool) -> None:
    command = [sys.executable, "-c", KILLED, str(old), str(int(number)), handled]
    done = subprocess.run(command, capture_output=True, check=False)
    assert done.returncode == (143 if handled else -number)
    assert read(old) == {"old.txt": "old"}
    assert (os.listdir(tmp_path) == ["out"]) == clean
    with atomic_folder(old, overwrite=True) as output:
        fill(output.folder)
    assert read(old) == NEW
    assert os.listdir(tmp_path) == ["out"]


def test_an_old_output_that_a_killed_run_moved_aside_comes_back(out: Path, tmp_path: Path) -> None:
    aside = tmp_path / ".out.old-4194305-0123abcd"
    aside.mkdir()
    (aside / "old.txt").write_text("old")
    with pytest.raises(ResourceError, match="exists and is not empty"), atomic_folder(out):
        pytest.fail("the work was started")
    assert read(out) == {"old.txt": "old"}
    assert os.listdir(tmp_path) == ["out"]


def test_the_leftovers_of_other_outputs_stay(out: Path, tmp_path: Path) -> None:
    names = [
        ".out.tmp-x.tmp-1-00000000",
        ".out.tmp-1-0000000",
        ".out2.tmp-1-00000000",
        ".out.tmp",
        "out.tmp-1-00000000",
    ]
    for name in names:
        (tmp_path / name).mkdir()
    (tmp_path / ".out.tmp-1-00000000").mkdir()
    with atomic_folder(out):
        pass
    assert set(os.listdir(tmp_path)) == {"out", *names}


def test_two_outputs_side_by_side(tmp_path: Path) -> None:
    with atomic_folder(tmp_path / "a") as a, atomic_folder(tmp_path / "b") as b:
        fill(a.folder)
        fill(b.folder)
    assert read(tmp_path / "a") == read(tmp_path / "b") == NEW
    assert isinstance(a, OutputFolder)

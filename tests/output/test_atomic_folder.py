from __future__ import annotations

import errno
import json
import os
import resource
import shutil
import signal
import socket
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


def write(out: Path, *work: Callable[[OutputFolder], object], **options: Any) -> OutputFolder:
    """Fill an output folder, and do the `work` on it before the end."""
    with atomic_folder(out, **options) as output:
        fill(output.folder)
        for step in work:
            step(output)
    return output


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
    with pytest.raises(ResourceError, match="cannot be written: Input/output error"):
        write(old, overwrite=True)
    assert read(old) == {"old.txt": "old"}
    assert os.listdir(tmp_path) == ["out"]


def test_what_someone_else_put_there_meanwhile_stays(out: Path, tmp_path: Path) -> None:
    def meanwhile(_: OutputFolder) -> None:
        out.mkdir()
        (out / "theirs").write_text("x")

    with pytest.raises(ResourceError, match="exists and is not empty"):
        write(out, meanwhile)
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
    def meanwhile(output: OutputFolder) -> None:
        output.reject(keep_model=True)
        (tmp_path / "out.failed").mkdir()
        (tmp_path / "out.failed" / "thesis.tex").write_text("x")

    with pytest.raises(ResourceError, match=r"out\.failed: is in the way"):
        write(out, meanwhile)
    assert read(tmp_path / "out.failed") == {"thesis.tex": "x"}
    assert os.listdir(tmp_path) == ["out.failed"]


# Row 52


def plain(output: OutputFolder) -> None:
    (output.folder / "weights").write_bytes(b"x" * 2_000_000)


def with_torch(output: OutputFolder) -> None:
    torch.save({"a": torch.ones(500_000)}, output.folder / "weights")


def with_safetensors(output: OutputFolder) -> None:
    save_file({"a": torch.ones(500_000)}, output.folder / "weights")


@pytest.mark.parametrize("work", [plain, with_torch, with_safetensors], ids=lambda work: work.__name__)
@pytest.mark.parametrize("exists", [False, True])
def test_a_full_disk(small_disk: Path, work: Callable[[OutputFolder], None], exists: bool) -> None:
    out = small_disk / "out"
    if exists:
        out.mkdir()
        (out / "old.txt").write_text("old")
    with pytest.raises(ResourceError, match=r"the disk is full.* \d+ bytes needed, \d+ bytes free") as caught:
        write(out, lambda output: (output.folder / "x").write_bytes(b"x" * 300_000), work, overwrite=True)
    assert caught.value.__cause__ is not None
    needed, free = (int(word) for word in str(caught.value).split() if word.isdigit())
    assert needed > 300_000
    # The writer of torch still holds its unfinished file then.
    assert free > (0 if work is with_torch else 900_000)
    assert os.listdir(small_disk) == (["out"] if exists else [])
    if exists:
        assert read(out) == {"old.txt": "old"}


def test_the_size_that_was_planned_is_stated(small_disk: Path) -> None:
    def crowd(_: OutputFolder) -> None:
        (small_disk / "neighbour").write_bytes(b"x" * 600_000)

    with pytest.raises(ResourceError, match="at least 900000 bytes needed"):
        write(small_disk / "out", crowd, plain, needed_bytes=900_000)


def test_a_limit_on_the_size_of_files(out: Path, tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def limited(output: OutputFolder) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
        try:
            plain(output)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    with pytest.raises(ResourceError, match="a limit on file size was reached"):
        write(out, limited)
    assert os.listdir(tmp_path) == []


def test_a_disk_that_is_full_only_when_forced(old: Path, tmp_path: Path, monkeypatch: Any) -> None:
    def fail(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(ResourceError, match="the disk is full"):
        write(old, lambda _: monkeypatch.setattr(os, "fsync", fail), overwrite=True)
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
    def fail(_: OutputFolder) -> None:
        raise error

    with pytest.raises(type(error), match="bad") as caught:
        write(old, fail, overwrite=True)
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


LEFT_BY_A_KILLED_RUN = ".out.tmp-4194305-00000000"


def scene(place: Path, *, stale: bool) -> Path:
    """An old output, an old failed one and, if `stale`, what a killed run left."""
    for name in ("out", "out.failed"):
        (place / name).mkdir(parents=True)
        (place / name / "laaciq.json").write_text("old")
    if stale:
        owner = {"pid": 4194305, "host": socket.gethostname(), "started": "", "token": ""}
        (place / ".out.lock").write_text(json.dumps(owner))
        (place / LEFT_BY_A_KILLED_RUN).mkdir()
    return place / "out"


# A file that is being opened when the interrupt comes is closed by the garbage collector, with this warning.
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(("rejected", "stale", "step"), [(False, False, 1), (True, True, 3)], ids=["plain", "rejected"])
def test_an_interrupt_anywhere(tmp_path: Path, rejected: bool, stale: bool, step: int, monkeypatch: Any) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)
    work = [lambda output: output.reject(keep_model=True)] if rejected else []
    fell_in: str | None = ""
    number = 0
    while fell_in is not None:
        number += step
        out = scene(tmp_path / str(number), stale=stale)
        result = out.with_name("out.failed") if rejected else out
        fell_in = interrupt_at(number, lambda out=out: write(out, *work, overwrite=True))
        assert read(result) in ({"laaciq.json": "old"}, NEW), fell_in
        left = set(os.listdir(out.parent)) - {"out", "out.failed", ".out.lock", LEFT_BY_A_KILLED_RUN}
        # Only what is hidden, is small or was replaced already, and is cleared by the next run.
        assert all(name.startswith((".out.try-", ".out.old-", ".out.failed.old-")) for name in left), fell_in
        write(out, *work, overwrite=True)
        assert read(result) == NEW
        assert sorted(os.listdir(out.parent)) == ["out", "out.failed"], fell_in
        shutil.rmtree(out.parent)
    assert number > 200


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
    done = subprocess.run(
        command,
        capture_output=True,
        check=False,
        # A job in the background of a script is started with SIGINT ignored, and its children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
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


def test_an_output_that_is_named_like_the_failed_one_of_another(tmp_path: Path) -> None:
    with atomic_folder(tmp_path / "a.failed") as first:
        fill(first.folder)
        with atomic_folder(tmp_path / "a") as second:
            fill(second.folder)
    assert read(tmp_path / "a") == read(tmp_path / "a.failed") == NEW

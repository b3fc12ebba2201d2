from __future__ import annotations

import fcntl
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from inc_laaciq.errors import ResourceError
from inc_laaciq.output import atomic_folder, check_output
from inc_laaciq.output.lock import EMPTY_LOCK_SECONDS, locked

HOLD = """
import sys
from pathlib import Path
from inc_laaciq.output import atomic_folder
with atomic_folder(sys.argv[1]) as out:
    (out.folder / "half").write_text("x")
    print("ready", flush=True)
    sys.stdin.read()
"""


def start(target: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(target)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def stop(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


def lock_of(target: Path) -> Path:
    return target.with_name(f".{target.name}.lock")


def write_lock(target: Path, **changes: Any) -> None:
    owner = {"pid": 1, "host": socket.gethostname(), "started": "", "token": "t"} | changes
    lock_of(target).write_text(json.dumps(owner))


# Row 58


def test_the_second_process_is_told_who_is_first(tmp_path: Path) -> None:
    target = tmp_path / "out"
    first = start(target)
    try:
        message = f"out: is being written by process {first.pid} on {socket.gethostname()}"
        with pytest.raises(ResourceError, match=message):
            check_output(target)
        with pytest.raises(ResourceError, match=message), locked(target):
            pytest.fail("two processes have the lock")
        assert lock_of(target).exists()
    finally:
        first.communicate("")
    assert (target / "half").exists()
    assert os.listdir(tmp_path) == ["out"]


def test_the_lock_of_a_killed_process_is_taken_over(tmp_path: Path) -> None:
    target = tmp_path / "out"
    stop(start(target))
    assert lock_of(target).exists()
    check_output(target)
    with atomic_folder(target) as out:
        (out.folder / "whole").touch()
    assert os.listdir(target) == ["whole"]
    assert os.listdir(tmp_path) == ["out"]


def test_a_killed_process_that_nobody_waited_for_is_gone(tmp_path: Path) -> None:
    process = start(tmp_path / "out")
    process.kill()
    try:
        deadline = time.monotonic() + 5
        while b") Z" not in Path(f"/proc/{process.pid}/stat").read_bytes() and time.monotonic() < deadline:
            time.sleep(0.01)
        check_output(tmp_path / "out")
    finally:
        process.communicate()


def test_another_host_is_never_taken_for_dead(tmp_path: Path) -> None:
    write_lock(tmp_path / "out", pid=2**22 + 1, host="elsewhere")
    with pytest.raises(ResourceError, match=r"process 4194305 on elsewhere\. .* delete .*/\.out\.lock"):
        check_output(tmp_path / "out")


def test_a_number_used_again_by_another_process(tmp_path: Path) -> None:
    write_lock(tmp_path / "out", pid=os.getppid(), started="12345")
    check_output(tmp_path / "out")
    write_lock(tmp_path / "out", pid=os.getppid(), started="")
    with pytest.raises(ResourceError, match="is being written"):
        check_output(tmp_path / "out")


def test_our_own_number_in_an_old_lock(tmp_path: Path) -> None:
    # In a container every run may have the same number.
    write_lock(tmp_path / "out", pid=os.getpid())
    with locked(tmp_path / "out"):
        assert lock_of(tmp_path / "out").exists()
    assert not lock_of(tmp_path / "out").exists()


def test_one_process_does_not_write_twice(tmp_path: Path) -> None:
    with locked(tmp_path / "out"):
        message = f"process {os.getpid()} on"
        with pytest.raises(ResourceError, match=message), locked(tmp_path / "out"):
            pytest.fail("the lock was given twice")
        assert lock_of(tmp_path / "out").exists()
    with locked(tmp_path / "out"):
        pass


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": 1}', '{"pid": -1, "host": "h", "started": "", "token": ""}'])
def test_a_lock_that_names_nobody(tmp_path: Path, text: str) -> None:
    lock = lock_of(tmp_path / "out")
    lock.write_text(text)
    with pytest.raises(ResourceError, match="by a process that did not say which"):
        check_output(tmp_path / "out")
    old = time.time() - EMPTY_LOCK_SECONDS - 1
    os.utime(lock, (old, old))
    with locked(tmp_path / "out"):
        assert json.loads(lock.read_text())["pid"] == os.getpid()


def test_a_lock_that_another_took_is_not_removed(tmp_path: Path) -> None:
    with locked(tmp_path / "out"):
        write_lock(tmp_path / "out", host="elsewhere")
    assert lock_of(tmp_path / "out").exists()


def test_processes_that_find_the_same_dead_owner_take_turns(tmp_path: Path) -> None:
    write_lock(tmp_path / "out", pid=2**22 + 1)
    other = os.open(tmp_path, os.O_RDONLY)
    try:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(ResourceError, match="another process is taking over the lock"), locked(tmp_path / "out"):
            pytest.fail("the lock was taken out of turn")
        assert json.loads(lock_of(tmp_path / "out").read_text())["pid"] == 2**22 + 1
    finally:
        os.close(other)
    with locked(tmp_path / "out"):
        assert json.loads(lock_of(tmp_path / "out").read_text())["pid"] == os.getpid()


RACE = """
import sys, time
from pathlib import Path
from inc_laaciq.errors import ResourceError
from inc_laaciq.output.lock import locked
target, start = Path(sys.argv[1]), float(sys.argv[2])
time.sleep(max(0.0, start - time.time()))
try:
    with locked(target):
        (target.parent / "inside").mkdir()
        time.sleep(0.3)
        (target.parent / "inside").rmdir()
        print("held")
except ResourceError as error:
    print("refused")
"""


@pytest.mark.parametrize("stale", [False, True])
def test_many_processes_at_once(tmp_path: Path, stale: bool) -> None:
    if stale:
        write_lock(tmp_path / "out", pid=2**22 + 1)
    command = [sys.executable, "-c", RACE, str(tmp_path / "out"), str(time.time() + 1.0)]
    crowd = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(4)]
    answers = [process.communicate() for process in crowd]
    # `inside` cannot be made twice: two owners at once would have failed.
    assert all(process.returncode == 0 for process in crowd), answers
    assert sum(out == "held\n" for out, _ in answers) >= 1
    assert {out for out, _ in answers} <= {"held\n", "refused\n"}
    assert not lock_of(tmp_path / "out").exists()

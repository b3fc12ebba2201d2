"""One process at a time for one output.

The lock is a file that names its owner.  A killed process leaves it behind, so a lock whose owner is gone is taken
over; on another host nobody can tell, and the user is asked.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import secrets
import socket
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from inc_laaciq.errors import ResourceError
from inc_laaciq.output.disk import disk_errors
from inc_laaciq.output.names import lock_path

logger = logging.getLogger(__name__)

# A process writes its name into a lock within milliseconds of creating it; an empty lock that is older was left by one
# that died in between.
EMPTY_LOCK_SECONDS = 60.0


@dataclass(frozen=True, kw_only=True)
class _Owner:
    """Who holds a lock; `started` tells a process from a later one with the same number."""

    pid: int
    host: str
    started: str
    token: str


# The locks that this very process holds now.
_held: dict[Path, _Owner] = {}


@contextlib.contextmanager
def locked(target: Path) -> Iterator[None]:
    """Hold the lock of an output during the block.

    Raises
    ------
    ResourceError
        If another process holds it, naming the process and its host.
    """
    path = lock_path(target)
    host, pid = socket.gethostname(), os.getpid()
    owner = _Owner(pid=pid, host=host, started=_started(pid) or "", token=secrets.token_hex(8))
    # In this order, an interrupt while the lock is released leaves at most a file that no longer counts as held.
    with _noted(path, owner), _file(path, owner, target):
        yield


@contextlib.contextmanager
def _noted(path: Path, owner: _Owner) -> Iterator[None]:
    try:
        yield
    finally:
        if _held.get(path) == owner:
            del _held[path]


@contextlib.contextmanager
def _file(path: Path, owner: _Owner, target: Path) -> Iterator[None]:
    try:
        with disk_errors(target, needed=1):
            _take(path, owner, target)
        _held[path] = owner
        yield
    finally:
        if _read(path) == owner:
            path.unlink(missing_ok=True)


def check_unlocked(target: Path) -> None:
    """Refuse an output that another process is writing.

    Raises
    ------
    ResourceError
        Naming the process and its host.
    """
    path = lock_path(target)
    owner = _read(path)
    if not _is_gone(owner, path):
        raise _held_by(target, owner)


def _take(path: Path, owner: _Owner, target: Path) -> None:
    if _create(path, owner):
        return
    # Two processes that find the same dead owner must not remove each other's fresh lock: they take turns.
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        check_unlocked(target)
        logger.warning("Taking over %s from a process that is gone.", path)
        path.unlink(missing_ok=True)
        if not _create(path, owner):
            raise _held_by(target, _read(path))
    except BlockingIOError as error:
        raise ResourceError(f"{target}: another process is taking over the lock of this output. Try again.") from error
    finally:
        os.close(folder)


def _create(path: Path, owner: _Owner) -> bool:
    descriptor = -1
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        os.write(descriptor, json.dumps(asdict(owner)).encode("ascii"))
    except FileExistsError:
        return False
    except BaseException:
        if descriptor >= 0:
            path.unlink(missing_ok=True)
        raise
    finally:
        if descriptor >= 0:
            os.close(descriptor)
    return True


def _read(path: Path) -> _Owner | None:
    try:
        found = _Owner(**json.loads(path.read_bytes()))
    except (OSError, ValueError, TypeError):
        return None
    return found if type(found.pid) is int and found.pid > 0 else None


def _is_gone(owner: _Owner | None, path: Path) -> bool:
    if owner is None:
        try:
            return time.time() - path.stat().st_mtime > EMPTY_LOCK_SECONDS
        except FileNotFoundError:
            return True
    if owner.host != socket.gethostname():
        return False
    if owner.pid == os.getpid():
        return _held.get(path) != owner
    started = _started(owner.pid)
    return started is None or bool(started and owner.started and started != owner.started)


def _started(pid: int) -> str | None:
    """When a process started, in clock ticks since boot: None if it is gone, "" where the system does not tell."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return None
    except PermissionError:
        logger.debug("Process %d belongs to another user.", pid)
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return ""
    return None if fields[0] in (b"Z", b"X") else fields[19].decode("ascii")


def _held_by(target: Path, owner: _Owner | None) -> ResourceError:
    who = f"process {owner.pid} on {owner.host}" if owner else "a process that did not say which"
    return ResourceError(
        f"{target}: is being written by {who}. Wait for it, or, if it is gone for certain, delete {lock_path(target)}."
    )

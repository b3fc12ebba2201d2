"""Force files to the disk, and say in plain words when the disk refuses."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from inc_laaciq.errors import ResourceError

logger = logging.getLogger(__name__)

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FULL_TEXTS = tuple(os.strerror(number) for number in _FULL)


@contextlib.contextmanager
def disk_errors(target: Path, *, needed: int) -> Iterator[None]:
    """Turn every OSError of the block into a ResourceError about `target`; `needed` in bytes."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise disk_full(target, needed=needed) from error
        raise ResourceError(
            f"{target}: cannot be written: {error.strerror or error}. Choose a folder where you can write."
        ) from error


def disk_full(target: Path, *, needed: int) -> ResourceError:
    """Return the error that says how many bytes are needed, and how many are free."""
    free = shutil.disk_usage(target.parent).free
    return ResourceError(
        f"{target}: the disk is full, or a limit on file size was reached: at least {needed} bytes needed, "
        f"{free} bytes free. Nothing was left there; what was there before is as it was."
    )


def is_disk_full(error: BaseException, folder: Path) -> bool:
    """Whether an error, of whatever type, means that the disk of `folder` is full."""
    link: BaseException | None = error
    while link is not None:
        # safetensors and others put the system's words into errors of their own.
        if (isinstance(link, OSError) and link.errno in _FULL) or any(text in str(link) for text in _FULL_TEXTS):
            return True
        link = link.__cause__ or link.__context__
    # torch says only that a write failed.
    return isinstance(error, RuntimeError) and shutil.disk_usage(folder).free < 1 << 16


def sync_tree(folder: Path) -> None:
    """Force every file and folder of a tree to the disk."""
    for place, _, names in os.walk(folder, topdown=False):
        for name in names:
            path = Path(place, name)
            if not path.is_symlink():
                _sync(path, os.O_RDONLY)
        sync_folder(Path(place))


def sync_folder(folder: Path) -> None:
    """Force the names in a folder to the disk."""
    try:
        _sync(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        # Some network file systems cannot do this for a folder; they keep its order by themselves.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise


def tree_bytes(folder: Path) -> int:
    """Size of all that is in a folder."""
    return sum(path.lstat().st_size for path in folder.rglob("*"))


def remove_tree(folder: Path) -> None:
    """Remove a folder if it is there; what resists is logged, because it is no reason to lose a result."""
    if folder.exists():
        try:
            shutil.rmtree(folder)
        except OSError as error:
            logger.warning("%s could not be removed (%s); delete it by hand.", folder, error.strerror)


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

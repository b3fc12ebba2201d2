"""Refuse an output folder that could not be written in the end, before the work starts."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from inc_laaciq.errors import ResourceError
from inc_laaciq.output.disk import disk_errors, remove_tree
from inc_laaciq.output.lock import check_unlocked
from inc_laaciq.output.names import RECORD, failed_path, resolve, sibling


def check_output(
    path: str | Path, *, overwrite: bool = False, inputs: Sequence[str | Path] = (), needed_bytes: int = 0
) -> None:
    """Refuse an output folder that could not be written in the end; call it before the work starts.

    Parameters
    ----------
    path : str or Path
        The folder to be; its parent must exist.
    overwrite : bool
        Whether a folder that is there, and not empty, may be replaced.
    inputs : sequence of paths
        Files and folders that are read; the output may not be, hold or lie in one.
    needed_bytes : int
        Expected size of the output; 0 where it is not known.

    Raises
    ------
    ResourceError
        Saying what is in the way.
    """
    target = resolve(path)
    with disk_errors(target, needed=max(needed_bytes, 1)):
        _refuse_place(target)
        refuse_inputs(target, inputs)
        refuse_occupied(target, overwrite=overwrite)
        refuse_foreign(failed_path(target))
        check_unlocked(target)
        try_writing(target)
    check_space(target, needed_bytes)


def check_space(path: str | Path, needed_bytes: int) -> None:
    """Refuse an output that the disk cannot hold.

    Raises
    ------
    ResourceError
        With the bytes that are needed and free.
    """
    target = resolve(path)
    with disk_errors(target, needed=max(needed_bytes, 1)):
        free = shutil.disk_usage(target.parent).free
    if needed_bytes > free:
        raise ResourceError(
            f"{target}: the disk is too small: {needed_bytes} bytes needed, {free} bytes free. "
            f"Free space, or choose another disk."
        )


def refuse_occupied(target: Path, *, overwrite: bool) -> None:
    """Refuse an output that exists and is not an empty folder, unless it may be replaced."""
    if not os.path.lexists(target):
        return
    if not target.is_dir():
        raise ResourceError(f"{target}: is a file, where a folder is to be written. Choose another name, or move it.")
    if any(target.iterdir()) and not overwrite:
        raise ResourceError(
            f"{target}: exists and is not empty. "
            f"Choose another folder, or pass --overwrite to replace all that is in it."
        )


def refuse_foreign(failed: Path) -> None:
    """Refuse a `<output>.failed` that this package did not write, and so may not replace."""
    if not os.path.lexists(failed):
        return
    is_folder = failed.is_dir() and not failed.is_symlink()
    if not is_folder or (any(failed.iterdir()) and not (failed / RECORD).is_file()):
        raise ResourceError(
            f"{failed}: is in the way of a result that fails its gate, and was not written by inc-laaciq "
            f"(no {RECORD} in it). Move it."
        )


def _refuse_place(target: Path) -> None:
    if not target.parent.is_dir():
        what = "is not a folder" if target.parent.exists() else "does not exist"
        raise ResourceError(
            f"{target}: cannot be written, because {target.parent} {what}. Make that folder first, or choose another."
        )
    home = resolve(os.path.expanduser("~"))
    for place, what in ((home, "your home folder"), (Path.cwd(), "the current folder")):
        if target == place or target in place.parents:
            raise ResourceError(
                f"{target}: is or holds {what}, and an output folder is replaced as a whole. "
                f"Choose a folder of its own."
            )
    if os.path.ismount(target):
        raise ResourceError(
            f"{target}: is a mount point, which cannot be replaced in one step. Choose a folder inside it."
        )


def refuse_inputs(target: Path, inputs: Sequence[str | Path]) -> None:
    """Refuse what would be written over an input, into one, or around one.

    Parameters
    ----------
    target : Path
    inputs : sequence of path
        Those that do not exist, such as hub ids, are passed over.
    """
    for given in inputs:
        if not os.path.lexists(given):
            continue
        source = resolve(given)
        for place in (target, failed_path(target)):
            if _same(place, source):
                fault = f"would be written, and is read as an input ({given})"
            elif any(_same(parent, source) for parent in place.parents):
                fault = f"would be written inside the input {given}"
            elif any(_same(parent, place) for parent in source.parents):
                fault = f"would be written, and holds the input {given}"
            else:
                continue
            raise ResourceError(f"{place}: {fault}. Choose an output folder apart from the inputs.")


def _same(first: Path, second: Path) -> bool:
    # By inode, so that a bind mount or a file system that ignores case does not hide it.
    try:
        return os.path.samefile(first, second)
    except OSError:
        return first == second


def try_writing(target: Path) -> None:
    """Make and rename something beside `target`, and remove it; OSError if that is not possible."""
    # Done for real: permission bits say nothing to root, and some network file systems can write but not rename.
    first, second = sibling(target, "try"), sibling(target, "try")
    try:
        first.mkdir()
        with open(first / RECORD, "wb") as file:
            file.write(b"\n")
            file.flush()
            os.fsync(file.fileno())
        os.rename(first, second)
    finally:
        remove_tree(first)
        remove_tree(second)

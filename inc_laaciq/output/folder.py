"""Write a folder that appears complete, or not at all."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from inc_laaciq.errors import LaaciqError
from inc_laaciq.output.checks import check_output, refuse_foreign, refuse_occupied
from inc_laaciq.output.disk import (
    disk_errors,
    disk_full,
    is_disk_full,
    remove_tree,
    sync_folder,
    sync_tree,
    tree_bytes,
)
from inc_laaciq.output.lock import locked
from inc_laaciq.output.names import RECORD, failed_path, resolve, sibling, sibling_kind

logger = logging.getLogger(__name__)


@dataclass(kw_only=True)
class OutputFolder:
    """A folder being written, and what becomes of it.

    Parameters
    ----------
    path : Path
        Where it goes if all is well.
    folder : Path
        Where to write meanwhile.
    result : Path or None
        Where it went; None before the end.
    """

    path: Path
    folder: Path
    result: Path | None = None
    _rejected: bool = False
    _kept: tuple[str, ...] | None = None

    def reject(self, *, keep_model: bool, reports: Iterable[str] = ()) -> None:
        """Send the folder to `<path>.failed` at the end; whatever is at `path` stays.

        Parameters
        ----------
        keep_model : bool
            Whether all files are kept; otherwise only `laaciq.json` and `reports` are.
        reports : iterable of str
            Names of files or folders in the folder; one that does not exist is no error.
        """
        self._rejected = True
        self._kept = None if keep_model else (RECORD, *reports)


@contextlib.contextmanager
def atomic_folder(
    path: str | Path, *, overwrite: bool = False, inputs: Sequence[str | Path] = (), needed_bytes: int = 0
) -> Iterator[OutputFolder]:
    """Write a folder that appears at `path` complete, or not at all.

    Enter it before the work starts: the checks of `check_output`, whose parameters these are, are made at once, and the
    lock is held from then on.

    Yields
    ------
    OutputFolder
        Write into its `folder`.  If the block ends, all is forced to the disk and renamed to `path`, or to where
        `reject` sends it; if the block raises, the temporary folder is removed and an old output stays as it was.

    Raises
    ------
    ResourceError
        As `check_output`; if another process holds the output; or, in place of the writer's error, if the disk became
        full.
    """
    check_output(path, overwrite=overwrite, inputs=inputs, needed_bytes=needed_bytes)
    target = resolve(path)
    output = OutputFolder(path=target, folder=sibling(target, "tmp"))
    with locked(target):
        try:
            with disk_errors(target, needed=max(needed_bytes, 1)):
                _clear_leftovers(target, ("tmp", "old", "try"))
                # Of that name only the swap makes siblings; a tmp or try is of a run with that very output.
                _clear_leftovers(failed_path(target), ("old",))
                refuse_occupied(target, overwrite=overwrite)
                output.folder.mkdir()
            yield output
            with disk_errors(target, needed=max(needed_bytes, tree_bytes(output.folder))):
                _commit(output, overwrite=overwrite)
        except Exception as error:
            # Writers report a full disk by errors of their own: OSError, RuntimeError of torch, SafetensorError.
            if isinstance(error, LaaciqError) or not is_disk_full(error, target.parent):
                raise
            written = tree_bytes(output.folder)
            remove_tree(output.folder)
            raise disk_full(target, needed=max(needed_bytes, written + 1)) from error
        finally:
            remove_tree(output.folder)


def _clear_leftovers(destination: Path, kinds: Sequence[str]) -> None:
    # Called under the lock, so nobody is writing there: these are of runs that were killed.
    for entry in sorted(destination.parent.iterdir()):
        kind = sibling_kind(entry, destination)
        if kind == "old" and not destination.exists():
            logger.warning("Bringing back %s, which a run that was killed had moved aside.", destination)
            os.rename(entry, destination)
        elif kind in kinds:
            logger.info("Removing %s, left by a run that was killed.", entry)
            remove_tree(entry)


def _commit(output: OutputFolder, *, overwrite: bool) -> None:
    if output._kept is not None:
        _keep_only(output.folder, output._kept)
    sync_tree(output.folder)
    if output._rejected:
        destination = failed_path(output.path)
        refuse_foreign(destination)
    else:
        destination = output.path
        refuse_occupied(destination, overwrite=overwrite)
    _swap(output.folder, destination)
    output.result = destination


def _swap(new: Path, destination: Path) -> None:
    aside = sibling(destination, "old")
    try:
        if destination.is_dir() and any(destination.iterdir()):
            os.rename(destination, aside)
        os.rename(new, destination)
        sync_folder(destination.parent)
    finally:
        # Judged by what is there, because an interrupt can fall between a rename and any note of it.
        if aside.exists():
            if not new.exists():
                remove_tree(aside)
            elif not destination.exists():
                os.rename(aside, destination)
            else:
                logger.error("The former %s is now %s: something else took its place.", destination, aside)


def _keep_only(folder: Path, names: Sequence[str]) -> None:
    kept = {folder / name for name in names}
    for entry in sorted(folder.rglob("*"), reverse=True):
        if any(place in kept for place in (entry, *entry.parents)):
            continue
        if entry.is_symlink() or not entry.is_dir():
            entry.unlink()
        elif not any(entry.iterdir()):
            entry.rmdir()

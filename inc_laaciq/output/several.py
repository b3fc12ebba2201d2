"""Write several files that are read together."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from inc_laaciq.output.disk import disk_errors, sync_folder
from inc_laaciq.output.lock import locked
from inc_laaciq.output.names import resolve, sibling


def write_several_atomic(files: Mapping[Path, bytes], *, remove: Iterable[Path] = ()) -> None:
    """Write files of one folder so that each is the old one or the new one, and all are new if nothing fails.

    All content is written beside the files and forced to the disk first, so that a full disk or an interrupt leaves
    everything as it was; what remains is to give the names, in the order of `files`.

    Parameters
    ----------
    files : mapping of path -> content
        The file whose presence makes readers take the others seriously should be the last.
    remove : iterable of path
        Files that the new ones make wrong; they go before the first new file appears.

    Raises
    ------
    ResourceError
        If the disk is full, the folder is missing or not writable, or another process writes the last of the files.
    """
    targets = {resolve(path): content for path, content in files.items()}
    written: dict[Path, Path] = {}
    last = list(targets)[-1]
    with locked(last), disk_errors(last, needed=sum(map(len, targets.values()))):
        try:
            for target, content in targets.items():
                written[target] = sibling(target, "tmp")
                with open(written[target], "xb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
            for path in remove:
                path.unlink(missing_ok=True)
            for target, temporary in written.items():
                os.replace(temporary, target)
            sync_folder(last.parent)
        finally:
            for temporary in written.values():
                temporary.unlink(missing_ok=True)

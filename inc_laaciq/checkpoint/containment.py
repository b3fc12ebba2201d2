"""Keep every file of a model inside the model's own folder.

A checkpoint is data from strangers.  A link, or a shard name with `..` in it, could make a loader read any file of the
user, so each entry is resolved before it is opened.  The one exception is the Hugging Face cache, whose snapshots are
links into the `blobs` folder beside them.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from inc_laaciq.errors import IntegrityError

# transformers reads chat templates from this subfolder; everything else that it reads lies in the folder itself.
TEMPLATE_FOLDER = "additional_chat_templates"


def check_contained(folder: Path) -> None:
    """Refuse a model folder with a link that leaves it, or that leads nowhere.

    Parameters
    ----------
    folder : Path
        An existing folder.

    Raises
    ------
    IntegrityError
        Naming every such entry at once.
    """
    roots = allowed_roots(folder)
    faults: list[str] = []
    for place in (folder, folder / TEMPLATE_FOLDER):
        if place.is_dir():
            for entry in sorted(place.iterdir()):
                fault = _fault_of(entry, roots)
                if fault:
                    faults.append(fault)
    if faults:
        raise IntegrityError(
            f"{folder}: a file of a model must lie inside its folder: {'; '.join(faults)}. Copy the files themselves "
            "into the folder."
        )


def allowed_roots(folder: Path) -> tuple[Path, ...]:
    """Where the files of a model may really lie: in its own folder and, in a Hugging Face cache, in its `blobs`."""
    real = Path(os.path.realpath(folder))
    repository = real.parent.parent
    if real.parent.name == "snapshots" and repository.name.startswith("models--"):
        return (real, repository / "blobs")
    return (real,)


def inside(path: Path, roots: Sequence[Path]) -> bool:
    """Whether the real place of `path`, which need not exist, is in one of `roots`."""
    real = Path(os.path.realpath(path))
    return any(real.is_relative_to(root) for root in roots)


def check_redirects(settings: Mapping[str, Any], keys: Iterable[str], *, where: str) -> None:
    """Refuse settings that send transformers to other files than the ones that are checked.

    Raises
    ------
    IntegrityError
        Naming the first of `keys` that `settings` has a value for.
    """
    for key in keys:
        if settings.get(key):
            raise IntegrityError(
                f"{where}: {key}={ascii(settings[key])[:120]} would make transformers read other files than the ones "
                f"that are checked. Remove that key, and give the files their usual names."
            )


def check_plain_name(name: str, *, where: str) -> str:
    """Return `name` if it is the name of a file with no folder in it.

    Raises
    ------
    IntegrityError
        For an empty name, `..`, an absolute path, a separator of any system or a NUL.
    """
    if not name or name in {".", ".."} or any(mark in name for mark in "/\\\0") or name[1:2] == ":":
        raise IntegrityError(
            f"{where}: {name!r} is not the plain name of a file in the model's folder; a path may not leave it."
        )
    return name


def check_regular(path: Path) -> os.stat_result:
    """Return the status of an ordinary file, and refuse all else; a pipe or a device would hang the reader.

    Raises
    ------
    IntegrityError
        If `path` is missing, or is not a regular file.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise IntegrityError(f"{path}: cannot be read: {error.strerror}.") from error
    if not stat.S_ISREG(status.st_mode):
        raise IntegrityError(f"{path}: is not an ordinary file.")
    return status


def _fault_of(entry: Path, roots: Sequence[Path]) -> str:
    if not entry.is_symlink():
        return ""
    if not inside(entry, roots):
        return f"{entry.name} is a link that leaves it, to {os.readlink(entry)!r}"
    return "" if entry.exists() else f"{entry.name} is a link to a missing file, {os.readlink(entry)!r}"

"""Content hashes of checkpoint files, and the proof that they stayed the same while they were read."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from inc_laaciq.checkpoint.containment import allowed_roots, check_regular, inside
from inc_laaciq.errors import IntegrityError

CHUNK_BYTES = 1 << 20

Fingerprint = Mapping[Path, tuple[int, int, int]]


def sha256_of_files(paths: Iterable[Path]) -> str:
    """SHA-256 of files, one after the other in the order of their names, as `cat *.safetensors | sha256sum` has it.

    Raises
    ------
    IntegrityError
        If one is not an ordinary readable file.
    """
    digest = hashlib.sha256()
    for path in sorted(paths, key=lambda path: path.name):
        check_regular(path)
        try:
            with path.open("rb") as file:
                while chunk := file.read(CHUNK_BYTES):
                    digest.update(chunk)
        except OSError as error:
            raise IntegrityError(f"{path}: cannot be read: {error.strerror}.") from error
    return digest.hexdigest()


def verify_manifest(folder: Path, manifest: Mapping[str, str], *, required: Iterable[str] = ()) -> None:
    """Check files against the SHA-256 that a manifest promises.

    Parameters
    ----------
    folder : Path
        Where the files are.
    manifest : mapping
        Name of a file in `folder` -> 64 hexadecimal digits.
    required : iterable of str
        Names that the manifest must have, because a file that it does not name is not vouched for.

    Raises
    ------
    IntegrityError
        Listing every file that differs, is missing, is not named, or lies outside the folder.
    """
    roots = allowed_roots(folder)
    faults = [f"{name} is not in the manifest" for name in sorted(set(required) - set(manifest))]
    for name, promised in sorted(manifest.items()):
        path = folder / name
        if not isinstance(promised, str) or not re.fullmatch(r"[0-9a-fA-F]{64}", promised):
            faults.append(f"the manifest has no SHA-256 for {name}, but {promised!r}")
        elif "\0" in name or not inside(path, roots):
            faults.append(f"{name} lies outside the folder")
        elif not os.path.isfile(path):
            faults.append(f"{name} is missing")
        else:
            found = sha256_of_files([path])
            if found != promised.lower():
                faults.append(f"{name} has SHA-256 {found}, {promised.lower()} expected")
    if faults:
        raise IntegrityError(f"{folder}: the files are not those of the manifest:\n  " + "\n  ".join(faults))


def fingerprint(paths: Iterable[Path]) -> Fingerprint:
    """Size, time of change in nanoseconds and inode of each file, to be compared after reading.

    Raises
    ------
    IntegrityError
        If one cannot be read.
    """
    found = {}
    for path in sorted(paths):
        status = check_regular(path)
        found[path] = (status.st_size, status.st_mtime_ns, status.st_ino)
    return found


def check_unchanged(before: Fingerprint) -> None:
    """Refuse files that changed since their fingerprint was taken.

    Raises
    ------
    IntegrityError
        Listing every file that changed or went away.
    """
    changed = []
    for path, old in before.items():
        try:
            status = os.stat(path)
        except OSError:
            changed.append(f"{path.name} went away")
            continue
        if (status.st_size, status.st_mtime_ns, status.st_ino) != old:
            changed.append(f"{path.name} changed")
    if changed:
        folder = next(iter(before)).parent
        raise IntegrityError(
            f"{folder}: {', '.join(changed)} while the model was being loaded; what was read cannot be trusted. Load "
            "it again when nothing writes there."
        )

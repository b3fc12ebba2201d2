"""Names of the files and folders that writing an output makes."""

from __future__ import annotations

import os
import re
import secrets
from pathlib import Path

# Every output folder of this package has this file; a folder with it is ours to replace.
RECORD = "laaciq.json"
FAILED_SUFFIX = ".failed"


def resolve(path: str | Path) -> Path:
    """Absolute path with every link followed, so that the current folder may change during a run."""
    return Path(os.path.realpath(path))


def failed_path(target: Path) -> Path:
    """Where a result goes that failed its gate."""
    return target.with_name(target.name + FAILED_SUFFIX)


def lock_path(target: Path) -> Path:
    """Where the lock of an output is."""
    return target.with_name(f".{target.name}.lock")


def sibling(target: Path, kind: str) -> Path:
    """Return a new name beside `target`, on the same file system; `kind` is tmp, old or try."""
    return target.with_name(f".{target.name}.{kind}-{os.getpid()}-{secrets.token_hex(4)}")


def sibling_kind(entry: Path, target: Path) -> str | None:
    """Return the kind of a name that `sibling` made for this very target, or None."""
    pattern = re.escape(f".{target.name}.") + r"(tmp|old|try)-\d+-[0-9a-f]{8}"
    match = re.fullmatch(pattern, entry.name)
    return match[1] if match else None

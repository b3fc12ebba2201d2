"""Where a result comes from: versions, threads, time.  Everything that may differ between equal runs is `meta.time`."""

from __future__ import annotations

import datetime
import hashlib
import importlib.metadata
import platform
from functools import cache
from pathlib import Path
from typing import Any

_PACKAGES = ("inc-laaciq", "neural-compressor", "torch", "transformers", "numpy", "safetensors")
_PACKAGE = Path(__file__).parent


def meta() -> dict[str, Any]:
    """Time, versions and torch's thread count, for what a model was run for."""
    import torch

    return {**meta_without_model(), "threads": torch.get_num_threads()}


def meta_without_model() -> dict[str, Any]:
    """Time and versions, for what was found from stored results: torch has no part in it and is not imported."""
    return {
        "time": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "versions": {"python": platform.python_version(), **versions()},
    }


def versions() -> dict[str, str]:
    """Versions of the packages that decide a result; absent ones are left out."""
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


@cache
def sources_sha256(parts: tuple[str, ...] | None = None, *, package: Path = _PACKAGE) -> str:
    """Hash of this package's Python files, which change more often than its version.

    Parameters
    ----------
    parts : tuple of str, or None
        Folders and files directly in the package that count; None = all.
    package : Path
        Its folder.
    """
    files = [path for path in package.rglob("*.py") if parts is None or path.relative_to(package).parts[0] in parts]
    digest = hashlib.sha256()
    for path in sorted(files):
        digest.update(f"{path.relative_to(package).as_posix()}\n".encode() + path.read_bytes())
    return digest.hexdigest()

"""Real trouble for the output: small and read-only disks, and processes that are killed."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """Mount something at a new folder; skip where that is not allowed."""
    places: list[Path] = []

    def mount(*options: str) -> Path:
        place = tmp_path / f"mount-{len(places)}"
        place.mkdir()
        try:
            done = subprocess.run(["mount", *options, str(place)], capture_output=True, text=True, check=False)
        except FileNotFoundError:
            pytest.skip("there is no mount command")
        if done.returncode != 0:
            pytest.skip(f"mounting is not allowed here: {done.stderr.strip()}")
        places.append(place)
        return place

    yield mount
    for place in reversed(places):
        # Lazy: a writer that failed may hold its file until its traceback is gone.
        subprocess.run(["umount", "--lazy", str(place)], check=True)


@pytest.fixture
def small_disk(mounted: Callable[..., Path]) -> Path:
    """A disk of one MiB."""
    return mounted("-t", "tmpfs", "-o", "size=1m", "tmpfs")

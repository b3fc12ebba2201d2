"""Memory of this process, where the system tells."""

from __future__ import annotations

import re
from pathlib import Path


def forget_peak() -> int | None:
    """Start the count of the largest memory anew; the resident bytes now, or None where the system cannot."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return None
    return _status("VmRSS")


def peak() -> int | None:
    """Largest resident memory in bytes, libraries included; None where the system does not tell."""
    return _status("VmHWM")


def _status(name: str) -> int | None:
    try:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
    except OSError:
        return None
    found = re.search(rf"{name}:\s+(\d+) kB", status)
    return 1024 * int(found[1]) if found else None

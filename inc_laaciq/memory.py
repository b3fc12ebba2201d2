"""How much memory is free, as far as the system tells, and giving back what is not used."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_CGROUP = Path("/sys/fs/cgroup")


def available_memory() -> int | None:
    """Free memory in bytes, within the limit of the control group; None where neither can be read."""
    limits = [value for value in (_system_memory(), _group_memory()) if value is not None]
    return min(limits) if limits else None


def _system_memory() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)
    except (OSError, ValueError):
        return None


def _group_memory(folder: Path = _CGROUP) -> int | None:
    try:
        limit = (folder / "memory.max").read_text(encoding="ascii").strip()
        if limit == "max":
            return None
        used = int((folder / "memory.current").read_text(encoding="ascii"))
        # Files that were read count as used, but make way when memory is needed.
        lines = (folder / "memory.stat").read_text(encoding="ascii").splitlines()
        cached = sum(int(line.split()[1]) for line in lines if line.split()[0] in ("inactive_file", "slab_reclaimable"))
        return max(0, int(limit) - used + cached)
    except (OSError, ValueError):
        return None


def return_freed_memory() -> None:
    """Hand memory that was freed back to the system, where the C library can: it keeps hundreds of megabytes else."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:  # glibc has it, musl has not
        trim(0)


def forget_weights(model: PreTrainedModel) -> None:
    """Free the weights of a model; their shapes, types and ties stay."""
    model.to("meta")
    model.tie_weights()  # each module got parameters of its own
    return_freed_memory()

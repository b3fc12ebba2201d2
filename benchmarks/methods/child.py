"""A program in a process of its own, with what it took."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

BENCHMARKS = Path(__file__).parents[1]
OPTIMUM = ("-m", "optimum.commands.optimum_cli")
"""What `optimum-cli` runs."""


def run_child(*arguments: str) -> tuple[str, dict[str, Any]]:
    """Run Python with arguments in the folder of the benchmarks.

    Returns
    -------
    str
        What it printed.
    dict
        `seconds`, `processor_seconds`, and `peak_bytes`, its largest resident memory.  A new process begins as a copy
        of this one, so that it never counts as smaller: what is measured must be larger than what measures.

    Raises
    ------
    SystemExit
        If it fails, with the end of what it said.
    """
    with tempfile.TemporaryFile() as printed, tempfile.TemporaryFile() as said:
        started = time.perf_counter()
        process = subprocess.Popen([sys.executable, *arguments], stdout=printed, stderr=said, cwd=BENCHMARKS)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        for file in (printed, said):
            file.seek(0)
        text = printed.read().decode(errors="replace")
        if process.returncode:
            tail = (text + said.read().decode(errors="replace"))[-3000:]
            raise SystemExit(f"{' '.join(arguments)} failed with exit code {process.returncode}:\n{tail}")
    taken = {
        "seconds": seconds,
        "processor_seconds": usage.ru_utime + usage.ru_stime,
        "peak_bytes": usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024),
    }
    return text, taken

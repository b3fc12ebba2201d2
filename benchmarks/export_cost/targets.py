"""What was promised about the cost of an export, and whether a run keeps it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from speed.targets import entry

from export_cost import names

MEMORY = 1.1
"""Peak memory, as a multiple of that of optimum's float export, at most."""

TIME = 1.0
"""Seconds of solver and surgery, as a multiple of those of the float export in the same run, at most."""


def ratios(runs: Mapping[str, Any]) -> dict[str, float]:
    """Peaks of memory as multiples of optimum's, and solver with surgery as a multiple of the float export."""
    plain = runs[names.PLAIN]["peak_bytes"]
    found = {
        f"peak memory, {name} / {names.PLAIN}": runs[name]["peak_bytes"] / plain
        for name in (names.FAST, names.BALANCED)
        if name in runs
    }
    stages = runs[names.STAGES]["stages"]
    for clock in ("processor_seconds", "seconds"):
        ours = stages[names.SOLVER][clock] + stages[names.SURGERY][clock]
        found[f"solver and surgery / float export, {clock.replace('_', ' ')}"] = ours / stages[names.EXPORT][clock]
    return found


def judge(found: Mapping[str, float]) -> list[dict[str, Any]]:
    """The two promises with their verdicts; time is the processor's, which a busy machine hardly changes."""
    limits = {
        f"peak memory, {names.FAST} / {names.PLAIN}": MEMORY,
        "solver and surgery / float export, processor seconds": TIME,
    }
    return [entry(name, found[name], "at most", limit) for name, limit in limits.items()]

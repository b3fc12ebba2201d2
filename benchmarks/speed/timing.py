"""Repetitions in turns, and what is said about them."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Timed = Callable[[], float]
"""Does the work and returns its seconds: what has to be prepared or checked around it is not counted."""


def timed(call: Callable[[], Any]) -> Timed:
    """The seconds of a call that needs nothing around it."""

    def run() -> float:
        started = time.perf_counter()
        call()
        return time.perf_counter() - started

    return run


def interleave(work: Mapping[str, Timed], repetitions: int) -> dict[str, list[float]]:
    """Seconds of every repetition of each: one of everything in turns, so that a busy moment hits all alike."""
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for number in range(repetitions):
        for name, run in work.items():
            seconds[name].append(run())
            print(f"  {number + 1}/{repetitions} {name}: {seconds[name][-1]:.4g} s", file=sys.stderr, flush=True)
    return seconds


def rows(repetitions: Mapping[str, Sequence[float]], weights: int | None = None) -> dict[str, dict[str, Any]]:
    """Median and repetitions of each, and seconds per million weights where `weights` are given."""
    found: dict[str, dict[str, Any]] = {}
    for name, seconds in repetitions.items():
        found[name] = {"seconds": statistics.median(seconds), "repetitions": list(seconds)}
        if weights is not None:
            found[name]["seconds_per_million_weights"] = found[name]["seconds"] / weights * 1e6
    return found


def ratio(found: Mapping[str, Mapping[str, Any]], name: str, reference: str) -> float | None:
    """Seconds of one as a multiple of those of another; None where one of them was not run."""
    if name not in found or reference not in found:
        return None
    return float(found[name]["seconds"] / found[reference]["seconds"])


def ratios(found: Mapping[str, Mapping[str, Any]], pairs: Sequence[tuple[str, str]]) -> dict[str, float]:
    """`ratio` of each pair that was run, under "name / reference"."""
    values = {f"{name} / {reference}": ratio(found, name, reference) for name, reference in pairs}
    return {name: value for name, value in values.items() if value is not None}

"""Progress of long work: a bar with an estimate on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_EVERY_SECONDS = 10.0


@contextmanager
def stages(write: Callable[[str], object], *, plain: bool) -> Iterator[Callable[[str, int, int], None]]:
    """A callable(stage, done, total) that shows what is going on.

    Parameters
    ----------
    write : callable(str)
        Takes plain lines.
    plain : bool
        Lines rather than a bar on stderr, which only a terminal can show and log messages would tear apart.
    """
    if plain:
        yield _Lines(write)
    else:
        with _bars() as show:
            yield show


@contextmanager
def _bars() -> Iterator[Callable[[str, int, int], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description:<24}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        tasks: dict[str, TaskID] = {}

        def show(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = progress.add_task(stage, total=total)
            progress.update(tasks[stage], completed=done, total=total)

        yield show


class _Lines:
    """One line when a stage begins, every ten seconds, and when it ends."""

    def __init__(self, write: Callable[[str], object]) -> None:
        self._write = write
        self._stage = ""
        self._began = self._told = 0.0

    def __call__(self, stage: str, done: int, total: int) -> None:
        now = time.monotonic()
        if stage != self._stage:
            self._stage, self._began, self._told = stage, now, 0.0
        elapsed = now - self._began
        if done < total and now - self._told < _EVERY_SECONDS:
            return
        self._told = now
        left = f", about {elapsed / done * (total - done):.0f} s left" if 0 < done < total else ""
        self._write(f"{stage}: {done} of {total}, {elapsed:.0f} s{left}")

"""What a method is, and the table of all of them."""

from __future__ import annotations

import importlib.metadata
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

METHOD_VERSION = 1
"""Raised when a change of this folder changes what a method or the measurement gives: all cells are then made anew."""

CALIBRATIONS = ("none", "english", "multilingual")


class NotRunError(Exception):
    """A method cannot run here, for a reason that is known and goes into the result."""


class LayersError(Exception):
    """A method quantized other layers than it was asked to, or on another grid: its figures would compare nothing."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """What a method is given.

    Parameters
    ----------
    source : LoadedModel
        The float model; not to be changed.
    layers : sequence of str
        Names of the layers to quantize, no more and no fewer.
    kept : sequence of str
        Names of the linear layers that stay in float.
    batches : dict of str to tuple of LongTensor
        Calibration text by language, as `inc_laaciq.calibration.batches.pack` gives it; empty for data-free methods.
    rows : sequence of LongTensor, shape (1, tokens)
        The same text row by row, languages mixed in a seeded order.
    text_bytes : dict of str to int
        Size of the text that the batches were drawn from.
    bits, group_size, seed : int
    cache : Path
        Folder for what several cells share, such as an exported model.
    """

    source: Any
    layers: Sequence[str]
    kept: Sequence[str]
    batches: dict[str, tuple[torch.Tensor, ...]]
    rows: Sequence[torch.Tensor]
    text_bytes: dict[str, int]
    bits: int
    group_size: int
    seed: int
    cache: Path


@dataclass(kw_only=True)
class Quantized:
    """What a method returns: something that gives logits, the layers it quantized, and how long that took."""

    model: Any
    layers: list[str]
    seconds: float
    scheme: str
    notes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Method:
    """A method and what it needs; `check` gives the reason why it cannot run here, or nothing."""

    name: str
    run: Callable[[Job], Quantized]
    calibrations: tuple[str, ...]
    packages: tuple[str, ...]
    about: str
    bits: tuple[int, ...] = (2, 3, 4, 8)
    is_ours: bool = False
    check: Callable[[], str | None] = lambda: None

    def unavailable(self, bits: int) -> str | None:
        """Why this method cannot be run at this number of bits on this machine; None if it can."""
        if bits not in self.bits:
            return f"has no {bits}-bit format, only {', '.join(map(str, self.bits))} bits"
        missing = [package for package, version in self.versions().items() if version is None]
        return f"not installed: {', '.join(missing)}" if missing else self.check()

    def versions(self) -> dict[str, str | None]:
        """Versions of the packages it uses; None where one is not installed."""
        return {package: version(package) for package in ("torch", "transformers", *self.packages)}


METHODS: dict[str, Method] = {}


def register(method: Method) -> None:
    """Add a method to the table; a name is given once."""
    if method.name in METHODS:
        raise ValueError(f"there are two methods called {method.name!r}")
    METHODS[method.name] = method


def version(package: str) -> str | None:
    """Installed version of a package; None if it is not there."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


class Stopwatch:
    """Processor seconds of the last block that `running` was wrapped around, which a busy machine hardly changes."""

    seconds = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Time a block."""
        start = time.process_time()
        yield
        self.seconds = time.process_time() - start

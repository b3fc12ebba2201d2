"""What a run reads: its output may not be, hold or lie in any of it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from inc_laaciq.config import RunSpec


def input_paths(model: str | Path | None, config: Any, run: RunSpec) -> list[Path]:
    """Files and folders that a run reads.

    Parameters
    ----------
    model : path or hub id, optional
        Goes before that of the configuration.
    config : path or anything
        The configuration; looked at only if it is a file.
    run : RunSpec
    """
    found = [Path(config)] if isinstance(config, (str, Path)) else []
    where = model if model is not None else run.model
    if where is not None and os.path.exists(where):
        found.append(Path(where))
    texts = (spec.texts for spec in (run.la_aciq.calibration, run.la_aciq.evaluation) if spec is not None)
    return [*found, *_paths(list(texts))]


def _paths(sources: Any) -> Iterator[Path]:
    """Files and folders that sources of text name; those of a data set are nested, and hub ids are not absolute."""
    if isinstance(sources, str):
        if os.path.isabs(sources):
            yield Path(sources)
    elif isinstance(sources, (list, Mapping)):
        for inner in sources.values() if isinstance(sources, Mapping) else sources:
            yield from _paths(inner)

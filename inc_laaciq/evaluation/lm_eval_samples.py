"""The samples file that lm-evaluation-harness writes for a task with `--log_samples`: a document a line and filter."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inc_laaciq.errors import IntegrityError, SpecError
from inc_laaciq.evaluation.foreign_files import json_lines, shown

NO_FILTER = "none"

_NOT_METRICS = {
    "doc_id", "doc", "target", "arguments", "resps", "filtered_resps", "filter", "metrics", "doc_hash", "prompt_hash",
    "target_hash",
}  # fmt: skip
_HASHES = ("doc_hash", "prompt_hash", "target_hash")


@dataclass(frozen=True, kw_only=True)
class Sample:
    """What one document got.

    Parameters
    ----------
    where : str
        `file:line`.
    doc_id : int or None
        Number of the document in the task.
    hashes : tuple of str
        Of the document, the prompt and the right answer; empty where the file has none.
    filter : str
        What the answer was cut out with; `"none"` if with nothing.
    value : Any
        Of the metric: a number, or what the harness needs to compute one over all documents.
    """

    where: str
    doc_id: int | None
    hashes: tuple[str, ...]
    filter: str
    value: Any


@dataclass(frozen=True, kw_only=True)
class SamplesFile:
    """A samples file, read for one metric.

    Parameters
    ----------
    samples : tuple of Sample
        Those that have the metric, of all filters.
    n_without : int
        How many others there are.
    metrics : tuple of str
        Metrics that the file has.
    task_hash : str
        As lm-evaluation-harness computes it over all lines; empty where a line has no hashes.
    """

    samples: tuple[Sample, ...]
    n_without: int
    metrics: tuple[str, ...]
    task_hash: str


def read_samples(path: Path, metric: str) -> SamplesFile:
    """Read a samples file.

    Parameters
    ----------
    path : path
    metric : str
        Without a filter.

    Raises
    ------
    IntegrityError
        If a line is damaged or a document is there twice.
    """
    samples, metrics, n_without = [], dict[str, None](), 0
    task_hash: Any = hashlib.sha256()
    seen: set[tuple[str, object]] = set()
    for where, line in json_lines(path):
        metrics.update(dict.fromkeys(_metrics(line)))
        sample = _sample(line, metric, where)
        key = (sample.filter, sample.doc_id if sample.doc_id is not None else sample.hashes[0])
        if key in seen:
            raise IntegrityError(f"{where}: the document {shown(key[1])} is there twice, for the filter {key[0]!r}.")
        seen.add(key)
        task_hash = task_hash if task_hash and sample.hashes else None
        if task_hash:
            task_hash.update("".join(sample.hashes).encode())
        if metric in line:
            samples.append(sample)
        else:
            n_without += 1
    return SamplesFile(
        samples=tuple(samples),
        n_without=n_without,
        metrics=tuple(metrics),
        task_hash=task_hash.hexdigest() if task_hash and seen else "",
    )


def select(file: SamplesFile, wanted: str | None, label: str) -> tuple[str, tuple[Sample, ...]]:
    """The filter to use, and its samples in the order of the documents."""
    name = choose_filter(list(dict.fromkeys(sample.filter for sample in file.samples)), wanted, label)
    chosen = [sample for sample in file.samples if sample.filter == name]
    if all(sample.doc_id is not None for sample in chosen):
        chosen.sort(key=lambda sample: sample.doc_id or 0)
    elif all(sample.hashes for sample in chosen):
        chosen.sort(key=lambda sample: sample.hashes)
    else:
        raise IntegrityError(f"{label}: some documents have only a doc_id and others only hashes.")
    return name, tuple(chosen)


def choose_filter(there: Sequence[str], wanted: str | None, label: str) -> str:
    """The filter that is asked for, else "none", else the only one.

    Raises
    ------
    SpecError
        If it is not there, or there are several and none is asked for.
    """
    choices = ", ".join(shown(name) for name in there)
    if wanted is not None:
        if wanted not in there:
            raise SpecError(f"{label}: there is no filter {wanted!r}. Choose from {choices}.")
        return wanted
    if NO_FILTER in there:
        return NO_FILTER
    if len(there) == 1:
        return there[0]
    raise SpecError(f"{label}: there are several filters: {choices}. Write one after the metric, as in 'acc,NAME'.")


def item_names(samples: Sequence[Sample]) -> tuple[str, ...]:
    """What to pair samples by: the document's hash, numbered where documents are equal, else its number."""
    if not all(sample.hashes for sample in samples):
        return tuple(str(sample.doc_id) for sample in samples)
    counts: dict[str, int] = {}
    names = []
    for sample in samples:
        digest = sample.hashes[0]
        counts[digest] = counts.get(digest, 0) + 1
        names.append(digest if counts[digest] == 1 else f"{digest}#{counts[digest]}")
    return tuple(names)


def hashes_of(samples: Sequence[Sample]) -> dict[str, str]:
    """Hash over the documents, over the prompts and over the right answers; empty where one has none."""
    if not samples or not all(sample.hashes for sample in samples):
        return {}
    return {
        name: hashlib.sha256("\n".join(sample.hashes[index] for sample in samples).encode()).hexdigest()
        for index, name in enumerate(_HASHES)
    }


def _sample(line: dict[str, Any], metric: str, where: str) -> Sample:
    doc_id, name = line.get("doc_id"), line.get("filter", NO_FILTER)
    hashes = tuple(line.get(key) for key in _HASHES)
    if doc_id is not None and (isinstance(doc_id, bool) or not isinstance(doc_id, int)):
        raise IntegrityError(f"{where}: doc_id is {shown(doc_id)}, and must be a whole number.")
    if not isinstance(name, str):
        raise IntegrityError(f"{where}: filter is {shown(name)}, and must be text.")
    for key, value in zip(_HASHES, hashes, strict=True):
        if value is not None and not (isinstance(value, str) and re.fullmatch("[0-9A-Za-z]{1,256}", value)):
            raise IntegrityError(f"{where}: {key} is {shown(value)}, and must be a hash.")
    complete = tuple(value for value in hashes if value)
    if len(complete) != len(_HASHES):
        complete = ()
    if doc_id is None and not complete:
        raise IntegrityError(f"{where}: there is neither a doc_id nor a doc_hash, so the document cannot be paired.")
    return Sample(where=where, doc_id=doc_id, hashes=complete, filter=name, value=line.get(metric))


def _metrics(line: dict[str, Any]) -> list[str]:
    named = line.get("metrics")
    if isinstance(named, list) and all(isinstance(name, str) for name in named):
        return named
    return [name for name in line if name not in _NOT_METRICS]

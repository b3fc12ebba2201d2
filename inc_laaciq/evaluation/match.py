"""Refuses to compare what was not measured alike: another tokenizer, another text, another model behind a baseline."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from inc_laaciq.errors import MismatchError
from inc_laaciq.evaluation.measured import Evaluation


def check_match(candidate: Evaluation, baseline: Evaluation, *, baseline_id: str | None = None) -> None:
    """Refuse a pair of results whose differences would mean something else than quantization.

    Parameters
    ----------
    candidate, baseline : Evaluation
        The sentences and items themselves are compared where they are paired.
    baseline_id : str, optional
        Content hash that the baseline must have.

    Raises
    ------
    MismatchError
        With both hashes.
    """
    if baseline_id is not None and baseline.id != baseline_id:
        raise MismatchError(
            f"{baseline.source}: the policy accepts only the baseline {baseline_id}, and this one is {baseline.id}. "
            "Give the baseline that the policy names, or change baseline_id."
        )
    _same("tokenizer", candidate, baseline, candidate.tokenizer.get("sha256"), baseline.tokenizer.get("sha256"))
    if candidate.model.get("kind", "float") != "float":
        _same("float model", candidate, baseline, candidate.model.get("sha256"), baseline.model.get("sha256"))
    ours, theirs = _tasks(candidate), _tasks(baseline)
    for task in sorted(ours.keys() & theirs.keys()):
        for key in ("version", "n_shot", "doc_hash", "prompt_hash", "target_hash"):
            _same(f"{key} of task {task!r}", candidate, baseline, ours[task].get(key), theirs[task].get(key))


def _tasks(evaluation: Evaluation) -> Mapping[str, Mapping[str, Any]]:
    tasks: Mapping[str, Mapping[str, Any]] = evaluation.texts.get("tasks") or {}
    return tasks


def _same(what: str, candidate: Evaluation, baseline: Evaluation, ours: object, theirs: object) -> None:
    if ours is not None and theirs is not None and ours != theirs:
        raise MismatchError(
            f"baseline and candidate differ in their {what}: {theirs} in {baseline.source}, {ours} in "
            f"{candidate.source}. Evaluate both on the same things."
        )

"""Refuses to compare what was not measured alike: another tokenizer, another text, another model behind a baseline."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from inc_laaciq.errors import MismatchError
from inc_laaciq.evaluation.measured import Evaluation


def check_match(
    candidate: Evaluation, baseline: Evaluation, *, baseline_id: str | None = None, is_previous: bool = False
) -> None:
    """Refuse a pair of results whose differences would mean something else than quantization.

    Parameters
    ----------
    candidate, baseline : Evaluation
        The sentences and items themselves are compared where they are paired.
    baseline_id : str, optional
        Content hash that the baseline must have.
    is_previous : bool
        The baseline is the previous release, and may be quantized where the candidate is not.

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
    if not is_previous and candidate.model.get("kind") == "float" != baseline.model.get("kind", "float"):
        raise MismatchError(
            f"the candidate {candidate.source} is a float model and the baseline {baseline.source} is quantized. They "
            "seem to be the wrong way round: give the float model as the baseline."
        )
    is_quantized = candidate.model.get("kind", "float") != "float"
    is_itself = bool(candidate.id) and (candidate.id, candidate.model) == (baseline.id, baseline.model)
    if not is_previous and is_quantized and is_itself:
        raise MismatchError(
            f"{candidate.source} and {baseline.source} are the same results of a quantized model, which shows no harm "
            "whatever it does. Give the float model as the baseline."
        )
    _same_kind(candidate, baseline)
    _same("tokenizer", candidate, baseline, candidate.tokenizer.get("sha256"), baseline.tokenizer.get("sha256"))
    if is_quantized:
        _same("float model", candidate, baseline, candidate.model.get("sha256"), baseline.model.get("sha256"))
    ours, theirs = _tasks(candidate), _tasks(baseline)
    for task in sorted(ours.keys() & theirs.keys()):
        for key in ("version", "n_shot", "doc_hash", "prompt_hash", "target_hash"):
            _same(f"{key} of task {task!r}", candidate, baseline, ours[task].get(key), theirs[task].get(key))


def _same_kind(candidate: Evaluation, baseline: Evaluation) -> None:
    """Refuse results of two tools: they share no sentence or item, and telling so by their hashes helps nobody."""
    kinds = [_kind(side, {*candidate.losses} & {*baseline.losses}) for side in (baseline, candidate)]
    if None not in kinds and kinds[0] != kinds[1]:
        raise MismatchError(
            f"{baseline.source} holds results {kinds[0]} and {candidate.source} {kinds[1]}, so they cannot be paired. "
            "Evaluate both with the same tool."
        )


def _kind(evaluation: Evaluation, languages: set[str]) -> str | None:
    """How the results of some languages are given; None where there are none, which is for the gate to say."""
    if _tasks(evaluation):
        return "task by task"
    if evaluation.tasks or not languages:
        return None
    is_single = all(evaluation.losses[tag].n == 1 for tag in languages)
    return "with one value a language" if is_single else "sentence by sentence"


def _tasks(evaluation: Evaluation) -> Mapping[str, Mapping[str, Any]]:
    tasks: Mapping[str, Mapping[str, Any]] = evaluation.texts.get("tasks") or {}
    return tasks


def _same(what: str, candidate: Evaluation, baseline: Evaluation, ours: object, theirs: object) -> None:
    if ours is not None and theirs is not None and ours != theirs:
        raise MismatchError(
            f"baseline and candidate differ in their {what}: {theirs} in {baseline.source}, {ours} in "
            f"{candidate.source}. Evaluate both on the same things."
        )

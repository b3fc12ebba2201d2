"""Results of lm-evaluation-harness, read so that a policy can judge them by language."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from inc_laaciq.config.policy import TaskRule
from inc_laaciq.errors import IntegrityError, SpecError
from inc_laaciq.evaluation.foreign_files import shown
from inc_laaciq.evaluation.items import ItemScores
from inc_laaciq.evaluation.lm_eval_file import ResultsFile, read_results_file, samples_path
from inc_laaciq.evaluation.lm_eval_samples import (
    Sample,
    choose_filter,
    hashes_of,
    item_names,
    read_samples,
    select,
)
from inc_laaciq.evaluation.lm_eval_values import (
    LIKELIHOODS,
    check_same_run,
    has_numbers,
    likelihood_of_figure,
    likelihoods_of,
    number_or_nan,
    oriented,
)
from inc_laaciq.evaluation.losses import SentenceLosses
from inc_laaciq.evaluation.measured import Evaluation
from inc_laaciq.evaluation.results import canonical_sha256
from inc_laaciq.evaluation.task_patterns import TaskMatch, match_tasks, rule_label


@dataclass
class _Part:
    """What one task gives."""

    task: str
    filter: str
    names: tuple[str, ...]
    values: list[Any]
    is_point: bool
    hashes: dict[str, str]


@dataclass
class _Gathered:
    """What all tasks give."""

    losses: dict[str, SentenceLosses] = field(default_factory=dict)
    tasks: dict[str, dict[str, ItemScores]] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    points: dict[str, list[str]] = field(default_factory=dict)
    notes: dict[str, None] = field(default_factory=dict)
    texts: dict[str, dict[str, Any]] = field(default_factory=dict)
    content: dict[str, Any] = field(default_factory=dict)


def read_lm_eval(path: Path | str, tasks: Sequence[TaskRule]) -> Evaluation:
    """Read the results of lm-evaluation-harness, and with `--log_samples` those of every document.

    Parameters
    ----------
    path : path
        `results_<date>.json`, with its `samples_<task>_<date>.jsonl` beside it; or the folder that holds them.
    tasks : sequence of TaskRule
        Which language and metric each task is about.  The metrics word_perplexity, byte_perplexity, bits_per_byte and
        perplexity become likelihoods, in which a byte or a word counts as a token; all others become scores of items.

    Returns
    -------
    Evaluation
        `id` is a hash of the values, the documents' hashes and the tasks' versions: equal for two runs that measured
        the same.  A language with a value that is not finite is in `missing`.

    Raises
    ------
    DataError
        If there is no such file, or it is something else.
    IntegrityError
        If a file is damaged, or the samples are not those of the results.
    SpecError
        If `tasks` and the file do not fit together.
    """
    results = read_results_file(Path(path))
    source = str(results.path)
    gathered = _Gathered()
    for match in match_tasks(results.tasks, results.groups, tasks, source):
        _gather(match, results, gathered)
    notes = [
        f"{pattern}: there are no values of single documents of {', '.join(languages)}, so no interval is known"
        for pattern, languages in gathered.points.items()
    ]
    model = results.model()
    return Evaluation(
        source=source,
        id=canonical_sha256({"kind": "lm-eval", "tasks": gathered.content}),
        name=model["name"],
        model=model,
        texts={"tasks": gathered.texts},
        losses=gathered.losses,
        tasks=gathered.tasks,
        missing=gathered.missing,
        notes=(*notes, *gathered.notes),
    )


def _gather(match: TaskMatch, results: ResultsFile, gathered: _Gathered) -> None:
    """Add one language of one pattern."""
    metric, _, wanted = match.rule.metric.partition(",")
    _check_direction(match, metric, results)
    parts = [_read_part(task, match, metric, wanted or None, results, gathered) for task in match.parts]
    is_point = any(part.is_point for part in parts)
    if is_point and len(parts) > 1:
        parts = [_figure(match.task, match, metric, wanted or None, results)]
    for part in parts:
        gathered.texts[part.task] = identity = _identity(part, results)
        gathered.content[part.task] = {
            # The harness's hash goes by the order of the lines, which differs with the number of processes.
            **{key: value for key, value in identity.items() if key != "hash" or not part.hashes},
            "metric": f"{metric},{part.filter}",
            # As text, because a value may be NaN, for which JSON has no word.
            "values": {name: str(value) for name, value in zip(part.names, part.values, strict=True)},
        }
    if is_point:
        gathered.points.setdefault(match.rule.pattern, []).append(match.language)
    if metric in LIKELIHOODS:
        _add_losses(match, metric, parts, is_point, gathered)
    else:
        _add_items(match, metric, parts, is_point, gathered)


def _check_direction(match: TaskMatch, metric: str, results: ResultsFile) -> None:
    known = False if metric in LIKELIHOODS else None
    for task in (*match.parts, match.task):
        said = results.higher_is_better(task, metric)
        said = known if said is None else said
        if said is not None and said != match.rule.higher_is_better:
            words = {True: "higher", False: "lower"}
            raise SpecError(
                f"{results.path}: {metric} of {shown(task)} is better when {words[said]}, and {rule_label(match.rule)} "
                f"has higher_is_better: {str(match.rule.higher_is_better).lower()}. Change it in the policy."
            )


def _read_part(
    task: str, match: TaskMatch, metric: str, wanted: str | None, results: ResultsFile, gathered: _Gathered
) -> _Part:
    """Values of one task's documents, or of the task if there are no others."""
    path = samples_path(results, task)
    if path is None:
        return _figure(task, match, metric, wanted, results)
    file = read_samples(path, metric)
    label = f"{path}: {rule_label(match.rule)}"
    if not file.samples:
        raise SpecError(f"{label}: there is no metric {metric!r}. Choose from {_listed(file.metrics)}.")
    said = results.section("task_hashes", task)
    if said and file.task_hash and said != file.task_hash:
        raise IntegrityError(
            f"{path}: is not of the same run as {results.path}, or was changed: the documents' hashes make "
            f"{file.task_hash[:12]}, and the results say {shown(said, 12)}."
        )
    name, samples = select(file, wanted, label)
    if metric not in LIKELIHOODS and not has_numbers(samples):
        return _figure(task, match, metric, name, results, samples)
    values = likelihoods_of(metric, samples) if metric in LIKELIHOODS else [number_or_nan(s) for s in samples]
    note = check_same_run(metric, values, results, task, name, path)
    if note:
        gathered.notes[note] = None
    if file.n_without:
        gathered.notes[f"{task}: {file.n_without} lines of the samples have no {metric} and do not count"] = None
    return _Part(task, name, item_names(samples), values, False, hashes_of(samples))


def _figure(
    task: str,
    match: TaskMatch,
    metric: str,
    wanted: str | None,
    results: ResultsFile,
    samples: Sequence[Sample] = (),
) -> _Part:
    """The one value of a task."""
    label = f"{results.path}: {rule_label(match.rule)}: {shown(task)}"
    figures = results.figures(task, metric)
    if not figures:
        raise SpecError(f"{label} has no metric {metric!r}. Choose from {_listed(results.metrics(task))}.")
    name = choose_filter(list(figures), wanted, label)
    value: Any = figures[name]
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        value = math.nan
    if metric in LIKELIHOODS:
        value = likelihood_of_figure(metric, float(value))
    return _Part(task, name, (task,), [value], True, hashes_of(samples))


def _identity(part: _Part, results: ResultsFile) -> dict[str, Any]:
    """What must be equal in two results that are compared."""
    version, hash_, n_shot = (results.section(name, part.task) for name in ("versions", "task_hashes", "n-shot"))
    found: dict[str, Any] = dict(part.hashes)
    if isinstance(version, (str, int, float)):
        found["version"] = version
    if isinstance(hash_, str):
        found["hash"] = hash_
    if isinstance(n_shot, int):
        found["n_shot"] = n_shot
    return found


def _add_losses(match: TaskMatch, metric: str, parts: Sequence[_Part], is_point: bool, gathered: _Gathered) -> None:
    language = match.language
    if language in gathered.losses:
        raise SpecError(
            f"{rule_label(match.rule)}: the likelihood of {language} is already known from another pattern. "
            "A policy may read likelihoods from one pattern only."
        )
    values = [value for part in parts for value in part.values]
    bad = sum(not math.isfinite(loss) for loss, _ in values)
    if bad:
        gathered.missing[language] = _not_finite(match, metric, bad, len(values))
        return
    weights = [weight for _, weight in values]
    counts_bytes = LIKELIHOODS[metric] == "bytes"
    if counts_bytes:
        gathered.notes[
            f"{match.rule.pattern}: {metric} counts bytes, so every byte is a token and perplexity is that of a byte"
        ] = None
    if LIKELIHOODS[metric] == "words":
        gathered.notes[
            f"{match.rule.pattern}: {metric} counts words, so every word is a token and bytes are not known"
        ] = None
    gathered.losses[language] = SentenceLosses(
        tag=language,
        loss=[loss for loss, _ in values],  # type: ignore[arg-type]
        tokens=[max(1, weight) for weight in weights],  # type: ignore[arg-type]
        n_bytes=weights if counts_bytes else [0] * len(values),  # type: ignore[arg-type]
        document=range(len(values)),  # type: ignore[arg-type]
        text_sha256=canonical_sha256([[part.task, part.names, part.hashes] for part in parts]),
        is_point=is_point,
    )


def _add_items(match: TaskMatch, metric: str, parts: Sequence[_Part], is_point: bool, gathered: _Gathered) -> None:
    values = [value for part in parts for value in part.values]
    bad = sum(not math.isfinite(value) for value in values)
    scores: dict[str, ItemScores] = gathered.tasks.setdefault(match.rule.pattern, {})
    if bad:
        gathered.missing[match.language] = _not_finite(match, metric, bad, len(values))
        return
    prefix = {part.task: f"{part.task}/" if len(parts) > 1 else "" for part in parts}
    scores[match.language] = ItemScores(
        tag=match.language,
        harm=oriented(metric, values, match.rule.higher_is_better),
        items=tuple(prefix[part.task] + name for part in parts for name in part.names),
        is_point=is_point,
    )


def _not_finite(match: TaskMatch, metric: str, bad: int, n: int) -> str:
    return f"{match.task}: {metric} is no finite number in {bad} of {n} values"


def _listed(names: Sequence[str] | Mapping[str, Any]) -> str:
    return ", ".join(shown(name) for name in names) or "nothing"

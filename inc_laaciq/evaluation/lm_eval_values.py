"""What the values of lm-evaluation-harness mean: likelihoods, scores, and their sums over a task."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inc_laaciq.errors import IntegrityError
from inc_laaciq.evaluation.foreign_files import shown
from inc_laaciq.evaluation.lm_eval_file import ResultsFile
from inc_laaciq.evaluation.lm_eval_samples import Sample

#: Metric -> what its weights count.  A sample holds [log-likelihood, weight]; of `perplexity`, which weighs every
#: document the same, only the log-likelihood.  Source: lm_eval/api/task.py and metrics.py of version 0.4.13.
LIKELIHOODS = {"word_perplexity": "words", "byte_perplexity": "bytes", "bits_per_byte": "bytes", "perplexity": "none"}

_MAX_WEIGHT = 2**53


def oriented(metric: str, values: Sequence[float], higher_is_better: bool) -> NDArray[np.float64]:
    """Values turned so that more is worse.

    Whether it is 1 - value or -value goes by the metric's name and not by the values: a score that happens to be 0 or 1
    everywhere for one of two models must not be turned in another way than that of the other model.
    """
    found = np.asarray(values, dtype=np.float64)
    if not higher_is_better:
        return found
    return 1.0 - found if _is_accuracy(metric) else -found


def has_numbers(samples: Sequence[Sample]) -> bool:
    """Whether each document has a number; without, the metric exists only for the whole task, as chrF does."""
    kinds = {isinstance(sample.value, (bool, int, float)) or sample.value is None for sample in samples}
    if len(kinds) > 1:
        odd = next(sample for sample in samples if isinstance(sample.value, (str, list, dict)))
        raise IntegrityError(f"{odd.where}: the value is {shown(odd.value)}, where other documents have a number.")
    return kinds == {True}


def number_or_nan(sample: Sample) -> float:
    """The number of a document; NaN if it is null."""
    return math.nan if sample.value is None else float(sample.value)


def likelihoods_of(metric: str, samples: Sequence[Sample]) -> list[tuple[float, int]]:
    """Loss in nats, and weight, of every document.

    Raises
    ------
    IntegrityError
        If a value is of another form.
    """
    return [_likelihood(metric, sample) for sample in samples]


def likelihood_of_figure(metric: str, value: float) -> tuple[float, int]:
    """Loss in nats per unit, and one unit, by the value of a whole task; NaN where that is no such value."""
    if metric == "bits_per_byte":
        return value * math.log(2), 1
    return (math.log(value) if 0 < value < math.inf else math.nan), 1


def check_same_run(
    metric: str, values: Sequence[Any], results: ResultsFile, task: str, filter_name: str, path: Path
) -> str:
    """Hold the documents' values against the one of the task; returns a note, or nothing.

    Raises
    ------
    IntegrityError
        If the samples cannot be those of the results.
    """
    said = results.figures(task, metric).get(filter_name)
    if isinstance(said, bool) or not isinstance(said, (int, float)) or not math.isfinite(said):
        return ""
    found = _aggregate(metric, values)
    if not math.isfinite(found) or math.isclose(found, said, rel_tol=1e-6, abs_tol=1e-9):
        return ""
    aggregation = results.aggregation(task, metric)
    if not (metric in LIKELIHOODS or aggregation == "mean" or (aggregation is None and _is_accuracy(metric))):
        return f"{task}: lm-eval combines the documents' {metric} otherwise; here their mean counts"
    raise IntegrityError(
        f"{path}: the {len(values)} documents make {metric} {found:.6g}, and {results.path} says {said:.6g}. "
        "The samples are of another run, or were changed."
    )


def _is_accuracy(metric: str) -> bool:
    return metric in ("acc", "exact_match", "em") or metric.startswith("acc_")


def _aggregate(metric: str, values: Sequence[Any]) -> float:
    """Value of the task, as the harness computes it."""
    if metric not in LIKELIHOODS:
        return float(sum(values) / len(values))
    weight = sum(weight for _, weight in values)
    if not weight:
        return math.nan
    mean = float(sum(loss for loss, _ in values) / weight)
    if metric == "bits_per_byte":
        return mean / math.log(2)
    return math.exp(mean) if mean < 700 else math.inf


def _likelihood(metric: str, sample: Sample) -> tuple[float, int]:
    value = [sample.value, 1] if LIKELIHOODS[metric] == "none" else sample.value
    if not (isinstance(value, list) and len(value) == 2 and all(_is_number(part) for part in value)):
        form = "[log-likelihood, weight]" if isinstance(sample.value, list) else "a log-likelihood"
        raise IntegrityError(f"{sample.where}: {metric} is {shown(sample.value)}, and must be {form}.")
    likelihood, weight = value
    if not 0 <= weight <= _MAX_WEIGHT or weight != int(weight):
        raise IntegrityError(f"{sample.where}: {metric} has the weight {shown(weight)}, and must have a whole number.")
    return -float(likelihood), int(weight)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)

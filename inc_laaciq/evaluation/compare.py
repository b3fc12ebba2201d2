"""One method beside another on the same sentences: ratios of their degradations, with bootstrap intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inc_laaciq.evaluation.degradation import Degradation, summarize
from inc_laaciq.evaluation.losses import SentenceLosses
from inc_laaciq.evaluation.pairs import clusters
from inc_laaciq.evaluation.results import finite

RESAMPLES = 2000
_LEVEL = 0.95
_CHUNK = 1 << 22


def overview(measured: Mapping[str, Degradation]) -> dict[str, Any]:
    """Worst language, mean and disparity over languages, as the report states them; None where nothing was measured.

    Degradations are in nats per UTF-8 byte; `relative_disparity` is in points of relative perplexity.
    """
    if not measured:
        names = ("worst_language", "mean_degradation", "mean_standard_error", "disparity", "disparity_standard_error")
        return dict.fromkeys((*names, "expected_disparity", "relative_disparity"))
    summary = summarize(list(measured.values()))
    relative = [d.relative_perplexity for d in measured.values()]
    figures = {
        "mean_degradation": summary.mean,
        "mean_standard_error": summary.mean_standard_error,
        "disparity": summary.disparity,
        "disparity_standard_error": summary.disparity_standard_error,
        "expected_disparity": summary.expected_disparity,
        "relative_disparity": max(relative) - min(relative),
    }
    return {"worst_language": summary.worst_language, **{name: finite(value) for name, value in figures.items()}}


def ratios(
    candidate: Mapping[str, SentenceLosses],
    other: Mapping[str, SentenceLosses],
    baseline: Mapping[str, SentenceLosses],
    languages: Sequence[str],
    *,
    seed: int = 0,
) -> dict[str, dict[str, float | None]]:
    """Degradation of the candidate divided by that of another method, paired by sentence.

    Parameters
    ----------
    candidate, other, baseline : mapping of language -> SentenceLosses
        On the same sentences.
    languages : sequence of str
        Those to compare; none gives an empty result.
    seed : int
        Of the bootstrap.

    Returns
    -------
    dict
        For "mean", "worst" and "disparity": `ratio`, and `low` and `high`, the ends of a 95 % percentile interval;
        None where the other method loses nothing.

    Notes
    -----
    Clusters (documents, or sentences where the text is not divided) are drawn with replacement within each
    language; both methods see the same draw.  The worst language is found anew in every draw.
    """
    if not languages:
        return {}
    generator = np.random.default_rng(seed)
    draws = np.empty((2, len(languages), RESAMPLES + 1))
    for row, tag in enumerate(languages):
        with np.errstate(divide="ignore", invalid="ignore"):  # text without bytes
            draws[:, row] = _draws([candidate[tag], other[tag]], baseline[tag], generator)
    mean, worst = draws.mean(axis=1), draws.max(axis=1)
    statistics = {"mean": mean, "worst": worst, "disparity": worst - draws.min(axis=1)}
    found = {}
    for label, (ours, theirs) in statistics.items():
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            values = np.where(theirs > 0, ours / theirs, np.inf)
            low, high = np.quantile(values[1:], [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2])
        found[label] = {"ratio": finite(values[0]), "low": finite(low), "high": finite(high)}
    return found


def _draws(
    methods: Sequence[SentenceLosses], baseline: SentenceLosses, generator: np.random.Generator
) -> NDArray[np.float64]:
    """Degradation of each method, as measured and in every resample, shape (n_methods, RESAMPLES + 1)."""
    cluster, _ = clusters(baseline)
    size = np.bincount(cluster, baseline.n_bytes)
    losses = np.stack([np.bincount(cluster, method.loss - baseline.loss) for method in methods])
    found = np.empty((len(methods), RESAMPLES + 1))
    found[:, 0] = losses.sum(axis=1) / size.sum()
    step = max(1, _CHUNK // len(size))
    for start in range(1, RESAMPLES + 1, step):
        end = min(start + step, RESAMPLES + 1)
        counts = generator.multinomial(len(size), np.full(len(size), 1 / len(size)), size=end - start)
        found[:, start:end] = (losses @ counts.T) / (counts @ size)
    return found

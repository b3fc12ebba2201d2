"""One method beside another: ratios of their degradations, with a bootstrap over documents and calibration seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inc_laaciq.evaluation.results import finite

DRAWS = 2000
_ENDS = (0.025, 0.975)
_CHUNK = 1 << 22

Sums = Mapping[str, Mapping[str, Any]]
"""Of every language: sums over its documents, from `measure.document_sums`."""


def resample(
    cells: Sequence[Sums], baseline: Sums, *, measure: str, draws: int = DRAWS, seed: int = 0
) -> NDArray[np.float64]:
    """Degradation, or divergence, of every cell in every language, in every draw of documents.

    Parameters
    ----------
    cells : sequence of mapping
        On the same sentences as the baseline.
    baseline : mapping
        Of the float model.
    measure : "degradation" or "kl"

    Returns
    -------
    float64 array, shape (n_cells, n_languages, draws + 1)
        In nats per byte; the first is that of the documents as they are. All cells see the same draws.
    """
    generator = np.random.default_rng(seed)
    tags = sorted(baseline)
    found = np.empty((len(cells), len(tags), draws + 1))
    for place, tag in enumerate(tags):
        size = np.array(baseline[tag]["bytes"], dtype=np.float64)
        sums = np.array([cell[tag]["loss" if measure == "degradation" else "kl"] for cell in cells])
        if measure == "degradation":
            sums = sums - np.array(baseline[tag]["loss"])
        found[:, place, 0] = sums.sum(axis=1) / size.sum()
        step = max(1, _CHUNK // len(size))
        for start in range(1, draws + 1, step):
            n = min(step, draws + 1 - start)
            counts = generator.multinomial(len(size), np.full(len(size), 1 / len(size)), size=n)
            with np.errstate(divide="ignore", invalid="ignore"):  # a draw of documents without bytes
                found[:, place, start : start + n] = (sums @ counts.T) / (counts @ size)
    return found


def figures(values: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """Mean, worst and disparity over languages, which are the last axis."""
    worst = values.max(axis=-1)
    return {"mean": values.mean(axis=-1), "worst": worst, "disparity": worst - values.min(axis=-1)}


@dataclass(frozen=True, kw_only=True)
class Runs:
    """All seeds of one method: `values` is a part of what `resample` gives."""

    seeds: tuple[int, ...]
    values: NDArray[np.float64]


def ratio(ours: Runs, theirs: Runs, *, seed: int = 0) -> dict[str, dict[str, Any]]:
    """Figures of one method divided by those of another.

    Returns
    -------
    dict
        For "mean", "worst" and "disparity": `by_seed`, `median` over seeds, `low` and `high`, the ends of a 95 %
        interval, and `relative_standard_error`, the spread of the draws over the median. None where the other method
        loses nothing.

    Notes
    -----
    A draw takes documents within each language, the same for both methods and the float model, and as many seeds as
    there are, with repetition; its ratio is the median over these, as the reported one is over all, and the worst
    language is found anew.  A seed is compared with the same seed of the other method; a method without seeds with
    every seed of the other.
    """
    pairs = [
        (mine, theirs.seeds.index(number) if number in theirs.seeds else 0)
        for mine, number in enumerate(ours.seeds)
        if number in theirs.seeds or len(theirs.seeds) == 1
    ]
    draws = ours.values.shape[-1] - 1
    mine, other = (
        {name: value[[pair[side] for pair in pairs]] for name, value in by_draw.items()}
        for side, by_draw in enumerate(figures(np.moveaxis(runs.values, 1, -1)) for runs in (ours, theirs))
    )
    picks = np.random.default_rng(seed).integers(len(pairs), size=(len(pairs), draws))
    found = {}
    for name in ("mean", "worst", "disparity"):
        by_pair = _divide(mine[name], other[name])  # shape (n_pairs, draws + 1)
        by_seed = by_pair[:, 0]
        values = np.median(np.take_along_axis(by_pair[:, 1:], picks, axis=0), axis=0)
        with np.errstate(invalid="ignore"):
            low, high = np.quantile(values, _ENDS)
            median = float(np.median(by_seed))
            spread = float(np.std(values)) / abs(median) if median else float("nan")
        found[name] = {
            "by_seed": [finite(float(value)) for value in by_seed],
            "median": finite(median),
            "low": finite(float(low)),
            "high": finite(float(high)),
            "relative_standard_error": finite(spread),
        }
    return found


def _divide(ours: Any, theirs: Any) -> Any:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(theirs > 0, ours / theirs, np.inf)


def verdict(found: Mapping[str, Any], target: float) -> str:
    """What an interval and a target come to: met, missed, or not resolved where it does not lie below 1."""
    if found["high"] is None or found["high"] >= 1:
        return "not resolved"
    return "met" if found["median"] <= target else "missed"

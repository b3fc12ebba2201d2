"""Correlation of few values: its p-value by permutation, its interval, what single values do to it, and partial ones.

A model serves 4 to 100 languages, so nothing here leans on large numbers: p-values count permutations, and the interval
is the wider of two kinds, because each is too short where the other is not.

Arrays come in checked (`risk` does that): one shape, finite, and not constant.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

FloatArray = NDArray[np.float64]

PERMUTATIONS = 50_000
"""Random permutations of a test; where there are no more than that in all, every one is counted (n <= 8)."""

RESAMPLES = 10_000
"""Bootstrap resamples of an interval."""

_BATCH = 5_000
_NO_SPREAD = 1e-20  # sum of squares about the mean over that about zero, of values that are equal up to rounding


@dataclass(frozen=True, kw_only=True)
class PermutationTest:
    """Two-sided p-value of a correlation.

    Parameters
    ----------
    p : float
        Share of permutations whose correlation is at least as far from 0.  Of random permutations the observed order
        counts as one more, so that p is never 0 and never too small (Phipson and Smyth 2010).
    is_exact : bool
        True: every permutation was counted.  False: `PERMUTATIONS` random ones.
    """

    p: float
    is_exact: bool


def pearson(x: FloatArray, y: FloatArray) -> FloatArray:
    """Pearson's correlation along the last axis.

    Parameters
    ----------
    x, y : array, shape [..., n], broadcastable

    Returns
    -------
    array, shape [...], from -1 to 1; NaN where one of the two is constant up to rounding.
    """
    about_mean = [values - values.mean(axis=-1, keepdims=True) for values in (x, y)]
    squares = [np.square(values).sum(axis=-1) for values in about_mean]
    flat = np.logical_or(*(s <= _NO_SPREAD * np.square(v).sum(axis=-1) for s, v in zip(squares, (x, y), strict=True)))
    product = (about_mean[0] * about_mean[1]).sum(axis=-1)
    size = np.sqrt(squares[0]) * np.sqrt(squares[1])
    found: FloatArray = np.where(flat, np.nan, np.clip(product / np.where(flat, 1.0, size), -1.0, 1.0))
    return found


def permutation_test(x: FloatArray, y: FloatArray, seed: int = 0) -> PermutationTest:
    """Test that `x` and `y` have nothing to do with each other.

    Parameters
    ----------
    x, y : array, shape [n]
        Ranks test Spearman's correlation, values Pearson's.
    seed : int
        Of the random permutations.
    """
    return _permuted(_unit(x), _unit(y), lambda order: order, seed)


def partial_correlation(x: FloatArray, y: FloatArray, confounders: FloatArray) -> float:
    """Correlation of what the confounders leave of `x` and of `y`.

    Parameters
    ----------
    x, y : array, shape [n]
    confounders : array, shape [k, n]
        Linearly independent of each other and of a constant; k <= n - 3.

    Returns
    -------
    float
        NaN where the confounders leave nothing of `x` or of `y`.
    """
    return float(pearson(*_left_over(x, y, confounders)))


def partial_permutation_test(x: FloatArray, y: FloatArray, confounders: FloatArray, seed: int = 0) -> PermutationTest:
    """Test that `x` says nothing about `y` that the confounders do not say.

    Parameters
    ----------
    x, y, confounders
        As for `partial_correlation`, which must not be NaN.
    seed : int
        Of the random permutations.

    Notes
    -----
    The residuals of `y` given the confounders are permuted, added to the fit, and the confounders taken out again
    (Freedman and Lane 1983, Journal of Business and Economic Statistics 1).  It is not exact for few values even
    where all permutations are counted, because residuals only stand in for errors.
    """
    basis = _basis(confounders)
    left_x, left_y = _left_over(x, y, confounders)
    # What is fitted is taken out again, so only the permuted residuals have to go through it.
    return _permuted(_unit(left_y), _unit(left_x), lambda residual: residual - (residual @ basis) @ basis.T, seed)


def interval(x: FloatArray, y: FloatArray, confidence: float, seed: int = 0) -> tuple[float, float]:
    """Two-sided interval of Pearson's correlation over the population that the values were drawn from.

    Parameters
    ----------
    x, y : array, shape [n], n >= 4
    confidence : float
        0.5 to 1.
    seed : int
        Of the resamples.

    Notes
    -----
    The hull of Fisher's z interval and of the BCa bootstrap over pairs (Efron and Tibshirani 1993, section 14.3), whose
    resamples without spread are left out.  At a nominal 95 % and n from 6 to 26, BCa alone held the truth in 91 to 95 %
    of simulated samples of normal values, the plain percentile bootstrap in 88 to 92 %, both together in 95 to 98 %;
    with Student's t of 3 degrees of freedom both together in 89 to 97 %, Fisher's z in 76 to 89 %.
    """
    x, y = _unit(x), _unit(y)
    n, observed = len(x), float(pearson(x, y))
    tail = np.array([(1 - confidence) / 2, (1 + confidence) / 2])
    reach = float(special.ndtri(tail[1])) / math.sqrt(n - 3)
    with np.errstate(divide="ignore"):  # a correlation of 1 has an infinite z, and stays 1
        fisher = np.tanh(np.arctanh(observed) + np.array([-reach, reach]))
    drawn = np.random.default_rng(seed).integers(0, n, (RESAMPLES, n))
    values = pearson(x[drawn], y[drawn])
    values = values[~np.isnan(values)]
    below = np.mean(values < observed) / 2 + np.mean(values <= observed) / 2
    shift = float(special.ndtri(np.clip(below, 1 / (RESAMPLES + 1), RESAMPLES / (RESAMPLES + 1))))
    z = shift + special.ndtri(tail)
    bca = np.quantile(values, special.ndtr(shift + z / np.maximum(1 - _acceleration(x, y) * z, 1e-9)))
    return min(float(fisher[0]), float(bca[0])), max(float(fisher[1]), float(bca[1]))


def leave_one_out(x: FloatArray, y: FloatArray) -> FloatArray:
    """Pearson's correlation without each value in turn, shape [n]; NaN where the rest is constant."""
    x, y, n = _unit(x), _unit(y), len(x)
    others = np.array([[place for place in range(n) if place != left_out] for left_out in range(n)])
    return pearson(x[others], y[others])


def _acceleration(x: FloatArray, y: FloatArray) -> float:
    """How fast the standard error of the correlation changes with it, by the jackknife."""
    without = leave_one_out(x, y)
    deviation = np.nanmean(without) - without[~np.isnan(without)]
    size = float(np.square(deviation).sum())
    return float((deviation**3).sum()) / (6 * size**1.5) if size > 0 else 0.0


def _permuted(
    moved: FloatArray, fixed: FloatArray, project: Callable[[FloatArray], FloatArray], seed: int
) -> PermutationTest:
    """Test of |correlation| between the projected permutations of `moved`, and `fixed`."""

    def statistic(values: FloatArray, axis: int = -1) -> FloatArray:
        # Those that the projection empties say nothing, and count as a correlation of 0.
        found: FloatArray = np.abs(np.nan_to_num(pearson(project(values), fixed)))
        return found

    found = stats.permutation_test(
        (moved,), statistic, permutation_type="pairings", alternative="greater", n_resamples=PERMUTATIONS,
        vectorized=True, batch=_BATCH, axis=-1, random_state=np.random.default_rng(seed),
    )  # fmt: skip
    return PermutationTest(p=float(found.pvalue), is_exact=math.factorial(len(moved)) <= PERMUTATIONS)


def _left_over(x: FloatArray, y: FloatArray, confounders: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Residuals of both given the confounders, zero where only rounding is left."""
    basis = _basis(confounders)
    found = []
    for values in (_unit(x), _unit(y)):
        residual = values - basis @ (basis.T @ values)
        found.append(residual if np.square(residual).sum() > _NO_SPREAD * len(values) else np.zeros_like(values))
    return found[0], found[1]


def _basis(confounders: FloatArray) -> FloatArray:
    """Orthonormal columns that span a constant and the confounders, shape [n, k + 1]."""
    columns = np.stack([np.ones(confounders.shape[-1]), *(_unit(row) for row in confounders)], axis=1)
    basis: FloatArray = np.linalg.qr(columns)[0]
    return basis


def _unit(values: FloatArray) -> FloatArray:
    """`values` with mean 0 and standard deviation 1; a correlation is the same, and nothing over- or underflows."""
    largest = float(np.abs(values).max()) or 1.0
    values = values / largest
    values = values - values.mean()
    return values / (float(values.std()) or 1.0)

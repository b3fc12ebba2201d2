"""Correlation of few values, against scipy, slow loops and simulated samples."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from inc_laaciq.evaluation import correlation
from inc_laaciq.evaluation.correlation import (
    interval,
    leave_one_out,
    partial_correlation,
    partial_permutation_test,
    pearson,
    permutation_test,
)


def sample(n, seed, slope=0.7):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=n)
    return x, slope * x + rng.normal(size=n)


@given(st.integers(4, 30), st.integers(0, 10**6), st.floats(-2, 2))
def test_pearson_is_scipys(n, seed, slope):
    x, y = sample(n, seed, slope)
    assert float(pearson(x, y)) == pytest.approx(stats.pearsonr(x, y).statistic, abs=1e-12)


def test_rows_without_spread_have_no_correlation():
    x = np.array([[1.0, 2.0, 3.0], [0.1, 0.1, 0.1], [1e8, 1e8, 1e8]])
    assert np.isnan(pearson(x, np.array([3.0, 1.0, 7.0]))).tolist() == [False, True, True]


@given(st.integers(0, 10**6), st.floats(0.1, 1e3), st.floats(-1e3, 1e3))
def test_units_do_not_matter(seed, factor, offset):
    x, y = sample(7, seed)
    moved = factor * x + offset
    assert float(pearson(moved, y)) == pytest.approx(float(pearson(x, y)), abs=1e-9)
    assert float(pearson(-moved, y)) == pytest.approx(-float(pearson(x, y)), abs=1e-9)


def test_extreme_units_do_not_overflow():
    x, y = sample(6, 1)
    expected = interval(x, y, 0.95), permutation_test(x, y)
    assert interval(1e-200 * x, 1e200 * y, 0.95) == pytest.approx(expected[0], abs=1e-9)
    assert permutation_test(1e-200 * x, 1e200 * y) == expected[1]


@pytest.mark.parametrize(("n", "slope"), [(4, 0.0), (5, 0.5), (6, -1.0)])
def test_all_permutations_of_few_values_are_counted(n, slope):
    x, y = sample(n, n, slope)
    observed = abs(np.corrcoef(x, y)[0, 1])
    count = sum(abs(np.corrcoef(x, y[list(p)])[0, 1]) >= observed - 1e-12 for p in itertools.permutations(range(n)))
    found = permutation_test(x, y)
    assert found.is_exact
    assert found.p == pytest.approx(count / math.factorial(n))


def test_many_values_are_permuted_at_random_and_the_observed_order_counts():
    x, y = sample(14, 0, 0.5)
    found = permutation_test(x, y, seed=3)
    assert not found.is_exact
    assert found == permutation_test(x, y, seed=3) != permutation_test(x, y, seed=4)
    assert found.p == pytest.approx(stats.pearsonr(x, y).pvalue, abs=0.03)
    perfect = permutation_test(x, 2 * x)
    assert perfect.p == 1 / (correlation.PERMUTATIONS + 1)


def test_p_values_of_unrelated_values_are_even():
    p = [permutation_test(*sample(5, seed, 0.0)).p for seed in range(300)]
    assert np.mean(np.array(p) <= 0.1) == pytest.approx(0.1, abs=0.05)
    assert np.mean(np.array(p) <= 0.5) == pytest.approx(0.5, abs=0.08)


def residuals(values, confounders):
    columns = np.column_stack([np.ones(len(values)), *confounders])
    return values - columns @ np.linalg.lstsq(columns, values, rcond=None)[0]


@given(st.integers(5, 20), st.integers(1, 2), st.integers(0, 10**6))
def test_partial_correlation_is_that_of_least_squares_residuals(n, k, seed):
    z, (x, y) = np.random.default_rng(seed + 1).normal(size=(k, n)), sample(n, seed)
    expected = np.corrcoef(residuals(x, z), residuals(y, z))[0, 1]
    assert partial_correlation(x, y, z) == pytest.approx(expected, abs=1e-8)


def test_partial_correlation_by_the_textbook_formula():
    x, y = sample(12, 2)
    z = x + np.random.default_rng(9).normal(size=12)
    (_, xy, xz), (_, _, yz), _ = np.corrcoef([x, y, z])
    expected = (xy - xz * yz) / math.sqrt((1 - xz**2) * (1 - yz**2))
    assert partial_correlation(x, y, z[None]) == pytest.approx(expected)


def test_confounders_that_leave_nothing():
    x, y = sample(8, 5)
    assert math.isnan(partial_correlation(3 * x + 1, y, x[None]))
    assert math.isnan(partial_correlation(x, 2 - y, np.stack([y, x**2])))


def test_freedman_and_lane_by_a_slow_loop():
    n = 6
    x, y = sample(n, 11)
    z = np.array([[1.0, 1.0, 1.0, 0.0, 0.0, 0.0]])
    left_x, left_y = residuals(x, z), residuals(y, z)
    fitted = y - left_y

    def size(order):
        again = residuals(fitted + left_y[list(order)], z)
        return abs(np.corrcoef(left_x, again)[0, 1])

    observed = size(range(n))
    count = sum(size(order) >= observed - 1e-12 for order in itertools.permutations(range(n)))
    found = partial_permutation_test(x, y, z)
    assert found.is_exact
    assert found.p == pytest.approx(count / math.factorial(n))


def test_the_bootstrap_part_is_scipys_bca(monkeypatch):
    x, y = sample(14, 4, 1.5)
    monkeypatch.setattr(correlation.np, "tanh", lambda z: np.zeros_like(z) + float(pearson(x, y)))  # Fisher's away
    monkeypatch.setattr(correlation, "RESAMPLES", 100_000)
    found = interval(x, y, 0.9)
    theirs = stats.bootstrap(
        (x, y), lambda a, b, axis: pearson(a, b), paired=True, vectorized=True, n_resamples=100_000, batch=10_000,
        confidence_level=0.9, method="BCa", random_state=np.random.default_rng(1),
    ).confidence_interval  # fmt: skip
    assert found == pytest.approx((theirs.low, theirs.high), abs=0.01)


@pytest.mark.parametrize("seed", range(6))
def test_the_interval_is_never_shorter_than_fishers(seed):
    x, y = sample(9, seed)
    low, high = stats.pearsonr(x, y).confidence_interval(0.95)
    found = interval(x, y, 0.95)
    assert found[0] <= low + 1e-12
    assert found[1] >= high - 1e-12


@pytest.mark.parametrize("rho", [0.0, -0.8])
def test_the_interval_holds_the_truth_as_often_as_it_says(rho, monkeypatch):
    monkeypatch.setattr(correlation, "RESAMPLES", 400)
    rng, hits = np.random.default_rng(0), 0
    for _ in range(300):
        x, noise = rng.normal(size=(2, 8))
        low, high = interval(x, rho * x + math.sqrt(1 - rho**2) * noise, 0.9)
        hits += low <= rho <= high
    assert 0.88 <= hits / 300 <= 0.99


def test_resamples_without_spread_are_left_out():
    """A third of the resamples has no language of the rare kind; the others say more than Fisher's z knows."""
    x, y = np.array([0.0, 0.0, 0.0, 0.0, 1.0]), np.array([0.1, 0.2, 0.9, 0.3, 0.7])
    low, high = interval(x, y, 0.95)
    fisher = stats.pearsonr(x, y).confidence_interval(0.95)
    assert -1 <= low <= fisher.low
    assert fisher.high <= high <= 1
    assert high - low > fisher.high - fisher.low


def test_a_perfect_line_has_an_interval():
    y = np.array([0.1, 0.2, 0.3, 0.7, 0.9])
    assert interval(y, 2 * y, 0.95) == pytest.approx((1.0, 1.0))


def test_leave_one_out_by_a_loop():
    x, y = sample(7, 21)
    expected = [np.corrcoef(np.delete(x, i), np.delete(y, i))[0, 1] for i in range(7)]
    assert leave_one_out(x, y) == pytest.approx(np.array(expected))
    lonely = leave_one_out(np.array([0.0, 0.0, 0.0, 1.0]), np.array([1.0, 2.0, 3.0, 4.0]))
    assert np.isnan(lonely).tolist() == [False, False, False, True]

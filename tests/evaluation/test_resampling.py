"""The bootstrap, against a slow loop over the drawn clusters."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inc_laaciq.evaluation.pairs import Pairs
from inc_laaciq.evaluation.resampling import MAX_BLOCKS, Resampler, exact, resample, studentize


def pairs(difference, size, tag="sw"):
    difference, size = np.array(difference, float), np.array(size, float)
    return Pairs(tag=tag, difference=difference, size=size, kind="document", n=len(size))


def random_pairs(n, seed=0, tag="sw"):
    generator = np.random.default_rng(seed)
    size = generator.integers(20, 300, n)
    return pairs(size * generator.normal(0.02, 0.05, n) + generator.gamma(0.3, 2, n), size, tag)


def slow_draw(difference, size, drawn):
    """Value and linearised standard error of the clusters with these numbers."""
    total = sum(size[i] for i in drawn)
    value = sum(difference[i] for i in drawn) / total
    square = sum((difference[i] - value * size[i]) ** 2 for i in drawn)
    n = len(drawn)
    return value, math.sqrt(n / (n - 1) * square) / total


def test_each_draw_is_that_of_a_slow_loop():
    made, resampler = random_pairs(17), Resampler(50, seed=3)
    found = resample(made, resampler)
    for row, counts in enumerate(resampler.counts("sw", 17).astype(int)):
        drawn = [i for i, times in enumerate(counts) for _ in range(times)]
        assert len(drawn) == 17
        value, error = slow_draw(made.difference, made.size, drawn)
        assert found.values[row] == pytest.approx(value, rel=1e-5)
        assert found.standard_errors[row] == pytest.approx(error, rel=1e-4)
        assert found.studentized[row] == pytest.approx((value - made.estimate) / error, rel=1e-3, abs=1e-4)


def test_quantiles_of_the_studentized_values_are_those_of_an_own_bootstrap():
    made, own = random_pairs(25), random.Random(1)
    slow = []
    for _ in range(4000):
        value, error = slow_draw(made.difference, made.size, own.choices(range(25), k=25))
        slow.append((value - made.estimate) / error)
    found = resample(made, Resampler(10_000)).studentized
    for share in (0.05, 0.25, 0.5, 0.75, 0.95):
        assert np.quantile(found, share) == pytest.approx(np.quantile(slow, share), abs=0.15)


def test_the_sample_itself_is_told_as_it_is():
    made = random_pairs(300)
    found = resample(made, Resampler(100))
    assert (found.value, found.standard_error) == (made.estimate, made.standard_error)
    assert found.freedom == made.n_effective - 1
    assert found.values.mean() == pytest.approx(made.estimate, abs=made.standard_error)


def test_many_clusters_are_drawn_in_blocks_and_spread_as_widely():
    made = random_pairs(3000)
    block = Resampler().blocks("sw", 3000)
    assert set(block) == set(range(MAX_BLOCKS))
    assert set(np.bincount(block)) == {3000 // MAX_BLOCKS, 3000 // MAX_BLOCKS + 1}
    found = resample(made, Resampler(4000))
    assert found.values.std() == pytest.approx(made.standard_error, rel=0.25)
    assert Resampler().blocks("sw", MAX_BLOCKS).tolist() == list(range(MAX_BLOCKS))


def test_draws_depend_on_seed_and_label_and_on_nothing_else():
    one = Resampler(200).counts("sw", 30)
    assert one.tobytes() == Resampler(200).counts("sw", 30).tobytes()
    assert one.tobytes() != Resampler(200, seed=1).counts("sw", 30).tobytes()
    assert one.tobytes() != Resampler(200).counts("fi", 30).tobytes()
    assert (one.sum(axis=1) == 30).all()
    assert one.mean() == 1
    # Drawn with replacement: a cluster is absent from a draw with probability (1 - 1/n)^n.
    assert (one == 0).mean() == pytest.approx((29 / 30) ** 30, abs=0.02)


@given(st.integers(2, 40), st.integers(0, 99), st.sampled_from([1e-6, 3.0, 1e9]))
def test_scaling_the_losses_scales_the_draws(n, seed, factor):
    one = resample(random_pairs(n, seed), Resampler(30))
    made = random_pairs(n, seed)
    scaled = resample(pairs(factor * made.difference, made.size), Resampler(30))
    np.testing.assert_allclose(scaled.values, factor * one.values, rtol=1e-5, atol=1e-6 * factor)
    assert scaled.freedom == one.freedom


def test_identical_models_deviate_nowhere():
    found = resample(pairs(np.zeros(20), np.arange(1, 21)), Resampler(50))
    assert not found.values.any()
    assert not found.studentized.any()


def test_a_draw_of_clusters_without_size_says_nothing():
    found = resample(pairs([1, 1, 2, 0], [3, 0, 0, 0]), Resampler(500))
    assert np.isfinite(found.values).all()
    assert not np.isnan(found.studentized).any()


def test_studentize_where_there_is_no_error():
    found = studentize(np.array([0.0, 2.0, -2.0, 4.0]), np.array([0.0, 0.0, 0.0, 2.0]))
    assert found.tolist() == [0.0, math.inf, -math.inf, 2.0]


def test_an_exact_value_has_no_spread():
    found = exact("sw", 0.25, 7)
    assert (found.values == 0.25).all()
    assert (found.standard_error, found.freedom, found.studentized.any()) == (0, math.inf, False)

"""Bounds and corrections, against tables, a closed test by brute force, and simulations whose truth is known."""

from __future__ import annotations

import math
from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from inc_laaciq.evaluation.pairs import Pairs
from inc_laaciq.evaluation.resampling import Resampled, Resampler, exact, resample
from inc_laaciq.evaluation.statistics import (
    as_relative,
    detectable,
    difference,
    disparity_bounds,
    holm,
    language_bounds,
    p_above,
    relative,
    relative_bounds,
    worst_bounds,
)


def sampled(values, draws=500, tag="sw", size=1.0, seed=0):
    values = np.asarray(values, float)
    sizes = np.full(len(values), size)
    made = Pairs(tag=tag, difference=values * sizes, size=sizes, kind="document", n=len(values))
    return resample(made, Resampler(draws, seed))


def noisy(seed, n=40, spread=1.0, centre=0.0, **options):
    return sampled(np.random.default_rng(seed).normal(centre, spread, n), **options)


def bare(value=1.0, error=0.1, freedom=20.0, studentized=(0.0,)):
    """A sample whose studentized values are these."""
    t = np.array(studentized, float)
    return Resampled(
        tag="sw", value=value, standard_error=error, values=value + t, standard_errors=np.ones(len(t)), freedom=freedom
    )


samples = st.builds(
    noisy,
    st.integers(0, 99),
    n=st.sampled_from([2, 11, 40]),
    spread=st.sampled_from([0.0, 1e-3, 1.0]),
    centre=st.sampled_from([-1.0, 0.0, 0.5]),
    draws=st.just(200),
)


# Quantiles of Student's t as tabulated, one-sided 95 %.
@pytest.mark.parametrize(("freedom", "t"), [(1, 6.314), (2, 2.920), (9, 1.833), (30, 1.697), (math.inf, 1.645)])
def test_students_t_is_the_least_reach(freedom, t):
    found = language_bounds(bare(freedom=freedom), 0.95)
    assert found.upper - found.value == pytest.approx(0.1 * t, abs=1e-4)
    assert found.value - found.lower == pytest.approx(0.1 * t, abs=1e-4)


def test_the_longer_tail_is_taken_on_both_sides():
    t = np.linspace(-1, 9, 1001)
    for tail in (t, -t):
        found = language_bounds(bare(studentized=tail), 0.95)
        assert found.upper - found.value == pytest.approx(0.1 * 8.5, abs=0.01)
        assert found.upper - found.value == pytest.approx(found.value - found.lower)


@pytest.mark.parametrize(("error", "freedom"), [(math.nan, 9), (math.inf, 9), (0.1, 0.0)])
def test_bounds_are_infinite_where_nothing_is_known(error, freedom):
    found = language_bounds(bare(error=error, freedom=freedom), 0.95)
    assert (found.lower, found.upper) == (-math.inf, math.inf)
    assert p_above(bare(error=error, freedom=freedom), 0.0) > 0.05


def test_a_draw_that_is_no_number_never_narrows_anything():
    broken = bare(studentized=(0.0, math.nan))
    assert language_bounds(broken, 0.95).upper == math.inf
    assert disparity_bounds([broken, bare()], 0.95).upper == math.inf


def test_no_error_is_certainty():
    found = language_bounds(bare(error=0.0), 0.95)
    assert (found.lower, found.upper) == (1.0, 1.0)
    assert (p_above(bare(error=0.0), 0.9), p_above(bare(error=0.0), 1.0)) == (0.0, 1.0)


@given(samples, st.sampled_from([0.6, 0.9, 0.95, 0.99]), st.floats(-2, 2))
def test_p_value_and_lower_bound_agree(sample, confidence, margin):
    found = language_bounds(sample, confidence)
    assert found.lower <= found.value <= found.upper
    p = p_above(sample, margin)
    assert 0 <= p <= 1
    if found.lower > margin:
        assert p < 1 - confidence
    if margin >= found.value:
        assert p == 1


@given(samples, st.lists(st.floats(-2, 2), min_size=2, max_size=6))
def test_p_value_rises_with_the_margin(sample, margins):
    found = [p_above(sample, margin) for margin in sorted(margins)]
    assert all(one <= other + 1e-12 for one, other in pairwise(found))


def test_p_value_goes_on_beyond_the_farthest_draw():
    sample = noisy(0, draws=1000)
    far = sample.value - 30 * sample.standard_error
    assert p_above(sample, far) < 1e-6
    edge = sample.value - sample.standard_error * np.abs(sample.studentized).max()
    assert p_above(sample, edge - 1e-9) == pytest.approx(p_above(sample, edge), rel=2)


def closed_test(p_values, level):
    """Rejected by every intersection that holds it, each tested by Bonferroni: the definition that Holm is a short
    way to."""
    tags = list(p_values)
    rejected = set()
    for tag in tags:
        others = [other for other in tags if other != tag]
        subsets = ([tag, *some] for size in range(len(tags)) for some in combinations(others, size))
        if all(min(p_values[member] for member in subset) * len(subset) < level for subset in subsets):
            rejected.add(tag)
    return rejected


@given(st.dictionaries(st.sampled_from("abcdefg"), st.floats(0, 0.2)), st.sampled_from([0.01, 0.05, 0.1]))
def test_holm_rejects_what_a_closed_test_rejects(p_values, level):
    adjusted = holm(p_values)
    assert list(adjusted) == list(p_values)
    assert {tag for tag, p in adjusted.items() if p < level} == closed_test(p_values, level)
    assert all(p_values[tag] <= p <= 1 for tag, p in adjusted.items())


@given(samples, st.sampled_from([2.0, 1024.0]))
def test_scaling(sample, factor):
    scaled = Resampled(
        tag="sw",
        value=factor * sample.value,
        standard_error=factor * sample.standard_error,
        values=factor * sample.values,
        standard_errors=factor * sample.standard_errors,
        freedom=sample.freedom,
    )
    one, other = language_bounds(sample, 0.95), language_bounds(scaled, 0.95)
    assert other.upper == pytest.approx(factor * one.upper)
    assert detectable(scaled, 0.95) == pytest.approx(factor * detectable(sample, 0.95))


def test_difference_is_welchs():
    one, other = noisy(1, n=20, tag="sw"), noisy(2, n=60, spread=3.0, tag="fi")
    a, b = (np.random.default_rng(seed).normal(0, s, n) for seed, s, n in ((1, 1.0, 20), (2, 3.0, 60)))
    welch = stats.ttest_ind(a, b, equal_var=False)
    found = difference(one, other)
    assert found.value / found.standard_error == pytest.approx(welch.statistic)
    assert found.freedom == pytest.approx(welch.df)
    assert difference(other, one).value == -found.value


@pytest.mark.parametrize("error", [0.0, 1e-200, 1e200, math.inf])
def test_difference_of_extreme_errors(error):
    found = difference(bare(error=error), bare(error=error))
    assert found.freedom > 0
    assert not math.isnan(found.standard_error)


def test_difference_to_an_exact_value_keeps_error_and_freedom():
    sample = noisy(0)
    found = difference(sample, exact("en", 0.5, 500))
    assert (found.value, found.standard_error) == (sample.value - 0.5, sample.standard_error)
    assert found.freedom == pytest.approx(sample.freedom)


def test_relative_is_the_delta_method_and_its_bounds_are_carried_over():
    sample = noisy(0, spread=0.1, centre=0.05)
    found, bounds = relative(sample), relative_bounds(sample, 0.95)
    assert found.value == bounds.value == math.expm1(sample.value)
    assert found.standard_error == pytest.approx(sample.standard_error * math.exp(sample.value))
    assert math.log1p(bounds.upper) == pytest.approx(language_bounds(sample, 0.95).upper)
    assert language_bounds(found, 0.95).upper == pytest.approx(bounds.upper, rel=0.02)


@pytest.mark.parametrize("change", [710.0, 1e30, math.inf, -math.inf])
def test_relative_perplexity_of_a_broken_model_does_not_overflow(change):
    assert not math.isnan(as_relative(change))
    if math.isfinite(change):
        assert math.isfinite(relative(sampled([change, 2 * change, 3 * change])).value)


@given(st.lists(samples, min_size=1, max_size=5), st.randoms())
def test_worst_and_disparity_hold_their_values_in_any_order(some, own):
    worst, spread = worst_bounds(some, 0.95), disparity_bounds(some, 0.95)
    values = [sample.value for sample in some]
    assert worst.lower <= worst.value == max(values) <= worst.upper
    assert 0 <= spread.lower <= spread.value <= spread.upper
    assert spread.value == pytest.approx(max(values) - min(values))
    own.shuffle(some)
    assert worst_bounds(some, 0.95) == worst
    assert disparity_bounds(some, 0.95).upper == pytest.approx(spread.upper)


def test_detectable_is_reach_and_noise():
    sample = noisy(0, n=100, draws=4000)
    z = stats.norm.ppf(0.95) + stats.norm.ppf(0.8)
    assert detectable(sample, 0.95) == pytest.approx(z * sample.standard_error, rel=0.15)
    assert detectable(sample, 0.95, languages=8) > detectable(sample, 0.95)
    assert detectable(bare(error=math.nan), 0.95) == math.inf


def test_false_passes_and_power_in_200_runs():
    margin, passes, power, named = 0.5, 0, 0, 0
    for run in range(200):
        own = np.random.default_rng(1000 + run)
        harmed = sampled(margin + own.gamma(1.0, 1.0, 40) - 1.0, draws=400, seed=run)
        harmless = sampled(own.normal(0, 1, 40), draws=400, seed=run)
        passes += language_bounds(harmed, 0.95).upper <= margin
        named += p_above(harmed, margin) < 0.05
        power += language_bounds(harmless, 0.95).upper <= margin
    assert passes < 0.12 * 200
    assert named < 0.12 * 200
    assert power > 0.6 * 200


def test_the_worst_of_equal_languages_is_covered_on_both_sides():
    above = below = disparity = 0
    for run in range(100):
        some = [noisy(1000 * run + k, n=30, draws=300, tag=str(k)) for k in range(6)]
        found = worst_bounds(some, 0.95)
        above += found.lower > 0
        below += found.upper < 0
        disparity += disparity_bounds(some, 0.95).lower > 0
    assert max(above, below, disparity) < 12

"""Right and wrong answers, against published figures and a likelihood maximized numerically."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize, stats

from inc_laaciq.evaluation.proportions import (
    accuracy_bounds,
    accuracy_p_above,
    disparity_bounds,
    mcnemar,
    noise,
    score,
)


@st.composite
def tables(draw):
    n = draw(st.integers(1, 400))
    harmed = draw(st.integers(0, n))
    return harmed, draw(st.integers(0, n - harmed)), n


def slow_score(harmed, helped, n, margin):
    """The share of helped items that makes the table likeliest, found by search, in place of a formula."""
    same = n - harmed - helped

    def loss(share):
        parts = ((harmed, share + margin), (helped, share), (same, 1 - 2 * share - margin))
        return -sum(count * math.log(max(p, 1e-300)) for count, p in parts if count)

    low, high = max(0.0, -margin), (1 - margin) / 2
    # The likelihood has one peak; bounded search does not reach the ends, so they are tried as well.
    inside = optimize.minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 1e-12}).x
    share = min((inside, low, high), key=loss)
    return (harmed - helped - n * margin) / math.sqrt(n * (2 * share + margin * (1 - margin)))


@given(tables(), st.floats(-0.9, 0.9))
def test_score_is_that_of_the_likeliest_table_under_the_hypothesis(table, margin):
    if abs(margin) > 1e-3 or sum(table[:2]):
        assert score(*table, margin) == pytest.approx(slow_score(*table, margin), rel=1e-3, abs=1e-3)


def test_published_examples():
    # Tango 1998, section 6.2: 32 pairs, 9 and 3 discordant, 95 % interval -0.027 to 0.390.
    found = accuracy_bounds(9, 3, 32, 0.975)
    assert (found.lower, found.upper) == pytest.approx((-0.027, 0.390), abs=5e-4)
    # Section 6.1: 44 pairs, 0 and 1 discordant; Z at a margin of 0.1 is 1.709, 90 % lower limit -0.096.
    assert -score(1, 0, 44, 0.1) == pytest.approx(1.709, abs=5e-4)
    assert accuracy_bounds(0, 1, 44, 0.95).lower == pytest.approx(-0.096, abs=5e-4)
    # Bentur et al. 2009 as in Fagerland, Lydersen and Laake: 1, 1, 7, 12 of 21, 95 % interval -0.517 to -0.026.
    found = accuracy_bounds(1, 7, 21, 0.975)
    assert (found.lower, found.upper) == pytest.approx((-0.517, -0.026), abs=5e-4)


@given(tables(), st.sampled_from([0.8, 0.95, 0.999]))
def test_bounds_hold_the_value_and_turn_the_test(table, confidence):
    found = accuracy_bounds(*table, confidence)
    assert -1 <= found.lower <= found.value <= found.upper <= 1
    assert found.value == (table[0] - table[1]) / table[2]
    for bound, sign in ((found.lower, 1), (found.upper, -1)):
        if abs(bound) < 0.999 and abs(bound - found.value) > 1e-6:
            assert score(*table, bound) == pytest.approx(sign * stats.norm.ppf(confidence), abs=1e-3)


@given(tables(), st.floats(0, 1), st.sampled_from([0.9, 0.95]))
def test_p_value_and_lower_bound_agree(table, margin, confidence):
    found, p = accuracy_bounds(*table, confidence), accuracy_p_above(*table, margin)
    assert 0 <= p <= 1
    if abs(found.lower - margin) > 1e-6:
        assert (p < 1 - confidence) == (found.lower > margin)


@given(tables(), st.floats(0, 0.5))
def test_one_more_harmed_never_looks_better(table, margin):
    harmed, helped, n = table
    if harmed + helped < n:
        more = harmed + 1, helped, n
        assert accuracy_bounds(*more, 0.95).upper >= accuracy_bounds(*table, 0.95).upper - 1e-9
        assert score(*more, margin) >= score(*table, margin) - 1e-9


@given(tables())
def test_swapping_the_models_swaps_the_bounds(table):
    harmed, helped, n = table
    there, back = accuracy_bounds(harmed, helped, n, 0.95), accuracy_bounds(helped, harmed, n, 0.95)
    assert (there.lower, there.upper) == pytest.approx((-back.upper, -back.lower), abs=1e-6)


def test_no_change_in_few_items_is_no_proof_of_none():
    z = stats.norm.ppf(0.95)
    for n in (10, 40, 1000):
        assert accuracy_bounds(0, 0, n, 0.95).upper == pytest.approx(z**2 / (n + z**2), abs=1e-6)
        assert disparity_bounds([(0, 0, n)] * 2, 0.95).upper == pytest.approx(
            math.sqrt(2) * z**2 / (n + z**2), abs=1e-6
        )


def test_score_squared_is_mcnemars_at_a_margin_of_none():
    assert score(9, 3, 32, 0.0) ** 2 == pytest.approx((9 - 3) ** 2 / (9 + 3))
    assert score(0, 0, 32, 0.0) == 0


@pytest.mark.parametrize(("harmed", "helped"), [(0, 0), (0, 5), (5, 0), (8, 1), (40, 40), (121, 59)])
def test_mcnemar_is_the_exact_binomial_test(harmed, helped):
    n = harmed + helped
    assert mcnemar(harmed, helped) == pytest.approx(sum(math.comb(n, k) for k in range(harmed, n + 1)) / 2**n)


@given(st.lists(tables(), min_size=2, max_size=5))
def test_disparity_holds_its_value_whatever_the_order(counts):
    found, turned = disparity_bounds(counts, 0.95), disparity_bounds(counts[::-1], 0.95)
    values = [(harmed - helped) / n for harmed, helped, n in counts]
    assert found.value == max(values) - min(values)
    assert 0 <= found.lower <= found.value <= found.upper
    assert (found.lower, found.upper) == pytest.approx((turned.lower, turned.upper))


def test_disparity_of_equal_languages_is_covered():
    generator = np.random.default_rng(0)
    wrong, low = 0, 0
    for _ in range(200):
        changed = generator.multinomial(100, [0.08, 0.02, 0.9])[:2], generator.multinomial(100, [0.03, 0.03, 0.94])[:2]
        found = disparity_bounds([(int(a), int(b), 100) for a, b in changed], 0.95)
        wrong += found.upper < 0.06
        low += found.lower > 0.06
    assert wrong < 0.12 * 200
    assert low < 0.12 * 200


def test_noise_counts_at_least_one_changed_answer():
    assert noise(0, 0, 100, 1) == noise(1, 0, 100, 1) > 0
    assert noise(8, 8, 100, 1) == pytest.approx(4 * noise(1, 0, 100, 1))


def test_noise_of_many_languages_is_that_of_the_unluckiest():
    draws = np.random.default_rng(0).standard_normal((200_000, 8))
    least = noise(1, 0, 1, 8)
    assert (draws.max(1) < least).mean() == pytest.approx(0.8, abs=0.005)
    assert noise(1, 0, 1, 1) < least

"""The constant of disparity <= C sqrt(Var kappa): its estimate, and whether one serves several settings."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from inc_laaciq.errors import EvaluationError, SpecError
from inc_laaciq.evaluation.disparity_bound import disparity_bound, setting

TAGS = tuple("abcdefghijklmnop")
KAPPA = dict(zip(TAGS, np.random.default_rng(0).normal(20, 2, 16), strict=True))


def measured(name, slope, error, seed=0, noise=True):
    rng = np.random.default_rng(seed)
    harm = {tag: slope * KAPPA[tag] + (rng.normal(0, error) if noise else 0.0) for tag in TAGS}
    return setting(name, harm, dict.fromkeys(TAGS, error), KAPPA)


def test_one_setting_by_hand():
    kappa = {"a": 1.0, "b": 3.0, "c": 1.0, "d": 3.0}
    errors = {"a": 0.3, "b": 0.1, "c": 0.1, "d": 0.4}
    found = setting("4 bits", {"a": 2.0, "b": 3.0, "c": 4.0, "d": 7.0}, errors, kappa, confidence=0.9)
    assert (found.n_languages, found.disparity, found.kappa_spread, found.ratio) == (4, 5.0, 1.0, 5.0)
    assert found.standard_error == pytest.approx(0.5)
    assert (found.lower, found.upper) == pytest.approx((5 - 1.6449 * 0.5, 5 + 1.6449 * 0.5), abs=1e-3)
    typical = math.sqrt((0.09 + 0.01 + 0.01 + 0.16) / 4)
    assert found.noise_disparity == pytest.approx(2.0588 * typical, abs=1e-3)  # tabled mean range of 4 normal values
    assert found.noise_p == pytest.approx(stats.studentized_range.sf(5 / typical, 4, np.inf))


def test_disparity_that_is_noise_is_called_so():
    rng = np.random.default_rng(3)
    p = []
    for number in range(60):
        harm = dict(zip(TAGS, rng.normal(0, 1, 16), strict=True))
        p.append(setting(str(number), harm, dict.fromkeys(TAGS, 1.0), KAPPA).noise_p)
    assert np.mean(p) == pytest.approx(0.5, abs=0.12)
    assert np.mean(np.array(p) < 0.1) < 0.25


@given(st.integers(4, 30), st.integers(0, 10**6))
def test_a_straight_line_gives_a_ratio_between_two_and_the_root_of_twice_the_number(n, seed):
    """Popoviciu's inequality below; above, all spread in two languages.  What the docstring of `setting` says."""
    rng = np.random.default_rng(seed)
    kappa = {str(number): value for number, value in enumerate(rng.standard_t(2, n))}
    harm = {tag: 3 * value for tag, value in kappa.items()}
    ratio = setting("line", harm, dict.fromkeys(kappa, 0.1), kappa).ratio / 3
    assert 2 - 1e-9 <= ratio <= math.sqrt(2 * n) + 1e-9


def test_settings_of_one_slope_are_not_told_apart():
    found = disparity_bound([measured(f"seed {seed}", 0.5, 0.05, seed) for seed in range(4)])
    assert found.verdict == "not told apart"
    assert found.heterogeneity_p > 0.05
    assert found.lower <= found.constant <= found.upper
    true = 0.5 * np.ptp(list(KAPPA.values())) / np.std(list(KAPPA.values()))
    assert found.pooled == pytest.approx(true, rel=0.05)


def test_settings_of_different_slopes_have_no_single_constant():
    """The ratios 2.5 to 14 that were seen in practice."""
    found = disparity_bound([measured(str(slope), slope, 0.05, noise=False) for slope in (0.7, 2.0, 4.0)])
    assert found.verdict == "no single constant"
    assert found.heterogeneity_p < 1e-6
    assert found.constant == found.settings[2].ratio == pytest.approx(4 / 0.7 * found.settings[0].ratio)


def test_cochrans_q_by_a_slow_loop():
    settings = [measured("a", 1.0, 0.3, 1), measured("b", 1.2, 0.6, 2), measured("c", 0.9, 0.9, 3)]
    found = disparity_bound(settings, confidence=0.8)
    weights = [(each.kappa_spread / each.standard_error) ** 2 for each in settings]
    pooled = sum(w * each.ratio for w, each in zip(weights, settings, strict=True)) / sum(weights)
    q = sum(w * (each.ratio - pooled) ** 2 for w, each in zip(weights, settings, strict=True))
    assert found.pooled == pytest.approx(pooled)
    assert found.heterogeneity_p == pytest.approx(1 - stats.chi2.cdf(q, 2))
    bounds = {"upper": -math.inf, "lower": -math.inf}
    for weight, each in zip(weights, settings, strict=True):
        error = 1 / math.sqrt(weight)
        bounds["upper"] = max(bounds["upper"], each.ratio + stats.norm.ppf(0.9) * error)
        bounds["lower"] = max(bounds["lower"], each.ratio - stats.norm.ppf(1 - 0.1 / 3) * error)
    assert (found.lower, found.upper) == pytest.approx((bounds["lower"], bounds["upper"]))


def test_one_setting_or_nothing_but_noise_decides_nothing():
    alone = disparity_bound([measured("a", 1.0, 0.05)])
    assert (alone.verdict, alone.heterogeneity_p) == ("undecided", None)
    assert alone.constant == alone.pooled == alone.settings[0].ratio
    noise = disparity_bound([measured(str(seed), 0.0, 1.0, seed) for seed in range(3)])
    assert noise.verdict == "undecided"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kappa": dict.fromkeys(TAGS, 40.0)}, "kappa is 40 for all 16 languages"),
        ({"kappa": {**KAPPA, "a": math.nan}}, "kappa is NaN or infinite for a"),
        ({"standard_errors": dict.fromkeys(TAGS, 0.0)}, "s: the standard error of a is 0"),
        ({"standard_errors": {**dict.fromkeys(TAGS, 0.1), "b": -1.0}}, "standard error of b is -1"),
        ({"degradation": {"a": 1.0}}, r"1 languages \(a\)"),
        ({"degradation": {**KAPPA, "q": 1.0}}, "the standard error must have the languages .* missing q"),
    ],
)  # fmt: skip
def test_what_is_refused(changes, message):
    given_ = {"degradation": KAPPA, "standard_errors": dict.fromkeys(TAGS, 0.1), "kappa": KAPPA, **changes}
    with pytest.raises(EvaluationError, match=message):
        setting("s", **given_)


@pytest.mark.parametrize("settings", [[], [measured("a", 1.0, 0.1), measured("a", 2.0, 0.1)]])
def test_settings_need_names_of_their_own(settings):
    with pytest.raises(SpecError, match="each with a name of its own"):
        disparity_bound(settings)

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from inc_laaciq.errors import NumericError, SpecError
from inc_laaciq.quant.aciq import optimal_alpha_generalized
from inc_laaciq.quant.activation import ActivationMoments, Range, static_range
from inc_laaciq.quant.grid import Grid, minmax_parameters, round_to_grid
from inc_laaciq.quant.moments import LanguageMoments

values = hnp.arrays(np.float64, st.integers(1, 60), elements=st.floats(-100, 100, width=32))
languages = st.dictionaries(st.sampled_from(["ar", "de", "en", "sw", "zh"]), values, min_size=1)
schemes = st.sampled_from(["asym", "sym"])
reconciles = st.sampled_from(["error", "max", "mean", "pooled"])
bits = st.sampled_from([4, 8])


def _draw(seed: int = 0, n: int = 20_000, loc: float = 0.0, scale: float = 1.0) -> np.ndarray:
    return np.random.default_rng(seed).laplace(loc, scale, n)


def _moments(samples: dict[str, np.ndarray]) -> dict[str, ActivationMoments]:
    return {language: ActivationMoments.of(x) for language, x in samples.items()}


# --- moments


@given(values, values)
def test_merged_moments_are_those_of_all_values(a, b):
    merged = ActivationMoments.of(a) + ActivationMoments.of(b)
    whole = ActivationMoments.of(np.concatenate([a, b]))
    assert merged.n == whole.n
    assert (merged.minimum, merged.maximum) == (whole.minimum, whole.maximum)
    for name in ("s1", "s2", "s3", "s4"):
        tolerance = 1e-12 * max(float(np.abs(np.concatenate([a, b]) ** int(name[1])).sum()), 1e-300)
        assert getattr(merged, name) == pytest.approx(getattr(whole, name), abs=tolerance)


def test_merging_keeps_the_coarser_precision():
    fine = ActivationMoments.of([1.0, 2.0])
    assert (fine + replace(fine, precision=2.0**-24)).precision == 2.0**-24


@pytest.mark.parametrize("loc", [0.0, 1.0, -5.0, 1e2, 1e3])
def test_central_moments_survive_a_mean_far_from_zero(loc):
    x = _draw(loc=loc)
    sigma, kurtosis = ActivationMoments.of(x).spread_and_kurtosis(x.mean())
    assert sigma == pytest.approx(x.std(), rel=1e-6)
    assert kurtosis == pytest.approx(stats.kurtosis(x), abs=0.05)


@pytest.mark.parametrize("loc", [1e5, 1e8, -1e12])
def test_a_mean_too_far_from_zero_gives_no_kurtosis_rather_than_a_wrong_one(loc):
    x = _draw(loc=loc)
    assert math.isnan(ActivationMoments.of(x).spread_and_kurtosis(x.mean())[1])


@pytest.mark.parametrize(("loc", "is_known"), [(0.0, True), (10.0, True), (100.0, False), (3e4, False)])
def test_sums_over_single_precision_are_trusted_less(loc, is_known):
    x = torch.from_numpy(_draw(loc=loc)).float()
    moments = ActivationMoments(
        n=x.numel(),
        **{f"s{order}": float((x**order).sum()) for order in (1, 2, 3, 4)},
        minimum=float(x.min()),
        maximum=float(x.max()),
    )
    kurtosis = moments.spread_and_kurtosis(moments.mean)[1]
    assert math.isnan(kurtosis) is not is_known
    if is_known:
        assert kurtosis == pytest.approx(stats.kurtosis(x.double().numpy()), abs=0.6)


@pytest.mark.parametrize(
    "x", [[0.0] * 9, [2.5] * 9, [1.0, 2.0, 3.0], [1e-90, -1e-90, 0.0, 0.0]], ids=["zeros", "constant", "n<4", "tiny"]
)
def test_undefined_kurtosis_falls_back_to_the_extrema_and_is_counted(x):
    found = static_range(_moments({"en": np.array(x)}), 4, reconcile="max")
    assert found.unclipped == ("en",)
    assert (found.minimum, found.maximum) == (min(*x, 0.0), max(*x, 0.0))


@pytest.mark.parametrize(
    ("x", "error", "match"), [([], SpecError, "at least one"), ([1.0, math.nan], NumericError, "1 of 2")]
)
def test_moments_of_nothing_or_of_nan(x, error, match):
    with pytest.raises(error, match=match):
        ActivationMoments.of(x)


# --- range


def test_one_language_alone_is_plain_aciq_around_its_mean():
    x = _draw(loc=0.7)
    found = static_range(_moments({"en": x}), 4, reconcile="max")
    alpha = float(optimal_alpha_generalized(x.std(), stats.kurtosis(x), 4, layout="asym"))
    assert found.alpha == {"en": pytest.approx(alpha)}
    assert (found.minimum, found.maximum) == pytest.approx((x.mean() - alpha, x.mean() + alpha))
    assert found.unclipped == ()


def test_symmetric_range_is_around_zero():
    x = _draw(loc=0.7)
    found = static_range(_moments({"en": x}), 4, scheme="sym", reconcile="max")
    kurtosis = (x**4).mean() / (x**2).mean() ** 2 - 3
    alpha = float(optimal_alpha_generalized(np.sqrt((x**2).mean()), kurtosis, 4))
    assert (found.minimum, found.maximum) == pytest.approx((-alpha, alpha))


@pytest.mark.parametrize("reconcile", ["error", "max"])
def test_one_sided_values_are_clipped_on_their_long_side_only(reconcile):
    x = np.random.default_rng(0).exponential(1.0, 20_000)
    found = static_range(_moments({"en": x}), 4, reconcile=reconcile)
    assert found.minimum == 0.0
    assert 3.0 < found.maximum < x.max() / 1.5


def test_max_is_the_union_and_pooled_one_range_of_all():
    samples = {"en": _draw(0, scale=1.0), "sw": _draw(1, scale=3.0, loc=1.0)}
    alone = {name: static_range(_moments({name: x}), 4, reconcile="max") for name, x in samples.items()}
    union = static_range(_moments(samples), 4, reconcile="max")
    assert union.minimum == min(one.minimum for one in alone.values())
    assert union.maximum == max(one.maximum for one in alone.values())
    assert union.alpha == {language: one.alpha[language] for language, one in alone.items()}
    pooled = static_range(_moments(samples), 4, reconcile="pooled")
    whole = static_range(_moments({"all": np.concatenate(list(samples.values()))}), 4, reconcile="max")
    assert (pooled.minimum, pooled.maximum) == pytest.approx((whole.minimum, whole.maximum))
    assert set(pooled.alpha) == {"en", "sw"}


def test_mean_is_weighted():
    samples = {"en": _draw(0, scale=1.0), "sw": _draw(1, scale=3.0)}
    alone = {name: static_range(_moments({name: x}), 4, reconcile="max") for name, x in samples.items()}
    found = static_range(_moments(samples), 4, reconcile="mean", weights={"sw": 3.0})
    assert found.maximum == pytest.approx(0.25 * alone["en"].maximum + 0.75 * alone["sw"].maximum)
    assert found.minimum == pytest.approx(0.25 * alone["en"].minimum + 0.75 * alone["sw"].minimum)


@pytest.mark.parametrize("reconcile", ["error", "max", "mean", "pooled"])
def test_a_language_of_weight_zero_has_no_say(reconcile):
    samples = {"en": _draw(0), "sw": _draw(1, scale=3.0)}
    bad = replace(ActivationMoments.of([1.0]), s1=math.nan)
    found = static_range({**_moments(samples), "ar": bad}, 4, reconcile=reconcile, weights={"sw": 0.0, "ar": 0.0})
    assert found == static_range(_moments({"en": samples["en"]}), 4, reconcile=reconcile)


@given(languages, bits, schemes, reconciles)
def test_contains_zero_and_never_leaves_the_extrema(samples, bits, scheme, reconcile):
    found = static_range(_moments(samples), bits, scheme=scheme, reconcile=reconcile)
    low = min(0.0, *(float(x.min()) for x in samples.values()), 0.0)
    high = max(0.0, *(float(x.max()) for x in samples.values()), 0.0)
    if scheme == "sym":
        high = max(high, -low)
        low = -high
    slack = 1e-9 * max(high, -low)  # a weighted mean of equal ends may round
    assert low - slack <= found.minimum <= 0 <= found.maximum <= high + slack


@given(languages, values, bits, schemes)
def test_under_max_another_language_never_narrows_the_range(samples, another, bits, scheme):
    before = static_range(_moments(samples), bits, scheme=scheme, reconcile="max")
    after = static_range(_moments({**samples, "yo": another}), bits, scheme=scheme, reconcile="max")
    assert after.minimum <= before.minimum
    assert after.maximum >= before.maximum


@given(languages, bits, schemes, reconciles, st.integers(-10, 10))
def test_powers_of_two_scale_the_range(samples, bits, scheme, reconcile, exponent):
    factor = 2.0**exponent
    once = static_range(_moments(samples), bits, scheme=scheme, reconcile=reconcile)
    scaled = static_range(
        _moments({name: x * factor for name, x in samples.items()}), bits, scheme=scheme, reconcile=reconcile
    )
    assert scaled.minimum == pytest.approx(once.minimum * factor, rel=1e-6, abs=0)
    assert scaled.maximum == pytest.approx(once.maximum * factor, rel=1e-6, abs=0)


def _error(x: np.ndarray, low: float, high: float, bits: int) -> float:
    """Mean squared error of values on the grid over a range."""
    values, grid = torch.from_numpy(x), Grid(bits=bits, scheme="asym")
    ends = (torch.tensor(float(end), dtype=torch.float64) for end in (low, high))
    scale, zero_point = minmax_parameters(*ends, grid, rounded=False)
    return float((round_to_grid(values, scale, zero_point, grid) - values).square().mean())


def _on(x: np.ndarray, found: Range, bits: int = 8) -> float:
    """Squared error of values on a range, divided by their sum of squares."""
    return _error(x, found.minimum, found.maximum, bits) / float(np.mean(x**2))


@pytest.mark.parametrize("reconcile", ["error", "max"])
@pytest.mark.parametrize("loc", [0.0, 0.8])
def test_4_bit_error_is_near_the_best_clip_and_far_below_min_max(loc, reconcile):
    x = _draw(loc=loc)
    found = static_range(_moments({"en": x}), 4, reconcile=reconcile)
    measured = _error(x, found.minimum, found.maximum, 4)
    mean = x.mean()
    assert measured < 0.5 * _error(x, x.min(), x.max(), 4)
    assert measured < 1.1 * min(_error(x, mean - alpha, mean + alpha, 4) for alpha in np.linspace(1, 12, 80))


def test_the_least_error_is_found_where_four_moments_do_not_tell_it():
    x = np.random.default_rng(0).normal(size=20_000)
    x[::500] *= 300
    by_error, by_moments = (static_range(_moments({"en": x}), 4, reconcile=rule) for rule in ("error", "max"))
    shares = np.geomspace(0.01, 1, 30)
    least = min(_error(x, x.min() * a, x.max() * b, 4) for a in shares for b in shares)
    assert _error(x, by_error.minimum, by_error.maximum, 4) < 1.1 * least
    assert _error(x, by_moments.minimum, by_moments.maximum, 4) > 2 * least


def test_least_error_is_that_of_all_languages_by_their_weights_and_not_by_their_size():
    samples = {"en": _draw(0, scale=1.0), "sw": _draw(1, n=2_000, scale=4.0)}
    moments = _moments(samples)

    def relative(weights):
        found = static_range(moments, 4, weights=weights)
        assert found.errors == {name: pytest.approx(_on(x, found, 4), rel=0.05) for name, x in samples.items()}
        return found.errors

    for_english, alike, for_swahili = relative({"sw": 0.01}), relative({}), relative({"en": 0.01})
    assert for_english["en"] < alike["en"] < for_swahili["en"]
    assert for_english["sw"] > alike["sw"] > for_swahili["sw"]
    assert static_range({**moments, "sw": moments["sw"] + moments["sw"]}, 4) == static_range(moments, 4)


@pytest.mark.parametrize("scheme", ["asym", "sym"])
@pytest.mark.parametrize("ratio", [1 / 300, 1 / 3000, 1e-5])
def test_several_quiet_languages_do_not_clip_a_loud_one_away(ratio, scheme):
    samples = {"en": _draw(0), "sw": _draw(1, scale=ratio), "yo": _draw(2, scale=ratio)}
    found = static_range(_moments(samples), 8, scheme=scheme)
    widest = Range(minimum=float(samples["en"].min()), maximum=float(samples["en"].max()))
    assert _on(samples["en"], found) < 3 * _on(samples["en"], widest)  # twice, but for where values lie in their bins


def test_a_language_of_tiny_values_has_a_say():
    tiny = torch.from_numpy(_draw(1)).float()[:, None] * 1e-24  # whose squares are 0 in float32
    moments = LanguageMoments.of(tiny, counted=True).activation
    assert moments.s2 == 0
    alone = static_range({"sw": moments}, 4)
    assert alone.maximum < 0.8 * moments.maximum
    assert 0 < alone.errors["sw"] < 0.1


def test_values_beyond_single_precision_are_not_counted():
    assert ActivationMoments.of([1e39, 1.0]).counts is None
    assert ActivationMoments.of([1e38, 1.0]).counts.sum() == 2


def test_least_error_without_counts_is_refused_by_name():
    moments = {**_moments({"en": _draw()}), "sw": replace(ActivationMoments.of([1.0]), counts=None)}
    with pytest.raises(SpecError, match="language 'sw' were not counted"):
        static_range(moments, 8)
    assert (moments["en"] + moments["sw"]).counts is None


# --- refusals


def test_no_language_is_refused():
    with pytest.raises(SpecError, match="at least one language"):
        static_range({}, 8)


def test_a_language_without_values_is_named():
    empty = replace(ActivationMoments.of([1.0]), n=0)
    with pytest.raises(SpecError, match="language 'sw' hold no values"):
        static_range({"en": ActivationMoments.of([1.0]), "sw": empty}, 8)


@pytest.mark.parametrize("field", ["s1", "s4", "minimum", "maximum"])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_language_whose_statistics_are_not_numbers_is_named(field, bad):
    broken = replace(ActivationMoments.of([1.0, 2.0]), **{field: bad})
    with pytest.raises(NumericError, match="language 'sw' hold NaN or infinity"):
        static_range({"en": ActivationMoments.of([1.0]), "sw": broken}, 8)


def test_bits_are_checked_even_where_nothing_is_clipped():
    with pytest.raises(SpecError, match="bits=16"):
        static_range({"en": ActivationMoments.of([0.0])}, 16)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        pytest.param({"scheme": "affine"}, "scheme='affine'.*sym, asym", id="scheme"),
        pytest.param({"reconcile": "minimax"}, "reconcile='minimax'.*error, max, mean, pooled", id="reconcile"),
        pytest.param({"bits": 16}, "bits=16", id="bits"),
        pytest.param({"weights": {"sw": 1.0}}, "weights name sw", id="unknown language"),
        pytest.param({"weights": {"en": -1.0}}, "numbers >= 0", id="negative weight"),
        pytest.param({"weights": {"en": math.nan}}, "numbers >= 0", id="nan weight"),
        pytest.param({"weights": {"en": 0.0}}, "zero for every language", id="no weight"),
    ],
)
def test_bad_arguments_are_refused(arguments, match):
    with pytest.raises(SpecError, match=match):
        static_range(_moments({"en": _draw(n=100)}), **{"bits": 8, **arguments})

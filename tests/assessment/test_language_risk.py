"""Figures of a language, classes of risk, and whether languages differ."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
import torch

from inc_laaciq.assessment.gradients import Rises
from inc_laaciq.assessment.risk import UNDERESTIMATE, difference, language_risk, leading_layers, risk_class
from inc_laaciq.assessment.rounding import error_ratio, rounding_error, weight_shape
from inc_laaciq.config import WeightSpec
from inc_laaciq.config.bounds import parse_bound

LIMIT = parse_bound("5%")


def rises(rows, activation=((1.0, 3.0),)):
    rise = np.array(rows, dtype=float)
    n = len(rise)
    return Rises(
        rise=rise,
        activation=np.resize(np.array(activation, dtype=float), rise.shape),
        loss=np.full(n, 200.0),
        tokens=np.full(n, 100),
    )


def test_figures_of_a_language():
    found = language_risk("sw", rises([[2.0, 3.0], [2.0, 3.0], [2.0, 4.0]]), np.array([400, 400, 400]), LIMIT)
    per_row = UNDERESTIMATE * np.array([5.0, 5.0, 6.0]) / 400
    assert found.degradation == pytest.approx(per_row.mean())
    reach = scipy.stats.t.ppf(0.975, 2) * scipy.stats.sem(per_row)
    assert (found.low, found.high) == pytest.approx((per_row.mean() - reach, per_row.mean() + reach))
    assert found.relative_perplexity == pytest.approx(math.expm1(per_row.mean() * 4))
    assert found.shares.tolist() == pytest.approx([6 / 16, 10 / 16])
    assert found.activation.tolist() == pytest.approx([0.25, 0.75])
    assert found.loss == pytest.approx(0.5)
    assert (found.n_rows, found.n_tokens, found.n_bytes) == (3, 300, 1200)


def test_one_row_tells_no_interval():
    found = language_risk("sw", rises([[0.1, 0.3]]), np.array([400]), LIMIT)
    assert (found.low, found.high) == (0.0, math.inf)
    assert found.risk == "medium"


@pytest.mark.parametrize(
    ("degradation", "high", "limit", "risk"),
    [
        (0.011, 0.02, "0.01npb", "high"),
        (0.009, 0.02, "0.01npb", "medium"),
        (0.004, 0.0051, "0.01npb", "medium"),
        (0.004, 0.0049, "0.01npb", "low"),
        (math.log(1.06) / 4, 1.0, "5%", "high"),
        (math.log(1.04) / 4, 1.0, "5%", "medium"),
    ],
)
def test_classes(degradation, high, limit, risk):
    assert risk_class(degradation, high, parse_bound(limit), 4.0) == risk


def test_one_text_under_several_names_is_no_difference():
    text = rises(np.random.default_rng(0).gamma(4.0, size=(12, 3)))
    size = np.full(12, 400)
    found = difference({"en": text, "de": text, "fr": text}, dict.fromkeys(("en", "de", "fr"), size))
    assert found.p == pytest.approx(1.0)
    assert not found.is_seen


def test_languages_that_differ_are_seen():
    generator = np.random.default_rng(0)
    few, many = generator.gamma(4.0, size=(12, 3)), 2 * generator.gamma(4.0, size=(12, 3))
    found = difference({"en": rises(few), "sw": rises(many)}, {"en": np.full(12, 400), "sw": np.full(12, 400)})
    oracle = scipy.stats.ttest_ind(few.sum(1), many.sum(1), equal_var=False).pvalue
    assert found.p == pytest.approx(oracle)
    assert found.is_seen
    assert found.languages == ("en", "sw")


def test_three_languages_by_an_independent_analysis():
    generator = np.random.default_rng(1)
    groups = {tag: generator.gamma(4.0, size=(n, 2)) for tag, n in (("en", 9), ("fi", 12), ("sw", 7))}
    found = difference(
        {tag: rises(g) for tag, g in groups.items()}, {tag: np.full(len(g), 400) for tag, g in groups.items()}
    )
    values = [g.sum(1) / 400 for g in groups.values()]
    n = np.array([len(v) for v in values])
    m, s2 = np.array([v.mean() for v in values]), np.array([v.var(ddof=1) for v in values])
    w = n / s2
    lam = sum((1 - w[i] / w.sum()) ** 2 / (n[i] - 1) for i in range(3))
    a = sum(w[i] * (m[i] - (w @ m) / w.sum()) ** 2 for i in range(3)) / 2
    f = a / (1 + 2 * (3 - 2) / (9 - 1) * lam)
    assert found.p == pytest.approx(scipy.stats.f.sf(f, 2, (9 - 1) / (3 * lam)))


def test_what_cannot_be_asked_is_left_out_and_named():
    generator = np.random.default_rng(0)
    text = {"en": rises([[1.0], [1.0]]), "fi": rises(generator.gamma(4.0, size=(6, 1))), "hi": rises([[3.0]])}
    text["sw"] = rises(generator.gamma(4.0, size=(6, 1)))
    found = difference(text, {tag: np.full(len(r.tokens), 400) for tag, r in text.items()})
    assert found.languages == ("fi", "sw")
    assert math.isfinite(found.p)


def test_a_single_language_differs_from_none():
    found = difference({"en": rises([[1.0], [2.0]])}, {"en": np.array([4, 4])})
    assert math.isnan(found.p)
    assert not found.is_seen


def test_leading_layers_come_first():
    assert leading_layers(np.array([0.1, 0.6, 0.3]), ["a", "b", "c"], 2) == [("b", 0.6), ("c", 0.3)]


@pytest.mark.parametrize("scheme", ["sym", "asym"])
def test_rounding_errors_are_at_most_half_a_step(scheme):
    weight = torch.randn(8, 64, generator=torch.Generator().manual_seed(0))
    error = rounding_error(weight, WeightSpec(bits=4, group_size=32, scheme=scheme)).reshape(8, 2, 32)
    groups = weight.reshape(8, 2, 32)
    width = groups.amax(-1).clamp_min(0) - groups.amin(-1).clamp_max(0)
    step = groups.abs().amax(-1) / 7 if scheme == "sym" else width / 15
    assert (error.abs().amax(-1) <= 0.51 * step).all()
    assert error.abs().max() > 0


def test_half_precision_keeps_its_errors_small():
    weight = torch.randn(4, 32, generator=torch.Generator().manual_seed(0)).bfloat16()
    assert rounding_error(weight, WeightSpec(bits=4, group_size=32)).dtype == torch.bfloat16


@pytest.mark.parametrize("bits", [3, 5, 8])
def test_errors_shrink_with_the_levels_as_the_ratio_says(bits):
    weight = torch.randn(64, 1024, generator=torch.Generator().manual_seed(0))
    spec = WeightSpec(bits=4, group_size=64)
    before = rounding_error(weight, spec).square().mean()
    after = rounding_error(weight, WeightSpec(bits=bits, group_size=64)).square().mean()
    assert error_ratio(spec, bits) == pytest.approx(float(after / before), rel=0.05)


def test_shape_of_weights():
    weight = torch.randn(64, 64, generator=torch.Generator().manual_seed(0))
    weight[3, 5] = 30.0
    found = weight_shape(weight)
    values = weight.double().numpy().ravel()
    assert found.kurtosis == pytest.approx(scipy.stats.kurtosis(values))
    assert found.peak == pytest.approx(30.0 / values.std())

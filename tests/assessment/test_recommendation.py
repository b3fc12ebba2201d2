"""The least that keeps every language within its limit."""

from __future__ import annotations

import numpy as np
import pytest

from inc_laaciq.assessment.recommendation import MODES, MOST_RAISED, configuration, recommend
from inc_laaciq.assessment.rounding import error_ratio
from inc_laaciq.calibration.layers import Layer
from inc_laaciq.config import WeightSpec, run_spec

FOUR = WeightSpec(bits=4, group_size=64)


def layers(n=8, weight=FOUR):
    return [Layer(name=f"h.{i}.fc", in_features=64, out_features=64, weight=weight) for i in range(n)]


def advise(by_layer, allowed, weight=FOUR):
    return recommend(layers(len(next(iter(by_layer.values())))), by_layer, allowed, weight)


def test_the_cheapest_mode_that_is_enough():
    harm = {"en": np.full(8, 0.001), "sw": np.full(8, 0.002)}
    found = advise(harm, {"en": 0.01, "sw": 0.01})
    assert (found.weight.bits, found.mode, found.raised, found.is_enough) == (4, "balanced", (), True)
    assert found.predicted["sw"] == pytest.approx(MODES["balanced"] * 0.016)
    assert advise(harm, {"en": 0.01, "sw": 0.005}).mode == "fair"


def test_single_layers_are_raised_before_all_are():
    harm = {"en": np.full(8, 0.0001), "sw": np.full(8, 0.0001)}
    harm["sw"][3] = 0.1
    found = advise(harm, {"en": 0.01, "sw": 0.001})
    assert (found.weight.bits, found.mode, found.raised, found.raised_bits) == (4, "fair", ("h.3.fc",), 8)
    left = 7 * 0.0001 + 0.1 * error_ratio(FOUR, 8)
    assert found.predicted["sw"] == pytest.approx(MODES["fair"] * left)


def test_more_bits_for_all_where_too_many_layers_would_be_raised():
    harm = {"sw": np.full(8, 0.01)}
    found = advise(harm, {"sw": 0.012})
    assert found.raised == ()
    assert found.weight.bits == 5
    assert found.is_enough


def test_no_more_is_raised_than_is_allowed():
    harm = {"sw": np.geomspace(1.0, 1e-4, 16)}
    for allowed in np.geomspace(1e-4, 1.0, 20):
        found = advise(harm, {"sw": allowed})
        assert len(found.raised) <= MOST_RAISED * 16
        assert found.is_enough == (found.predicted["sw"] <= allowed)


def test_what_nothing_can_save_is_said():
    found = advise({"sw": np.full(8, 100.0)}, {"sw": 0.001})
    assert not found.is_enough
    assert found.weight.bits == 8


def test_asymmetric_weights_stay_below_eight_bits():
    spec = WeightSpec(bits=4, group_size=64, scheme="asym")
    found = recommend(layers(), {"sw": np.full(8, 100.0)}, {"sw": 0.001}, spec)
    assert found.weight.bits == 6
    assert found.weight.scheme == "asym"


def test_eight_asymmetric_bits_become_symmetric():
    spec = WeightSpec(bits=8, group_size=64, scheme="asym")
    found = recommend(layers(), {"sw": np.full(8, 1e-6)}, {"sw": 0.001}, spec)
    assert (found.weight.bits, found.weight.scheme) == (8, "sym")


def test_seven_bits_are_tried_where_they_are_asked_for():
    spec = WeightSpec(bits=7, group_size=64)
    assert recommend(layers(), {"sw": np.full(8, 1e-6)}, {"sw": 0.001}, spec).weight.bits == 7


def test_the_configuration_is_one_that_quantize_takes(tmp_path):
    harm = {"sw": np.full(8, 0.0001)}
    harm["sw"][3] = 0.1
    run = run_spec(configuration(advise(harm, {"sw": 0.001}), str(tmp_path)))
    assert run.la_aciq.mode == "fair"
    assert run.weight == FOUR
    [rule] = run.rules
    assert (rule.pattern, rule.weight.bits) == (r"h\.3\.fc", 8)

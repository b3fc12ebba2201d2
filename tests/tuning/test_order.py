"""Which configuration is tried next, from made verdicts."""

from __future__ import annotations

import math

import pytest

from inc_laaciq.tuning.order import Candidate, next_candidate, predicted, rounding_error, share


def rtn(bits, *, family="rtn", scheme="sym", group_size=64):
    error = rounding_error(bits, scheme, group_size)
    return Candidate(label=f"{family} {bits}", family=family, bits=bits, error=error)


def check(verdict="FAIL", value=0.2, limit=0.05, unit="%", severity="error"):
    return {"verdict": verdict, "value": value, "limit_value": limit, "unit": unit, "severity": severity}


def run(candidates, loss):
    """Order of the trials when losses follow a law and at most 1 is allowed."""
    shares, order = {}, []
    while (number := next_candidate(candidates, shares)) is not None:
        shares[number] = loss(candidates[number])
        order.append(candidates[number].bits)
        if shares[number] <= 1:
            break
    return order


def test_a_slight_failure_is_followed_by_one_bit_more():
    assert run([rtn(bits) for bits in (2, 3, 4, 8)], lambda c: 3 * c.error / rtn(2).error) == [2, 3]


def test_a_disaster_is_followed_by_as_many_bits_as_a_pass_takes():
    given = [rtn(bits) for bits in (2, 3, 4, 5, 6, 8)]
    assert run(given, lambda c: 200 * c.error / rtn(2).error) == [2, 5]


def test_small_ones_come_first_and_equal_ones_as_they_were_given():
    given = [rtn(8), rtn(3, family="hqq"), rtn(3)]
    assert next_candidate(given, {}) == 1
    assert next_candidate(given, {1: 1.5}) == 2


def test_what_looks_hopeless_comes_last_and_the_least_hopeless_first():
    given = [rtn(2), rtn(3), rtn(4)]
    assert next_candidate(given, {0: 1e6}) == 2
    assert next_candidate(given, {0: 1e6, 2: 1e4}) == 1
    assert next_candidate(given, {0: 1e6, 1: 1e5, 2: 1e4}) is None


def test_a_trial_of_the_same_algorithm_tells_more_than_one_of_another():
    tried = [(rtn(4, family="hqq"), 1000.0), (rtn(2), 9.0)]
    assert predicted(rtn(3), tried) == pytest.approx(1.0)
    assert predicted(rtn(3), tried[:1]) == pytest.approx(1000 * 49 / 9)


def test_the_nearest_trial_tells_most():
    assert predicted(rtn(5), [(rtn(2), 1000.0), (rtn(4), 2.0)]) == pytest.approx(2 * 49 / 225)


def test_what_cannot_be_predicted_is_tried_in_its_turn():
    unknown = Candidate(label="?", family="fp8_quant", bits=math.inf, error=None)
    assert predicted(unknown, [(rtn(2), 5.0)]) is None
    assert next_candidate([unknown, rtn(2)], {}) == 1
    assert next_candidate([unknown, rtn(2)], {1: 1e9}) == 0


def test_verdicts_without_a_value_predict_nothing():
    assert predicted(rtn(3), [(rtn(2), None)]) is None
    assert next_candidate([rtn(2), rtn(3)], {0: None}) == 1


def test_larger_groups_and_symmetry_cost_error():
    assert rounding_error(3, "sym", 128) > rounding_error(3, "sym", 32) > rounding_error(3, "asym", 32)
    assert rounding_error(3, "sym", -1) > rounding_error(3, "sym", 32)


def test_share_is_of_losses_and_of_what_does_not_pass():
    checks = [check(value=1.05**3 - 1), check("PASS", value=9.0), check(value=9.0, severity="warn")]
    assert share({"checks": checks}) == pytest.approx(3.0)
    assert share({"checks": [check(value=0.06, limit=0.02, unit="npb")]}) == pytest.approx(3.0)
    assert share({"checks": [check("PASS")]}) is None
    assert share({"checks": [check("NOT-RUN", value=None)]}) is None
    assert share({"checks": [check(limit=0.0)]}) is None

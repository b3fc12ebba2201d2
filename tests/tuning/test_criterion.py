"""The criterion of a tuning loop: one number that stands for a verdict by language."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inc_laaciq.config.bounds import Bound, parse_bound
from inc_laaciq.config.policy import Policy, Rule
from inc_laaciq.errors import EvaluationError, SpecError
from inc_laaciq.tuning.criterion import LanguageCriterion, as_evaluation, score

POLICY = Policy(default=Rule(max_degradation=parse_bound("5%")))


def criterion(*results, policy=POLICY, measure="perplexity"):
    """Criterion that has been given results in turn, and its scores."""
    turns = iter(results)
    judged = LanguageCriterion(lambda _: next(turns), policy, measure=measure)
    return judged, [judged("model") for _ in results]


def test_the_float_model_scores_one_whatever_its_figures():
    judged, scores = criterion({"en": 10.0, "sw": 1e6})
    assert scores == [1.0]
    assert judged.documents == []


def test_one_harmed_language_is_enough_to_be_rejected():
    judged, scores = criterion({"en": 10.0, "sw": 20.0}, {"en": 9.0, "sw": 21.5}, {"en": 10.4, "sw": 20.9})
    assert scores[1] < 0 < scores[2] == 1.0
    assert judged.documents[0]["reasons"][0].startswith("FAIL sw")
    assert judged.is_passed


def test_names_of_the_measure_are_understood_without_being_told():
    loss = {"loss": {"en": 2.0, "sw": 3.0}}
    judged, scores = criterion(loss, {"loss": {"en": 2.0 + math.log(1.04), "sw": 3.0}}, measure=None)
    assert scores == [1.0, 1.0]
    assert judged.documents[0]["languages"]["en"]["relative_perplexity"] == pytest.approx(0.04)


@pytest.mark.parametrize("value", [math.nan, math.inf, None])
def test_a_language_without_a_number_never_passes(value):
    if value is None:
        with pytest.raises(SpecError, match="not a number"):
            criterion({"en": 10.0}, {"en": None})
        return
    judged, scores = criterion({"en": 10.0, "sw": 10.0}, {"en": 10.0, "sw": value})
    assert scores[1] <= 0
    assert judged.documents[0]["verdict"] == "NOT-RUN"


def test_a_language_that_is_left_out_never_passes():
    judged, scores = criterion({"en": 10.0, "sw": 10.0}, {"en": 10.0})
    assert scores[1] <= 0
    assert "the candidate has no results for it" in judged.documents[0]["reasons"][0]


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (0.97, "figures by language"),
        ({"en": 1.0}, "figures by language"),
        ({}, "figures by language"),
        ({"perplexity": {}}, "figures by language"),
        ({"perplexity": {"en": 0.5}}, "cannot be below 1"),
        ({"perplexity": {"en": True}}, "not a number"),
        ({"perplexity": {"xx": 2.0}}, "not a known language"),
        ({"perplexity": {"zh": 2.0, "cmn": 2.0}}, "given twice"),
    ],
)
def test_what_is_not_by_language_is_refused(result, message):
    with pytest.raises(SpecError, match=message):
        as_evaluation(result)


def test_a_measure_that_is_not_known_is_refused():
    with pytest.raises(SpecError, match="accuracy"):
        LanguageCriterion(lambda model: None, POLICY, measure="accuracy")


@given(
    base=st.lists(st.floats(1.5, 1e4), min_size=2, max_size=4),
    worse=st.lists(st.floats(0.9, 1.5), min_size=4, max_size=4),
    limit=st.floats(0.001, 0.4),
)
def test_score_is_one_exactly_if_every_language_keeps_its_bound(base, worse, limit):
    tags = ["en", "sw", "tr", "hi"][: len(base)]
    before = dict(zip(tags, base, strict=True))
    after = {tag: max(1.0, before[tag] * factor) for tag, factor in zip(tags, worse, strict=False)}
    policy = Policy(default=Rule(max_degradation=Bound(value=limit, unit="%")))
    _, scores = criterion(before, after, policy=policy)
    shares = [(after[tag] / before[tag] - 1) / limit for tag in tags]
    if all(abs(share - 1) > 1e-9 for share in shares):
        assert (scores[1] == 1.0) == (max(shares) <= 1)
        assert scores[1] == 1.0 or scores[1] == pytest.approx(-1e6 - max(shares))


def test_any_tolerance_of_neural_compressor_accepts_exactly_a_pass():
    # Its target is base * (1 - tolerance) or base - tolerance, with base 1.
    _, scores = criterion({"en": 10.0}, {"en": 10.6}, {"en": 10.4})
    for tolerance in (0.0, 0.01, 0.5, 0.99, 1.0, 5.0, 100.0):
        assert scores[1] < 1 - tolerance <= scores[2]


def test_best_is_the_trial_nearest_to_a_pass():
    base = {"en": 10.0, "sw": 10.0}
    judged, _ = criterion(base, {"en": 12.0, "sw": 10.0}, {"en": 10.0, "sw": 11.0}, {"en": 11.5, "sw": 10.0})
    assert judged.best() == 1
    missing, _ = criterion(base, {"en": 10.0}, {"en": 15.0, "sw": 15.0})
    assert missing.best() == 1  # a number that is bad is nearer than none
    with pytest.raises(EvaluationError, match="no trial"):
        criterion(base)[0].best()


def test_history_has_a_table_of_every_trial():
    judged, _ = criterion({"en": 10.0, "sw": 10.0}, {"en": 12.0, "sw": 10.0}, {"en": 10.0, "sw": 10.1})
    judged.labels[0] = "mode fast"
    first, second = judged.trials()
    assert (first["number"], first["description"], first["verdict"]) == (1, "mode fast", "FAIL")
    assert second["verdict"] == "PASS"
    assert first["languages"]["en"]["relative_perplexity"] == pytest.approx(0.2)


def test_score_of_a_check_without_a_value_is_finite():
    document = {
        "verdict": "NOT-RUN",
        "checks": [{"verdict": "NOT-RUN", "severity": "error", "value": None, "limit_value": None}],
    }
    assert score(document) == -2e6


def test_a_search_ends_where_no_model_could_pass():
    judged, _ = criterion({"en": 10.0, "sw": 10.0}, {"en": 10.0, "sw": 10.1})
    assert judged.is_decided
    judged, _ = criterion({"en": 10.0, "sw": 10.0}, {"en": 10.0, "sw": 19.0})
    assert not judged.is_decided  # another model may harm it less
    judged, _ = criterion({"en": 10.0, "sw": 10.0}, {"en": 10.0})
    assert judged.is_decided
    assert not judged.is_passed
    judged, _ = criterion({"en": 10.0})
    assert not judged.is_decided


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_search_goes_on_where_only_the_quantized_model_is_broken(value):
    judged, _ = criterion({"en": 10.0, "sw": 10.0}, {"en": 10.0, "sw": value})
    assert not judged.is_decided  # more bits may mend it
    judged, _ = criterion({"en": 10.0, "sw": value}, {"en": 10.0, "sw": value})
    assert judged.is_decided


def test_a_search_ends_where_a_language_must_not_pass_for_another_reason():
    figures = as_evaluation({"perplexity": {"en": 10.0, "sw": 10.0}})
    uncalibrated = replace(figures, missing={"sw": "no calibration text was found"})
    judged, _ = criterion(uncalibrated, uncalibrated)
    assert judged.documents[0]["verdict"] == "NOT-RUN"
    assert judged.is_decided

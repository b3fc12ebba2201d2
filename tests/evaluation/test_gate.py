from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from inc_laaciq.config import Bound, Policy, Rule, parse_bound
from inc_laaciq.errors import SpecError
from inc_laaciq.evaluation.gate import Verdict, judge


def figures(degradation: Any, relative: Any = None, error: Any = 0.001) -> dict[str, Any]:
    relative = 3 * degradation if relative is None else relative
    return {"degradation": degradation, "standard_error": error, "relative_perplexity": relative, "name": "any"}


def gate(degradation: str | None = None, disparity: str | None = None) -> Policy:
    return Policy(
        default=Rule(max_degradation=parse_bound(degradation) if degradation else None),
        max_disparity=parse_bound(disparity) if disparity else None,
    )


TWO = {"sw": figures(0.03, 0.09, 0.002), "en": figures(0.01, 0.02)}


def test_without_a_gate_nothing_is_judged() -> None:
    assert judge(TWO, None, {"yo": "no text"}) == Verdict(
        verdict="NOT-RUN", reasons=("NOT-RUN: no gate was configured",), exit_code=0
    )


@pytest.mark.parametrize(
    ("bounds", "verdict"),
    [
        (gate("9%"), "PASS"),
        (gate("8.99%"), "FAIL"),
        (gate("0.03npb"), "PASS"),
        (gate("0.0299npb"), "FAIL"),
        (gate(disparity="7%"), "PASS"),
        (gate(disparity="6.9%"), "FAIL"),
        (gate(disparity="0.02npb"), "PASS"),
        (gate(disparity="0.0199npb"), "FAIL"),
        (gate("9%", "0.02npb"), "PASS"),
        (gate("0.02npb", "7%"), "FAIL"),
        (gate("9%", "1%"), "FAIL"),
    ],
    ids=str,
)
def test_each_bound_is_held_against_its_own_measure(bounds: Policy, verdict: str) -> None:
    languages = TWO | {"en": figures(0.01, 0.02000001)}  # 0.09 - 0.02 is a rounding error above 0.07
    judged = judge(languages, bounds)
    assert (judged.verdict, judged.exit_code) == (verdict, 0 if verdict == "PASS" else 3)
    assert all(reason.startswith(verdict) for reason in judged.reasons)
    assert all("judged by point estimate" in reason for reason in judged.reasons)


def test_a_failure_names_language_value_bound_and_standard_error() -> None:
    assert judge(TWO, gate("5%")).reasons == (
        "FAIL sw: relative perplexity +9% is above max_degradation 5% "
        "(degradation +0.03, standard error 0.002 npb; judged by point estimate)",
    )
    assert judge(TWO, gate("0.005npb")).reasons == (
        "FAIL sw: degradation +0.03npb is above max_degradation 0.005npb "
        "(standard error 0.002 npb; judged by point estimate)",
        "FAIL en: degradation +0.01npb is above max_degradation 0.005npb "
        "(standard error 0.001 npb; judged by point estimate)",
    )
    assert judge(TWO, gate(disparity="0.01npb")).reasons == (
        "FAIL: disparity of 0.02 nats per byte is above max_disparity 0.01npb, "
        "between sw with degradation +0.03npb (standard error 0.002 npb) "
        "and en with degradation +0.01npb (standard error 0.001 npb); judged by point estimate",
    )
    assert "disparity of 7 percentage points is above max_disparity 1%" in judge(TWO, gate(disparity="1%")).reasons[0]


def test_a_pass_says_which_language_came_nearest_to_the_bound() -> None:
    (reason,) = judge(TWO, gate("10%")).reasons
    assert reason.startswith(
        "PASS: all 2 languages keep max_degradation 10%; the worst is sw with relative perplexity +9%"
    )


def test_a_missing_language_fails_and_is_named_with_the_reason() -> None:
    judged = judge(TWO, gate("10%"), {"yo": "no text was found in yo.txt"})
    assert (judged.verdict, judged.exit_code) == ("FAIL", 3)
    assert judged.reasons == ("FAIL yo: not evaluated, no text was found in yo.txt",)
    same = judge(TWO | {"yo": {"missing": "no text was found in yo.txt"}}, gate("10%"))
    assert same == judged


@pytest.mark.parametrize("reason", ["", None])
def test_a_missing_language_without_a_reason_is_still_missing(reason: str | None) -> None:
    assert judge(TWO | {"yo": {"missing": reason}}, gate("10%")).reasons == (
        "FAIL yo: not evaluated, no reason was recorded",
    )


def test_a_language_that_is_named_as_missing_is_so_even_if_it_has_figures() -> None:
    assert judge(TWO, gate("10%"), {"en": "the float model gives NaN"}).verdict == "FAIL"


@pytest.mark.parametrize("languages", [{}, {"yo": {"missing": "no text"}}], ids=["none", "missing"])
def test_if_nothing_was_evaluated_the_gate_did_not_run_and_does_not_pass(languages: dict[str, Any]) -> None:
    judged = judge(languages, gate("10%"), {"sw": "no text"})
    assert (judged.verdict, judged.exit_code) == ("NOT-RUN", 3)
    assert judged.reasons[0] == "NOT-RUN: no language could be evaluated, so no bound was checked"
    assert "NOT-RUN sw: no text" in judged.reasons


UNUSABLE = {
    "empty": {},
    "nan": figures(math.nan, 0.01),
    "inf": figures(math.inf, 0.01),
    "minus inf": figures(-math.inf, 0.01),
    "none": {"degradation": None, "standard_error": 0.1, "relative_perplexity": 0.1},
    "text": figures("0.01", 0.01),
    "true": figures(True, 0.01),
    "nan relative": figures(0.001, math.nan),
    "no relative": {"degradation": 0.0, "standard_error": 0.0},
    "nan error": figures(0.001, 0.001, math.nan),
    "no error": {"degradation": 0.0, "relative_perplexity": 0.0},
    "negative error": figures(0.001, 0.001, -1.0),
    "numpy nan": figures(np.float32("nan"), 0.01),
    "complex": figures(0.001, 1j),
}


@pytest.mark.parametrize("broken", UNUSABLE.values(), ids=UNUSABLE)
@pytest.mark.parametrize("bounds", [gate("100%"), gate(disparity="100%"), gate("100%", "9npb")], ids=str)
@pytest.mark.parametrize("others", [{}, TWO], ids=["alone", "among others"])
def test_a_language_without_usable_figures_never_passes(
    broken: dict[str, Any], bounds: Policy, others: dict[str, Any]
) -> None:
    judged = judge(others | {"yo": broken}, bounds)
    assert (judged.verdict, judged.exit_code) == ("FAIL", 3)
    assert [reason for reason in judged.reasons if reason.startswith("FAIL yo: ")]


def test_a_language_is_judged_by_the_measure_of_the_bound_only() -> None:
    assert judge({"sw": {"degradation": 0.01, "standard_error": 0.1}}, gate("0.02npb")).verdict == "PASS"


def test_all_failures_are_told_at_once() -> None:
    languages = TWO | {"ar": figures(math.nan, 0.0)}
    judged = judge(languages, gate("1%", "0.001npb"), {"yo": "no text"})
    assert [reason.split(":")[0] for reason in judged.reasons] == ["FAIL yo", "FAIL ar", "FAIL sw", "FAIL en", "FAIL"]


def test_a_value_just_above_its_bound_does_not_look_equal_to_it() -> None:
    assert "+10.0001% is above max_degradation 10% " in judge({"sw": figures(0.01, 0.100001)}, gate("10%")).reasons[0]


@pytest.mark.parametrize("value", [math.nan, -math.inf], ids=str)
@pytest.mark.parametrize("name", ["max_degradation", "max_disparity"])
def test_a_bound_that_is_no_number_is_kept_by_nobody(name: str, value: float) -> None:
    # Bound refuses it; the gate does not rely on that.
    bounds: Any = SimpleNamespace(default=SimpleNamespace(max_degradation=None), max_disparity=None)
    holder = bounds.default if name == "max_degradation" else bounds
    setattr(holder, name, SimpleNamespace(value=value, unit="npb"))
    assert judge(TWO, bounds).verdict == "FAIL"


def test_a_gate_without_a_bound_is_refused() -> None:
    empty: Any = SimpleNamespace(default=SimpleNamespace(max_degradation=None), max_disparity=None)
    with pytest.raises(SpecError, match="the gate has no bound"):
        judge(TWO, empty)


def test_a_bound_of_an_unknown_unit_is_refused() -> None:
    odd_rule = SimpleNamespace(max_degradation=SimpleNamespace(value=1.0, unit="bits"))
    odd: Any = SimpleNamespace(default=odd_rule, max_disparity=None)
    with pytest.raises(SpecError, match="max_degradation: unit 'bits' is not known"):
        judge(TWO, odd)


numbers = st.floats(-0.2, 0.5)
entries = st.builds(figures, numbers, numbers, st.floats(0, 0.1))
results = st.dictionaries(st.sampled_from(["ar", "en", "fi", "sw", "zh-Hant"]), entries, min_size=1)
some_bounds = st.builds(
    lambda value, unit: Bound(value=value, unit=unit), st.floats(0, 0.5), st.sampled_from(["%", "npb"])
)
degradation_gates = st.builds(lambda bound: Policy(default=Rule(max_degradation=bound)), some_bounds)
gates = st.builds(
    lambda first, second: Policy(default=Rule(max_degradation=first), max_disparity=second),
    st.none() | some_bounds,
    some_bounds,
)
worsening = st.floats(0, 1)


def worsened(languages: dict[str, Any], tag: str, by: float) -> dict[str, Any]:
    old = languages[tag]
    return languages | {tag: figures(old["degradation"] + by, old["relative_perplexity"] + by, old["standard_error"])}


@given(results, degradation_gates, worsening, st.data())
def test_worsening_any_language_never_turns_a_failed_degradation_into_a_pass(
    languages: dict[str, Any], bounds: Policy, by: float, data: st.DataObject
) -> None:
    tag = data.draw(st.sampled_from(sorted(languages)))
    assume(judge(languages, bounds).verdict == "FAIL")
    assert judge(worsened(languages, tag, by), bounds).verdict == "FAIL"


@given(results, gates, worsening)
def test_worsening_the_worst_language_never_turns_fail_into_pass(
    languages: dict[str, Any], bounds: Policy, by: float
) -> None:
    # One order for both measures: the same language is worst in either.
    languages = {tag: figures(entry["degradation"]) for tag, entry in languages.items()}
    worst = max(languages, key=lambda tag: languages[tag]["degradation"])
    assume(judge(languages, bounds).verdict == "FAIL")
    assert judge(worsened(languages, worst, by), bounds).verdict == "FAIL"


@given(results, degradation_gates | gates, st.data())
def test_losing_a_language_never_turns_fail_into_pass(
    languages: dict[str, Any], bounds: Policy, data: st.DataObject
) -> None:
    tag = data.draw(st.sampled_from(sorted(languages)))
    assert judge(languages | {tag: {"missing": "lost"}}, bounds).verdict != "PASS"
    assert judge(languages, bounds, {tag: "lost"}).exit_code == 3


@given(results, degradation_gates | gates, st.sampled_from([math.nan, math.inf, -math.inf]), st.data())
def test_a_number_that_is_not_finite_never_passes(
    languages: dict[str, Any], bounds: Policy, value: float, data: st.DataObject
) -> None:
    tag = data.draw(st.sampled_from(sorted(languages)))
    name = data.draw(st.sampled_from(["degradation", "standard_error"]))
    assert judge(languages | {tag: languages[tag] | {name: value}}, bounds).verdict == "FAIL"


@given(results, degradation_gates | gates)
def test_the_verdict_is_that_of_a_plain_loop(languages: dict[str, Any], bounds: Policy) -> None:
    keys = {"%": "relative_perplexity", "npb": "degradation"}
    kept = True
    if bounds.default.max_degradation is not None:
        for entry in languages.values():
            kept = kept and entry[keys[bounds.default.max_degradation.unit]] <= bounds.default.max_degradation.value
    if bounds.max_disparity is not None:
        values = [entry[keys[bounds.max_disparity.unit]] for entry in languages.values()]
        kept = kept and max(values) - min(values) <= bounds.max_disparity.value
    assert judge(languages, bounds).verdict == ("PASS" if kept else "FAIL")


@given(results, degradation_gates | gates)
def test_the_order_of_languages_does_not_matter(languages: dict[str, Any], bounds: Policy) -> None:
    backwards = dict(reversed(languages.items()))
    assert judge(backwards, bounds, {"yo": "a", "xh": "b"}) == judge(languages, bounds, {"xh": "b", "yo": "a"})


def test_the_order_of_unusable_languages_does_not_matter() -> None:
    broken = {"sw": figures(math.nan, 0.0), "ar": {}, "en": figures(0.01)}
    judged = judge(broken, gate("10%"))
    assert [reason[:7] for reason in judged.reasons] == ["FAIL ar", "FAIL sw"]
    assert judge(dict(reversed(broken.items())), gate("10%")) == judged


@given(results, st.none() | degradation_gates | gates)
def test_a_verdict_has_reasons_and_nothing_is_modified(languages: dict[str, Any], bounds: Policy | None) -> None:
    before = {tag: dict(entry) for tag, entry in languages.items()}
    assert judge(languages, bounds).reasons
    assert languages == before

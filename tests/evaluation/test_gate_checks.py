"""One bound against one value: each verdict for the right reason, and a sentence that says why."""

from __future__ import annotations

import datetime
import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import evaluation, sentence_losses

from inc_laaciq.config.bounds import Bound, parse_bound
from inc_laaciq.config.policy import Waiver
from inc_laaciq.evaluation.checks import Check, check_language, check_spread, interval, name_failures, number
from inc_laaciq.evaluation.comparison import Change, Comparison
from inc_laaciq.evaluation.resampling import Resampler
from inc_laaciq.evaluation.statistics import Bounds


def change(centre, spread=0.01, n=60, unit="%", seed=0, documents=None):
    by_token = np.random.default_rng(seed).normal(centre, spread, n) if spread else np.full(n, centre)
    fields = {} if documents is None else {"document": np.arange(n) % documents}
    pair = (sentence_losses("sw", loss, **fields) for loss in (30 + 10 * by_token, np.full(n, 30.0)))
    return Comparison(*(evaluation(of) for of in pair), Resampler(300)).change("sw", unit)


def check(limit="5%"):
    return Check(kind="max_degradation", language="sw", verdict="NOT-RUN", reason="", limit=parse_bound(limit))


def held(found, limit="5%", **options):
    return check_language(check(limit), found, **({"confidence": 0.95, "min_sentences": 30} | options))


@pytest.mark.parametrize(
    ("centre", "spread", "verdict", "words"),
    [
        (0.0, 0.01, "PASS", "keeps max_degradation 5%"),
        (0.2, 0.01, "FAIL", "is above max_degradation 5%"),
        (0.04, 0.2, "INCONCLUSIVE", "may be above max_degradation 5%; about "),
        (20.0, 3.0, "FAIL", "is above"),
        (2.0, 3.0, "FAIL", "is above"),
        (900.0, 3.0, "FAIL", "is above"),
    ],
    ids=["clear pass", "clear fail", "noisy", "broken", "broken and noisy", "overflow"],
)
def test_verdicts(centre, spread, verdict, words):
    found = held(change(centre, spread))
    assert found.verdict == verdict
    assert words in found.reason
    assert found.sentence.startswith(f"{verdict} sw: relative perplexity ")
    json.dumps(found.as_dict(), allow_nan=False)


changes = st.builds(
    change,
    st.floats(-0.2, 0.3),
    st.sampled_from([0.0, 0.001, 0.05, 1.0]),
    n=st.sampled_from([1, 2, 12, 40]),
    unit=st.sampled_from(["%", "npb"]),
    documents=st.none() | st.integers(1, 12),
)


@given(changes, st.floats(0, 0.3), st.sampled_from([0.6, 0.95, 0.99]), st.integers(2, 50))
def test_pass_means_kept_and_fail_means_broken(found, limit, confidence, least):
    unit = "%" if found.logarithm is not None else "npb"
    held_to = replace(check(), limit=Bound(value=limit, unit=unit))
    judged = check_language(held_to, found, confidence=confidence, min_sentences=least)
    if judged.verdict == "PASS":
        assert judged.bounds.upper <= limit
    if judged.verdict == "FAIL":
        assert judged.bounds.value > limit
    if judged.verdict == "PASS":
        assert found.n >= least
        assert found.n_effective >= 10
    if judged.bounds is not None:
        assert judged.bounds.lower <= judged.bounds.value <= judged.bounds.upper
    json.dumps(judged.as_dict(), allow_nan=False)


def test_a_value_at_its_limit_passes_and_one_above_fails():
    exact = change(math.log1p(0.05), 0.0)
    assert held(replace(exact, value=0.05)).verdict in ("PASS", "FAIL")
    assert held(change(0.0, 0.0), "0%").verdict == "PASS"
    assert held(change(0.001, 0.0), "0%").verdict == "FAIL"


def test_too_little_text_is_inconclusive_with_what_is_needed_row15():
    assert "rests on 12 sentences, and at least 30 are needed" in held(change(0.0, n=12)).reason
    assert "worth 8.0 documents of equal size, and at least 10" in held(change(0.0, n=64, documents=8)).reason
    assert "rests on a single sentence" in held(change(0.0, n=1)).reason
    assert {held(change(0.0, **short)).verdict for short in ({"n": 12}, {"n": 64, "documents": 8}, {"n": 1})} == {
        "INCONCLUSIVE"
    }
    assert held(change(0.0, n=12)).lacks_text
    assert held(change(9.0, n=12)).verdict == "FAIL"  # so much harm shows in little text


def test_one_harmed_sentence_of_many_is_no_crash():
    loss = np.full(40, 30.0)
    harmed = loss.copy()
    harmed[3] += 5
    pair = (evaluation(sentence_losses("sw", of)) for of in (harmed, loss))
    found = held(Comparison(*pair, Resampler(300)).change("sw", "%"))
    assert found.verdict == "INCONCLUSIVE"
    json.dumps(found.as_dict(), allow_nan=False)


@pytest.mark.parametrize(("value", "verdict"), [(0.05, "PASS"), (0.0501, "FAIL")])
def test_a_single_value_is_held_as_it_is_and_says_so(value, verdict):
    point = Change(value=value, sample=None, n=1, n_effective=1, is_point=True)
    found = held(point)
    assert found.verdict == verdict
    assert found.p_value is None
    assert "one value, no interval is known" in found.reason


def answers(harmed, helped, n):
    return Change(value=(harmed - helped) / n, sample=None, n=n, n_effective=n, counts=(harmed, helped))


@pytest.mark.parametrize(
    ("counts", "verdict"),
    [((0, 0, 40), "INCONCLUSIVE"), ((0, 0, 400), "PASS"), ((40, 2, 400), "FAIL"), ((0, 0, 29), "INCONCLUSIVE")],
    ids=str,
)
def test_answers_are_judged_by_their_score(counts, verdict):
    found = held(answers(*counts), "2pp")
    assert found.verdict == verdict
    assert found.detectable > 0


@given(st.lists(st.sampled_from([0.001, 0.02, 0.04, 0.2]), min_size=1, max_size=6))
def test_only_failures_that_chance_may_explain_are_taken_back(p_values):
    checks = [replace(check(), verdict="FAIL", reason="x", p_value=p) for p in p_values]
    adjusted = {place: min(1.0, p * len(p_values)) for place, p in enumerate(p_values)}
    for found, p in zip(name_failures(checks, adjusted, 0.95), adjusted.values(), strict=True):
        assert found.p_value == p
        assert found.verdict == ("FAIL" if p < 0.05 else "INCONCLUSIVE")
        assert (p < 0.05) or "Holm" in found.reason
    untouched = replace(check(), verdict="PASS")
    assert name_failures([untouched], {}, 0.95) == [untouched]


@pytest.mark.parametrize(
    ("bounds", "why", "verdict"),
    [
        ((0.02, 0.01, 0.04), "", "PASS"),
        ((0.08, 0.06, 0.09), "", "FAIL"),
        ((0.04, 0.01, 0.06), "", "INCONCLUSIVE"),
        ((0.02, 0.0, 0.03), "cannot be judged", "INCONCLUSIVE"),
        ((0.02, 0.0, math.inf), "", "INCONCLUSIVE"),
        ((math.nan, math.nan, math.nan), "", "INCONCLUSIVE"),
    ],
    ids=["pass", "fail", "between", "why", "infinite", "nan"],
)
def test_spread(bounds, why, verdict):
    value, lower, upper = bounds
    found = check_spread(
        replace(check(), language=None, kind="max_disparity"),
        Bounds(value=value, lower=lower, upper=upper),
        worst="sw", best="en", n_languages=2, is_point=False, why=why,
    )  # fmt: skip
    assert found.verdict == verdict
    assert "between sw and en" in found.reason
    json.dumps(found.as_dict(), allow_nan=False)


def test_entry_of_the_document():
    waiver = Waiver(
        language="sw", max_degradation=parse_bound("9%"), owner="a", reason="b", ticket="c",
        expires=datetime.date(2027, 1, 31), line=7,
    )  # fmt: skip
    entry = replace(held(change(0.0)), waiver=waiver, line=3).as_dict()
    assert (entry["id"], entry["limit"], entry["limit_value"], entry["unit"]) == ("max_degradation/sw", "5%", 0.05, "%")
    assert entry["waiver"] == {"owner": "a", "reason": "b", "ticket": "c", "expires": "2027-01-31", "line": 7}
    assert entry["reason"].startswith("PASS sw: ")


def test_words():
    assert replace(check(), verdict="FAIL", severity="warn", reason="x").sentence == "WARN sw: x"
    assert replace(check(), verdict="PASS", severity="warn", reason="x").sentence == "PASS sw: x"
    assert replace(check(), verdict="FAIL", language=None, group="low", reason="x").sentence == "FAIL group low: x"
    assert replace(check(), verdict="FAIL", language=None, reason="x").sentence == "FAIL: x"
    assert number(0.100001, "%") == "+10.0001%"
    assert number(-0.02, "npb") == "-0.02npb"
    assert interval(Bounds(value=0.02, lower=0.0, upper=math.inf), "pp") == "+2pp [+0pp, +infpp]"


def test_a_check_without_a_limit_is_refused():
    with pytest.raises(ValueError, match="has no limit"):
        check_language(replace(check(), limit=None), change(0.0), confidence=0.95, min_sentences=30)

"""What is known of each language: changes in every unit, and why there is none."""

from __future__ import annotations

import math

import numpy as np
import pytest
from strategies import evaluation, sentence_losses

from inc_laaciq.config.bounds import parse_bound
from inc_laaciq.config.policy import Policy, Rule, TaskRule
from inc_laaciq.errors import MismatchError, SpecError
from inc_laaciq.evaluation.comparison import Change, Comparison
from inc_laaciq.evaluation.items import ItemScores
from inc_laaciq.evaluation.resampling import Resampler

TASK = "belebele_{language}"


def compared(candidate, baseline):
    return Comparison(candidate, baseline, Resampler(100))


def items(harm, tag="sw", **fields):
    return ItemScores(tag=tag, harm=harm, items=tuple(map(str, range(len(harm)))), **fields)


def of_sw(after, before, **fields):
    losses = (sentence_losses("sw", loss, **fields) for loss in (after, before))
    return compared(*(evaluation(of, texts={"aligned": True}) for of in losses))


@pytest.mark.parametrize(
    ("unit", "value"), [("%", math.expm1(6 / 30)), ("npb", 6 / 120), ("nps", 2.0)], ids=["%", "npb", "nps"]
)
def test_each_unit_divides_by_its_own_size(unit, value):
    change = of_sw([3.0, 4.0, 5.0], [1.0, 2.0, 3.0]).change("sw", unit)
    assert change.value == pytest.approx(value)
    assert change.sample.value == pytest.approx(value)
    assert (change.n, change.n_effective, change.is_point) == (3, 3, False)
    assert (change.logarithm is not None) == (unit == "%")


def test_a_unit_whose_size_is_not_known_has_no_change():
    comparison = of_sw([1.0, 2.0], [1.0, 2.0], n_bytes=[0, 0])
    assert comparison.change("sw", "npb") is None
    assert comparison.change("sw", "%").value == 0


def test_nats_a_sentence_need_aligned_text():
    comparison = compared(*(evaluation(sentence_losses("sw", [1.0])) for _ in range(2)))
    with pytest.raises(SpecError, match=r"nps .* needs aligned text"):
        comparison.change("sw", "nps")


def test_one_sentence_has_a_value_and_no_sample():
    change = of_sw([2.0], [1.0]).change("sw", "npb")
    assert (change.value, change.sample, change.is_point) == (1 / 40, None, False)


@pytest.mark.parametrize(("ours", "theirs"), [(True, True), (True, False), (False, True)])
def test_a_point_is_one_on_both_sides(ours, theirs):
    candidate, baseline = (evaluation(sentence_losses("sw", [2.0], is_point=point)) for point in (ours, theirs))
    assert compared(candidate, baseline).change("sw", "%").is_point == (ours and theirs)


def test_other_sentences_are_refused_row63():
    comparison = compared(evaluation(sentence_losses("sw", [1.0, 2.0])), evaluation(sentence_losses("sw", [1.0])))
    with pytest.raises(MismatchError, match="same sentences"):
        comparison.change("sw", "%")


@pytest.mark.parametrize("bad", [[], [math.nan, 1.0], [1.0, math.inf], [1e300, 1.0]], ids=str)
@pytest.mark.parametrize("side", ["the candidate", "the baseline"])
def test_a_language_without_usable_losses_is_missing_row13_row14_row44(bad, side):
    good, broken = sentence_losses("sw", [1.0] * len(bad)), sentence_losses("sw", bad)
    pair = (broken, good) if side == "the candidate" else (good, broken)
    comparison = compared(*(evaluation(of, sentence_losses("en", [1.0])) for of in pair))
    assert comparison.missing()["sw"].startswith(side if bad else "the candidate")
    assert comparison.languages() == ("en",)


def test_a_language_of_one_file_only_is_missing():
    one, both = sentence_losses("sw", [1.0]), sentence_losses("en", [1.0])
    assert compared(evaluation(one, both), evaluation(both)).missing() == {"sw": "the baseline has no results for it"}
    assert compared(evaluation(both), evaluation(one, both)).missing() == {"sw": "the candidate has no results for it"}


def test_reasons_of_either_file_are_told():
    found = compared(evaluation(missing={"yo": "no text"}), evaluation(missing={"am": "NaN"})).missing()
    assert found == {"am": "baseline: NaN", "yo": "no text"}


def test_a_required_language_is_there_only_if_it_can_be_judged():
    rule = TaskRule(pattern=TASK, metric="acc", max_degradation=parse_bound("2pp"))
    default = Rule(max_degradation=parse_bound("5%"))
    bounded = Policy(default=default, required_languages=("yo",), tasks=(rule,))
    unbounded = Policy(default=default, required_languages=("yo",))
    scored = evaluation(tasks={TASK: {"yo": items([0, 1], "yo")}})
    assert compared(scored, scored).missing(bounded) == {}
    assert "requires" in compared(scored, scored).missing(unbounded)["yo"]
    assert "requires" in compared(evaluation(), evaluation()).missing(bounded)["yo"]


def test_a_bound_of_a_languages_own_is_about_its_likelihood():
    task = TaskRule(pattern=TASK, metric="acc", max_degradation=parse_bound("2pp"))
    own = Policy(languages={"yo": Rule(max_degradation=parse_bound("5%"))}, required_languages=("yo",), tasks=(task,))
    scored = evaluation(sentence_losses("en", [1.0, 2.0]), tasks={TASK: {"yo": items([0, 1], "yo")}})
    assert compared(scored, scored).missing(own) == {"yo": "the policy requires it, and there is no likelihood of it"}


def test_documents_are_counted_where_the_text_has_them():
    assert of_sw([1.0] * 4, [1.0] * 4, document=[0, 0, 1, 1]).documents("sw") == 2
    assert of_sw([1.0] * 4, [1.0] * 4).documents("sw") is None


def test_binary_items_are_counted_and_others_are_not():
    before, after = items([0, 0, 1, 1]), items([1, 1, 0, 1])
    change = compared(evaluation(tasks={TASK: {"sw": after}}), evaluation(tasks={TASK: {"sw": before}}))
    changes, missing = change.task_changes(TASK)
    assert missing == {}
    assert (changes["sw"].counts, changes["sw"].value, changes["sw"].n) == ((2, 1), 0.25, 4)
    graded = items([0.5, 0, 1, 1])
    changes, _ = compared(
        evaluation(tasks={TASK: {"sw": graded}}), evaluation(tasks={TASK: {"sw": before}})
    ).task_changes(TASK)
    assert changes["sw"].counts is None
    assert changes["sw"].sample is not None


def test_a_task_of_one_side_only_or_without_usable_scores_is_missing():
    good, nan, empty = items([0, 1]), items([0, math.nan]), items([])
    for ours, theirs in (({"sw": good}, {}), ({}, {"sw": good}), ({"sw": nan}, {"sw": good}), ({"sw": empty},) * 2):
        changes, missing = compared(evaluation(tasks={TASK: ours}), evaluation(tasks={TASK: theirs})).task_changes(TASK)
        assert (changes, list(missing)) == ({}, ["sw"])
    assert compared(evaluation(), evaluation()).task_changes(TASK) == ({}, {})


def test_beyond_another_language():
    one = of_sw(np.arange(30) / 10, np.zeros(30)).change("sw", "npb")
    point = Change(value=0.01, sample=None, n=1, n_effective=1, is_point=True)
    nothing = Change(value=0.01, sample=None, n=1, n_effective=1)
    mixed = one.beyond(point)
    assert mixed.value == pytest.approx(one.value - 0.01)
    assert mixed.sample.standard_error == one.sample.standard_error
    assert (mixed.n, mixed.n_effective, mixed.is_point) == (30, one.n_effective, False)
    assert point.beyond(one).sample.value == pytest.approx(0.01 - one.value)
    assert point.beyond(point).is_point
    assert one.beyond(nothing).sample is None
    assert not point.beyond(nothing).is_point

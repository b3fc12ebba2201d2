"""The whole gate: nothing passes without evidence, and every rule of a policy does what it says."""

from __future__ import annotations

import datetime
import json
import math
from dataclasses import replace
from importlib import resources

import jsonschema
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import evaluation, evaluations, sentence_losses

from inc_laaciq.config.bounds import Bound, parse_bound
from inc_laaciq.config.policy import Group, Policy, Rule, TaskRule, Waiver
from inc_laaciq.errors import MismatchError, SpecError
from inc_laaciq.evaluation.gate import exit_code, judge
from inc_laaciq.evaluation.items import ItemScores

TODAY = datetime.date(2027, 1, 31)
TASK = "belebele_{language}"
SCHEMA = jsonschema.Draft202012Validator(
    json.loads(resources.files("inc_laaciq").joinpath("schemas/gate.schema.json").read_text())
)


def policy(degradation=None, disparity=None, **fields):
    default = Rule(max_degradation=degradation and parse_bound(degradation))
    return Policy(**({"default": default, "max_disparity": disparity and parse_bound(disparity)} | fields))


def harmed(n=60, spread=0.005, **by_language):
    """Candidate and baseline; each language worse by so many nats a token, with a little noise."""
    after, before = [], []
    for tag, harm in by_language.items():
        noise = np.random.default_rng(sum(map(ord, tag))).normal(0, spread, n)
        before.append(sentence_losses(tag, np.full(n, 30.0)))
        after.append(sentence_losses(tag, 30 + 10 * (harm + noise)))
    return evaluation(*after, id="1" * 64), evaluation(*before)


def judged(pair, rules, **options):
    document = judge(*pair, rules, **({"today": TODAY, "draws": 100} | options))
    SCHEMA.validate(document | {"meta": {}})
    json.dumps(document, allow_nan=False)
    assert len({check["id"] for check in document["checks"]}) == len(document["checks"])
    for check in document["checks"]:
        value, lower, upper, limit = (check[key] for key in ("value", "lower", "upper", "limit_value"))
        if None not in (value, lower, upper):
            assert lower <= value <= upper
        if value is not None and limit is not None:
            assert check["verdict"] != "PASS" or value <= limit
            assert check["verdict"] != "FAIL" or value > limit
    return document


def verdicts(document):
    return {check["id"]: check["verdict"] for check in document["checks"]}


bounds = st.builds(
    lambda value, unit: Bound(value=value, unit=unit), st.floats(0, 1), st.sampled_from(["%", "npb", "nps"])
)
degradation_policies = st.builds(lambda bound: Policy(default=Rule(max_degradation=bound)), bounds)
policies = degradation_policies | st.builds(
    lambda first, second: Policy(default=Rule(max_degradation=first), max_disparity=second), st.none() | bounds, bounds
)


def worsened(candidate, tag, extra):
    old = candidate.losses[tag]
    return replace(candidate, losses={**candidate.losses, tag: replace(old, loss=old.loss + extra)})


@given(evaluations(), degradation_policies, st.data())
def test_worsening_any_language_never_turns_fail_into_pass(pair, rules, data):
    if judged(pair, rules)["verdict"] != "FAIL":
        return
    candidate, baseline = pair
    tag = data.draw(st.sampled_from(sorted(candidate.losses)))
    generator = np.random.default_rng(data.draw(st.integers(0, 99)))
    extra = generator.gamma(0.5, data.draw(st.sampled_from([0.0, 0.1, 5.0, 1e3])), candidate.losses[tag].n)
    assert judged((worsened(candidate, tag, extra), baseline), rules)["verdict"] != "PASS"


@given(evaluations(min_languages=2), st.floats(0, 1), st.floats(0, 5), st.sampled_from(["npb", "%"]))
def test_worsening_the_worst_language_never_turns_fail_into_pass(pair, limit, by, unit):
    rules = Policy(max_disparity=Bound(value=limit, unit=unit))
    candidate, baseline = pair
    if any(of.n_bytes.sum() == 0 for of in baseline.losses.values()) or judged(pair, rules)["verdict"] != "FAIL":
        return
    size = {"npb": "n_bytes", "%": "tokens"}[unit]
    change = {
        tag: (of.loss - baseline.losses[tag].loss).sum() / getattr(of, size).sum()
        for tag, of in candidate.losses.items()
    }
    worst = max(change, key=change.get)
    worse = worsened(candidate, worst, by * getattr(candidate.losses[worst], size))
    assert judged((worse, baseline), rules)["verdict"] != "PASS"


@given(evaluations(), policies)
def test_the_order_of_languages_does_not_matter_and_equal_input_gives_equal_bytes(pair, rules):
    turned = tuple(replace(side, losses=dict(reversed(side.losses.items()))) for side in pair)
    one, other = (json.dumps(judged(of, rules), sort_keys=True) for of in (pair, turned))
    assert one == other


@given(evaluations(), policies, st.sampled_from(["nan", "inf", "empty", "one side", "named"]), st.data())
def test_a_language_without_figures_never_passes(pair, rules, how, data):
    candidate, baseline = pair
    tag = data.draw(st.sampled_from(sorted(candidate.losses)))
    if how in ("nan", "inf"):
        candidate = worsened(candidate, tag, float(how))
    elif how == "empty":
        none = sentence_losses(tag, [])
        candidate, baseline = (replace(side, losses={**side.losses, tag: none}) for side in pair)
    elif how == "one side":
        candidate = replace(candidate, losses={key: of for key, of in candidate.losses.items() if key != tag})
    else:
        candidate = replace(candidate, missing={tag: "the model gives NaN"})
    document = judged((candidate, baseline), rules)
    assert document["verdict"] in ("NOT-RUN", "FAIL")
    assert document["languages"][tag]["verdict"] == "NOT-RUN"
    assert exit_code(document["verdict"], rules) == 3


@given(evaluations(), policies)
def test_warnings_never_change_the_exit_code(pair, rules):
    mild = replace(rules, default=replace(rules.default, severity="warn"))
    document = judged(pair, mild)
    assert exit_code(document["verdict"], mild, strict=True) == 0
    assert all(not reason.startswith(("FAIL", "INCONCLUSIVE", "NOT-RUN")) for reason in document["reasons"])


@pytest.mark.parametrize(
    ("verdict", "fields", "plain", "strict"),
    [
        ("PASS", {}, 0, 0),
        ("FAIL", {}, 3, 3),
        ("INCONCLUSIVE", {}, 0, 4),
        ("INCONCLUSIVE", {"inconclusive": "fail"}, 3, 3),
        ("NOT-RUN", {}, 3, 3),
        ("NOT-RUN", {"not_run": "warn"}, 0, 4),
        ("something else", {}, 3, 3),
    ],
)
def test_exit_codes(verdict, fields, plain, strict):
    rules = policy("5%", **fields)
    assert (exit_code(verdict, rules), exit_code(verdict, rules, strict=True)) == (plain, strict)
    assert exit_code(verdict, None, strict=True) == 0


def test_pass_fail_and_inconclusive_name_the_language():
    rules = policy("5%", "5%")
    assert judged(harmed(en=0.0, sw=0.01), rules)["verdict"] == "PASS"
    document = judged(harmed(en=0.0, sw=0.2), rules)
    assert verdicts(document) == {
        "max_degradation/en": "PASS",
        "max_degradation/sw": "FAIL",
        "max_disparity/all": "FAIL",
    }
    assert document["reasons"][0].startswith("FAIL sw: relative perplexity ")
    assert document["languages"]["en"]["verdict"] == "PASS"
    assert document["worst_language"] == "sw"
    assert judged(harmed(en=0.0, sw=0.048, spread=0.1), policy("5%"))["verdict"] == "INCONCLUSIVE"


def test_a_broken_and_noisy_model_fails():
    assert judged(harmed(en=0.0, sw=3.0, spread=3.0), policy("10%"))["verdict"] == "FAIL"


def test_failures_are_named_at_a_high_confidence_among_many_languages():
    tags = ["ar", "de", "en", "fi", "fr", "hi", "ja", "ko", "sw", "tr", "yo", "zh"]
    document = judged(harmed(**dict.fromkeys(tags, 0.5)), policy("10%", confidence=0.999))
    assert set(verdicts(document).values()) == {"FAIL"}


def test_identical_models_keep_a_bound_of_nothing():
    _, same = harmed(en=0, sw=0)
    assert judged((same, same), policy("0%", "0npb"))["verdict"] == "PASS"


def test_without_a_policy_nothing_is_judged_and_the_figures_are_there():
    document = judged(harmed(en=0.0, sw=0.2), None)
    assert (document["verdict"], document["checks"]) == ("NOT-RUN", [])
    assert document["reasons"][0].startswith("NOT-RUN: ")
    assert document["languages"]["sw"]["relative_perplexity"] == pytest.approx(math.expm1(0.2), abs=0.01)


@pytest.mark.parametrize("rules", [policy("5%"), policy(None, "5%")], ids=["degradation", "disparity"])
def test_nothing_at_all_is_not_run(rules):
    document = judged((evaluation(), evaluation()), rules)
    assert (document["verdict"], exit_code(document["verdict"], rules)) == ("NOT-RUN", 3)


@pytest.mark.parametrize("members", [[], ["sw"]], ids=["no member", "one member"])
def test_a_disparity_of_fewer_than_two_languages_is_not_run(members):
    group = Group(name="low", languages=("sw", "yo"), max_disparity=parse_bound("5%"))
    pair = harmed(**dict.fromkeys(["en", "fi", *members], 0.0))
    assert verdicts(judged(pair, policy("5%", groups=(group,))))["max_disparity/low"] == "NOT-RUN"
    assert judged(harmed(en=0.0), policy(None, "5%"))["verdict"] == "NOT-RUN"


def test_groups_and_languages_have_their_own_bounds():
    low = Group(
        name="low",
        languages=("sw", "yo"),
        rule=Rule(max_degradation=parse_bound("1%")),
        max_disparity=parse_bound("50%"),
    )
    rules = policy("5%", groups=(low,), languages={"yo": Rule(max_degradation=parse_bound("9%"))})
    document = judged(harmed(en=0.03, sw=0.03, yo=0.07), rules)
    found = {check["id"]: (check["verdict"], check["source"]) for check in document["checks"]}
    assert found == {
        "max_degradation/en": ("PASS", "default"),
        "max_degradation/sw": ("FAIL", "group low"),
        "max_degradation/yo": ("PASS", "language yo"),
        "max_disparity/low": ("PASS", "group low"),
    }
    assert document["languages"]["sw"]["groups"] == ["low"]


def test_relative_to_judges_what_is_beyond_a_language():
    pair = harmed(en=0.2, sw=0.21, yo=0.4)
    document = judged(pair, policy("5%", relative_to="en"))
    assert verdicts(document) == {"max_degradation/sw": "PASS", "max_degradation/yo": "FAIL"}
    assert "beyond that of en" in document["reasons"][0]
    missing = judged(pair, policy("5%", relative_to="fr"))
    assert set(verdicts(missing).values()) == {"NOT-RUN"}
    assert judged(harmed(en=0.2), policy("5%", relative_to="en"))["verdict"] == "NOT-RUN"


def test_regression_since_the_previous_release():
    candidate, baseline = harmed(en=0.01, sw=0.04)
    rules = policy("5%", max_regression=parse_bound("2%"))
    without = judged((candidate, baseline), rules)
    assert (verdicts(without)["max_regression/all"], without["verdict"]) == ("NOT-RUN", "NOT-RUN")
    same = judged((candidate, baseline), rules, previous=candidate)
    assert (same["verdict"], same["previous"]["id"]) == ("PASS", candidate.id)
    assert verdicts(judged((candidate, baseline), rules, previous=baseline))["max_regression/sw"] == "FAIL"
    part = replace(baseline, losses={"en": baseline.losses["en"]})
    assert verdicts(judged((candidate, baseline), rules, previous=part))["max_regression/sw"] == "NOT-RUN"


def test_required_languages_are_not_run_without_likelihood_or_a_judged_task():
    document = judged(harmed(en=0.0), policy("5%", required_languages=("yo",)))
    assert (document["verdict"], verdicts(document)["presence/yo"]) == ("NOT-RUN", "NOT-RUN")
    scores = {"another_{language}": {"yo": ItemScores(tag="yo", harm=[0] * 40, items=tuple(map(str, range(40))))}}
    pair = tuple(replace(side, tasks=scores) for side in harmed(en=0.0))
    assert judged(pair, policy("5%", required_languages=("yo",)))["verdict"] == "NOT-RUN"


def test_few_sentences_and_few_documents_are_inconclusive_row15():
    assert judged(harmed(en=0.0, n=20), policy("5%"))["verdict"] == "INCONCLUSIVE"
    assert judged(harmed(en=0.0, n=20), policy("5%", min_sentences=15))["verdict"] == "PASS"
    few = [replace(of, document=np.arange(60) % 6) for side in harmed(en=0.0) for of in side.losses.values()]
    assert judged(tuple(map(evaluation, few)), policy("5%"))["verdict"] == "INCONCLUSIVE"
    assert judged(tuple(map(evaluation, few)), policy("5%", "5%"))["verdict"] == "NOT-RUN"


def waiver(language="sw", limit="30%", expires=TODAY):
    return Waiver(
        language=language, max_degradation=parse_bound(limit), owner="ann", reason="why", ticket="T-1", expires=expires
    )


@given(st.floats(-0.1, 1.0), st.integers(-3, 3))
def test_an_expired_waiver_always_fails_and_an_active_one_keeps_its_own_bound_row64(harm, days):
    rules = policy("5%", waivers=(waiver(expires=TODAY + datetime.timedelta(days=days)),))
    document = judged(harmed(en=0.0, sw=harm), rules)
    found = verdicts(document)
    if days < 0:
        assert (document["verdict"], found["waiver/sw"]) == ("FAIL", "FAIL")
        assert document["waivers"][0]["is_expired"]
        if harm > 0.07:
            assert found["max_degradation/sw"] == "FAIL"
        return
    assert "waiver/sw" not in found
    assert document["languages"]["sw"]["waived"]
    if harm > 0.3:
        assert found["max_degradation/sw"] == "FAIL"
    if harm < 0.2:
        assert document["verdict"] == "PASS"


def test_a_waiver_for_a_language_that_is_not_there_helps_nobody_row64():
    rules = policy("5%", waivers=(waiver("yo"),))
    assert judged(harmed(en=0.0, sw=0.2), rules)["verdict"] == "FAIL"
    assert judged(harmed(en=0.0), rules)["verdict"] == "PASS"
    assert judged((evaluation(missing={"yo": "no text"}), evaluation()), rules)["verdict"] == "NOT-RUN"
    assert (
        judged(harmed(en=0.0), policy("5%", waivers=(waiver("yo", expires=datetime.date(2020, 1, 1)),)))["verdict"]
        == "FAIL"
    )


def scored(harm, **fields):
    tags = {
        tag: ItemScores(tag=tag, harm=values, items=tuple(f"q{i}" for i in range(len(values))), **fields)
        for tag, values in harm.items()
    }
    return evaluation(tasks={TASK: tags})


def of_task(degradation="5pp", disparity=None, **fields):
    rule = TaskRule(
        pattern=TASK, metric="acc", max_degradation=degradation and parse_bound(degradation),
        max_disparity=disparity and parse_bound(disparity), **fields,
    )  # fmt: skip
    return Policy(tasks=(rule,))


def wrong(n, of=400):
    return np.arange(of) < n


def test_tasks_of_right_and_wrong_answers():
    before = scored({"en": wrong(40), "sw": wrong(40)})
    document = judged((scored({"en": wrong(42), "sw": wrong(120)}), before), of_task(disparity="5pp"))
    assert verdicts(document) == {
        f"max_degradation:{TASK}/en": "PASS",
        f"max_degradation:{TASK}/sw": "FAIL",
        f"max_disparity:{TASK}/all": "FAIL",
    }
    assert judged((before, before), of_task(disparity="5pp"))["verdict"] == "PASS"


def test_few_unchanged_answers_prove_nothing():
    few = scored({"en": wrong(4, 40), "sw": wrong(4, 40)})
    assert set(verdicts(judged((few, few), of_task("2pp", "2pp"))).values()) == {"INCONCLUSIVE"}


def test_graded_tasks_and_single_values():
    generator = np.random.default_rng(0)
    graded = {tag: generator.uniform(0, 0.4, 200) for tag in ("en", "sw")}
    worse = {"en": graded["en"] + generator.normal(0, 0.02, 200), "sw": graded["sw"] + generator.normal(0.2, 0.02, 200)}
    document = judged((scored(worse), scored(graded)), of_task())
    assert verdicts(document) == {f"max_degradation:{TASK}/en": "PASS", f"max_degradation:{TASK}/sw": "FAIL"}
    after, before = (scored({"en": [value]}, is_point=True) for value in (0.43, 0.40))
    assert judged((after, before), of_task())["verdict"] == "PASS"
    assert judged((after, before), of_task("2pp"))["verdict"] == "FAIL"


def test_a_task_that_is_bounded_and_absent_is_not_run_even_beside_likelihoods():
    rules = replace(of_task(), default=Rule(max_degradation=parse_bound("5%")))
    document = judged(harmed(en=0.0), rules)
    assert (document["verdict"], verdicts(document)[f"max_degradation:{TASK}/all"]) == ("NOT-RUN", "NOT-RUN")
    read_only = replace(rules, tasks=(TaskRule(pattern=TASK, metric="word_perplexity"),))
    assert judged(harmed(en=0.0), read_only)["verdict"] == "PASS"
    one_side = judged((scored({"en": wrong(4)}), evaluation()), of_task())
    assert one_side["verdict"] == "NOT-RUN"


def test_a_language_that_is_gone_counts_as_much_as_its_task():
    pair = scored({"en": wrong(4)}), scored({"en": wrong(4), "fi": wrong(4)})
    lenient = replace(of_task(), default=Rule(severity="warn"))
    assert judged(pair, lenient)["verdict"] == "NOT-RUN"
    both = replace(of_task(severity="warn"), default=Rule(max_degradation=parse_bound("5%")))
    with_losses = tuple(replace(one, losses=two.losses) for one, two in zip(pair, harmed(en=0.0), strict=True))
    assert judged(with_losses, both)["verdict"] == "PASS"


def test_a_required_language_may_not_be_absent_where_broken_bounds_are_warnings():
    rules = policy(default=Rule(max_degradation=parse_bound("5%"), severity="warn"), required_languages=("fi",))
    assert judged(harmed(en=0.0), rules)["verdict"] == "NOT-RUN"
    assert exit_code("NOT-RUN", rules) == 3


def test_what_a_task_can_detect_depends_on_its_languages_and_not_on_those_with_likelihoods():
    def least(*tags):
        same = scored(dict.fromkeys(tags, wrong(40)))
        with_losses = tuple(replace(same, losses=side.losses) for side in harmed(en=0.0, de=0.0, fr=0.0))
        return next(c["detectable"] for c in judged(with_losses, of_task())["checks"] if c["language"] == "sw")

    assert least("sw") < least("sw", "en") < least("sw", "en", "fi", "hi")


def test_a_single_value_beside_samples_makes_nothing_sure():
    point = [sentence_losses("en", [loss], is_point=True) for loss in (30.0, 30.0)]
    short = [sentence_losses("sw", [loss]) for loss in (30.0, 30.0)]
    noisy, plain = (side.losses["fi"] for side in harmed(fi=0.0, spread=0.5))
    for rules in (policy(None, "10%"), policy("5%", relative_to="en")):
        for other in (short, [noisy, plain]):
            pair = tuple(evaluation(one, two) for one, two in zip(point, other, strict=True))
            assert judged(pair, rules)["verdict"] == "INCONCLUSIVE"
    assert judged(tuple(map(evaluation, point)), policy("5%"))["verdict"] == "PASS"


def test_units():
    candidate, baseline = harmed(sw=0.2)
    assert judged((candidate, baseline), policy("0.06npb"))["verdict"] == "PASS"
    assert judged((candidate, baseline), policy("0.04npb"))["verdict"] == "FAIL"
    with pytest.raises(SpecError, match="aligned"):
        judged((candidate, baseline), policy("3nps"))
    aligned = tuple(replace(side, texts={"aligned": True}) for side in (candidate, baseline))
    assert judged(aligned, policy("3nps"))["verdict"] == "PASS"
    assert judged(aligned, policy("1nps"))["verdict"] == "FAIL"
    bare = tuple(
        replace(side, losses={"sw": replace(side.losses["sw"], n_bytes=np.zeros(60))}) for side in (candidate, baseline)
    )
    assert judged(bare, policy("9npb"))["verdict"] == "NOT-RUN"
    assert judged(bare, policy("50%"))["verdict"] == "PASS"


def test_what_was_measured_otherwise_is_refused_row63():
    candidate, baseline = harmed(en=0.0)
    for changed in (
        replace(candidate, losses={"en": replace(candidate.losses["en"], text_sha256="x")}),
        replace(candidate, tokenizer={"sha256": "x"}),
        replace(candidate, model={"kind": "inc", "sha256": "x"}),
    ):
        theirs = replace(baseline, tokenizer={"sha256": "y"}, model={"kind": "float", "sha256": "y"})
        with pytest.raises(MismatchError):
            judge(changed, theirs, policy("5%"))
    with pytest.raises(MismatchError, match="accepts only the baseline"):
        judge(candidate, baseline, policy("5%", baseline_id="a" * 64))
    assert judged((candidate, baseline), policy("5%", baseline_id=baseline.id))["verdict"] == "PASS"


def test_reasons_name_groups_where_there_is_no_language():
    groups = tuple(
        Group(name=name, languages=tags, max_disparity=parse_bound("5%"))
        for name, tags in (("one", ("en", "fi")), ("two", ("sw", "yo")))
    )
    document = judged(harmed(en=0, fi=0, sw=0, yo=0), policy(groups=groups))
    assert "None" not in document["reasons"][0]


def test_false_passes_and_power_in_200_runs():
    rules, passes, power = policy("5%"), 0, 0
    for run in range(200):
        generator = np.random.default_rng(run)
        before = sentence_losses("sw", np.full(40, 30.0))
        at_margin, harmless = (
            evaluation(sentence_losses("sw", 30 + 10 * (harm + 0.1 * (generator.gamma(1, 1, 40) - 1))))
            for harm in (math.log1p(0.05), 0.0)
        )
        passes += judge(at_margin, evaluation(before), rules, draws=300, seed=run)["verdict"] == "PASS"
        power += judge(harmless, evaluation(before), rules, draws=300, seed=run)["verdict"] == "PASS"
    assert passes < 0.12 * 200
    assert power > 0.6 * 200

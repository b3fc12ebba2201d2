"""Policies made in Python: what cannot be made, which rule holds for a language, and the policy as plain data."""

from __future__ import annotations

import copy
import datetime
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inc_laaciq.config import Bound, Group, Policy, Rule, TaskRule, Waiver, parse_bound, resolve, run_spec
from inc_laaciq.config.bounds import Unit
from inc_laaciq.config.policy_plain import plain_policy, policy_digest
from inc_laaciq.config.policy_rules import groups_of, waiver_for
from inc_laaciq.errors import SpecError

DAY = datetime.date(2027, 1, 31)


def rule(bound: str | None = None, severity: Any = None) -> Rule:
    return Rule(max_degradation=parse_bound(bound) if bound else None, severity=severity)


def waiver(language: str = "tr", bound: str = "9%", **settings: Any) -> Waiver:
    given_settings = {"owner": "a", "reason": "b", "ticket": "c", "expires": DAY, **settings}
    return Waiver(language=language, max_degradation=parse_bound(bound), **given_settings)


def policy(**settings: Any) -> Policy:
    return Policy(**{"default": rule("5%"), **settings})


# What cannot be made


@pytest.mark.parametrize(
    ("kind", "settings", "reason"),
    [
        (Rule, {"max_degradation": "5%"}, r"Rule\.max_degradation='5%' is not a Bound"),
        (Rule, {"max_degradation": parse_bound("2pp")}, "is in percentage points of accuracy, which bound tasks"),
        (Rule, {"severity": "warning"}, r"Rule\.severity='warning' is not known. Did you mean 'warn'"),
        (Group, {"name": "", "languages": ("sw",)}, r"Group\.name='' is empty"),
        (Group, {"name": "a\nb", "languages": ("sw",)}, "holds a line break"),
        (Group, {"name": "a"}, "group 'a' selects no language"),
        (Group, {"name": "a", "languages": ["sw"]}, "is not a tuple"),
        (Group, {"name": "a", "languages": ("swh",)}, "holds 'swh', which is not canonical. Write 'sw'"),
        (Group, {"name": "a", "languages": ("zh", "zh-CN")}, "is given twice"),
        (Group, {"name": "a", "scripts": ("arab",)}, "holds 'arab', which is not canonical. Write 'Arab'"),
        (Group, {"name": "a", "scripts": ("Arabic",)}, "Did you mean 'Arab'"),
        (Group, {"name": "a", "families": ("Turkish",)}, "'Turkish' is not a known .* Did you mean 'Turkic'"),
        (
            Group,
            {"name": "a", "languages": ("sw",), "max_disparity": parse_bound("1%")},
            "has a max_disparity and one language",
        ),
        (TaskRule, {"pattern": "belebele", "metric": "acc"}, "with {language} in it exactly once"),
        (TaskRule, {"pattern": "{language}_{language}", "metric": "acc"}, "exactly once"),
        (TaskRule, {"pattern": "a_{language}_{lang}", "metric": "acc"}, "exactly once"),
        (
            TaskRule,
            {"pattern": "a_{language}", "metric": "acc,a,b"},
            "is not the name of a metric",
        ),
        (TaskRule, {"pattern": "a_{language}", "metric": "acc", "higher_is_better": 1}, "not a boolean"),
        (
            TaskRule,
            {"pattern": "a_{language}", "metric": "acc", "max_degradation": parse_bound("2%")},
            "is in %, which bounds likelihood, not a task. Write percentage points: '2pp'",
        ),
    ],
)
def test_wrong_part_cannot_be_made(kind: Any, settings: dict[str, Any], reason: str) -> None:
    with pytest.raises(SpecError, match=reason):
        kind(**settings)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"language": "xx"}, "is not a known language"),
        ({"owner": " "}, r"Waiver\.owner=' ' is empty"),
        ({"reason": "\t"}, r"Waiver\.reason='\\t' is empty"),
        ({"ticket": ""}, r"Waiver\.ticket='' is empty"),
        ({"ticket": None}, r"Waiver\.ticket=None is empty, not text"),
        ({"expires": "2027-01-31"}, "is not a day"),
        ({"expires": datetime.datetime(2027, 1, 31)}, "is not a day"),
    ],
)
def test_wrong_waiver_cannot_be_made(settings: dict[str, Any], reason: str) -> None:
    with pytest.raises(SpecError, match=reason):
        waiver(**settings)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"default": Rule()}, "a gate without a bound judges nothing"),
        ({"default": rule(severity="warn"), "required_languages": ("sw",)}, "a gate without a bound judges nothing"),
        ({"max_disparity": parse_bound("2pp")}, r"Policy\.max_disparity=.* is in percentage points"),
        ({"confidence": 0.5}, r"Policy\.confidence=0.5 is out of range. Allowed: above 0.5 and below 1"),
        ({"confidence": 1}, "is out of range"),
        ({"confidence": 95}, "write 0.95 or '95%'"),
        ({"confidence": float("nan")}, "is not a finite number"),
        ({"min_sentences": 1}, "is out of range. Allowed: 2 or more"),
        ({"min_sentences": 30.0}, "is a decimal number"),
        ({"inconclusive": "error"}, "is not known. Allowed: fail, warn"),
        ({"not_run": None}, "is not known"),
        ({"baseline_id": "A" * 64}, "is not a content hash"),
        ({"baseline_id": "a" * 63}, "is not a content hash"),
        ({"relative_to": "eng"}, "is not canonical. Write 'en'"),
        ({"required_languages": ("zh", "zh-CN")}, "is given twice"),
        ({"required_languages": ["zh"]}, "is not a tuple"),
        ({"languages": {"swh": rule("1%")}}, "is not canonical. Write 'sw'"),
        ({"languages": {"sw": "1%"}}, "is not a Rule"),
        ({"languages": {"sw": Rule()}}, "says nothing about 'sw'"),
        ({"languages": {"zh": rule("1%"), "zh-CN": rule("2%")}}, "is given twice"),
        ({"groups": (rule(),)}, "is not a Group"),
        ({"groups": (Group(name="a", languages=("sw",)),) * 2}, "two groups are named 'a'"),
        ({"tasks": (TaskRule(pattern="a_{language}", metric="acc"),) * 2}, "two task rules have the pattern"),
        ({"waivers": (waiver(), waiver(bound="8%"))}, "waivers: language Turkish .* is given twice"),
        ({"waivers": (waiver("zh"), waiver("zh-CN"))}, "is given twice"),
        ({"waivers": (waiver(bound="4%"),)}, r"allows 4%, which is no more than .*, 5% \(default\). Widen"),
        ({"waivers": (waiver(bound="5%"),)}, "is no more than"),
        ({"waivers": (waiver(bound="1npb"),)}, r"is in npb, but .*, 5% \(default\), is in %"),
        ({"waivers": (waiver(),), "languages": {"tr": rule("10%")}}, r"no more than .*, 10% \(language tr\)"),
        (
            {"default": Rule(), "max_disparity": parse_bound("1%"), "waivers": (waiver(),)},
            "has no bound to widen",
        ),
        (
            {"default": Rule(), "max_disparity": parse_bound("1%"), "relative_to": "en"},
            "relative_to 'en' has no max_degradation to act on",
        ),
        ({"relative_to": "en", "languages": {"en": rule("1%")}}, "of language en is relative to en itself"),
        ({"relative_to": "en", "waivers": (waiver("en"),)}, "the waiver for en is relative to en itself"),
    ],
)
def test_wrong_policy_cannot_be_made(settings: dict[str, Any], reason: str) -> None:
    with pytest.raises(SpecError, match=reason):
        policy(**settings)


@pytest.mark.parametrize(
    "settings",
    [
        {"max_disparity": parse_bound("1%")},
        {"max_regression": parse_bound("0.1nps")},
        {"groups": (Group(name="a", scripts=("Arab",), max_disparity=parse_bound("1%")),)},
        {"groups": (Group(name="a", languages=("sw",), rule=rule("1%")),)},
        {"languages": {"sw": rule("1%")}},
        {"languages": {"sw": rule("1%")}, "relative_to": "en"},
        {"tasks": (TaskRule(pattern="a_{language}", metric="acc", max_disparity=parse_bound("1pp")),)},
    ],
)
def test_a_bound_anywhere_is_enough(settings: dict[str, Any]) -> None:
    assert Policy(**settings).confidence == 0.95


def test_a_waiver_counts_on_its_last_day() -> None:
    assert not waiver().is_expired(DAY)
    assert waiver().is_expired(DAY + datetime.timedelta(days=1))


# Which rule holds


LEVELS = policy(
    default=rule("5%", "warn"),
    groups=(
        Group(name="low", languages=("sw", "yo"), rule=rule("3%", "error")),
        Group(name="rtl", scripts=("Arab",), rule=rule("4%")),
        Group(name="turkic", families=("Turkic",), rule=rule(severity="error")),
        Group(name="gap", languages=("sw",), families=("Afro-Asiatic",), max_disparity=parse_bound("1%")),
    ),
    languages={"sw": rule(severity="warn"), "ug": rule("0.5npb"), "zh": rule("1%")},
)


@pytest.mark.parametrize(
    ("tag", "bound", "severity", "source"),
    [
        ("de", "5%", "warn", "default"),
        ("yo", "3%", "error", "group low"),
        ("swh", "3%", "warn", "group low"),  # the last group and the language leave the bound open
        ("fa", "4%", "warn", "group rtl"),
        ("tr", "5%", "error", "default"),  # the group says the severity only
        ("az-Arab", "4%", "error", "group rtl"),
        ("ug", "0.5npb", "error", "language ug"),
        ("arb", "4%", "warn", "group rtl"),
        ("zh-CN", "1%", "warn", "language zh"),
        ("zh-Hant", "5%", "warn", "default"),
    ],
)
def test_rule_of_a_language(tag: str, bound: str, severity: str, source: str) -> None:
    found, origin = resolve(LEVELS, tag)
    assert (str(found.max_degradation), found.severity, origin) == (bound, severity, source)


def test_without_any_bound_the_rule_has_a_severity_still() -> None:
    found, source = resolve(Policy(max_disparity=parse_bound("1%")), "sw")
    assert (found.max_degradation, found.severity, source) == (None, "error", "default")


def test_groups_and_waivers_of_a_language() -> None:
    assert [group.name for group in groups_of(LEVELS, "sw")] == ["low", "gap"]
    assert [group.name for group in groups_of(LEVELS, "ar")] == ["rtl", "gap"]
    assert groups_of(LEVELS, "eo") == ()
    waived = policy(waivers=(waiver("zh", "9%"),))
    assert waiver_for(waived, "zh-CN") == waived.waivers[0]
    assert waiver_for(waived, "de") is None


_LANGUAGES = st.sampled_from(["sw", "yo", "ar", "fa", "tr", "en", "zh", "ka"])
_BOUNDS = st.none() | st.builds(lambda value: Bound(value=value, unit="%"), st.floats(0, 1))
_RULES = st.builds(
    lambda bound, severity: Rule(max_degradation=bound, severity=severity),
    _BOUNDS,
    st.sampled_from([None, "warn", "error"]),
)
_GROUPS = st.lists(st.tuples(st.sets(_LANGUAGES, min_size=1), _RULES), max_size=4)


@given(
    _RULES, _GROUPS, st.dictionaries(_LANGUAGES, _RULES.filter(lambda given_rule: not given_rule.is_empty)), _LANGUAGES
)
def test_the_rule_is_that_of_a_plain_loop(
    default: Rule, groups: list[tuple[set[str], Rule]], languages: dict[str, Rule], tag: str
) -> None:
    made = Policy(
        default=default,
        max_regression=parse_bound("1%"),
        groups=tuple(
            Group(name=str(number), languages=tuple(sorted(members)), rule=given_rule)
            for number, (members, given_rule) in enumerate(groups)
        ),
        languages=languages,
    )
    bound, severity = default.max_degradation, default.severity
    for members, given_rule in groups:
        if tag in members:
            bound = given_rule.max_degradation or bound
            severity = given_rule.severity or severity
    if tag in languages:
        bound, severity = languages[tag].max_degradation or bound, languages[tag].severity or severity
    found, _ = resolve(made, tag)
    assert (found.max_degradation, found.severity) == (bound, severity or "error")


# Plain data


FULL = replace(
    LEVELS,
    max_disparity=parse_bound("0.02npb"),
    relative_to="en",
    max_regression=parse_bound("0.5nps"),
    required_languages=("de", "no"),
    waivers=(waiver("yo", "9%"),),
    tasks=(TaskRule(pattern="a.b_{language}", metric="acc", max_degradation=parse_bound("2pp"), severity="warn"),),
    confidence=0.9,
    min_sentences=7,
    inconclusive="fail",
    not_run="warn",
    baseline_id="0" * 64,
    source="p.yaml",
    sha256="1" * 64,
)


@pytest.mark.parametrize("made", [policy(), LEVELS, FULL], ids=["short", "levels", "full"])
def test_plain_data_is_read_back(made: Policy) -> None:
    assert run_spec(la_aciq={"gate": plain_policy(made)}).la_aciq.gate == made
    assert "p.yaml" not in str(plain_policy(made))


def test_digest_is_of_what_is_demanded_only() -> None:
    assert policy_digest(FULL) == policy_digest(replace(FULL, source=None, sha256=None, lines={"confidence": 3}))
    assert policy_digest(FULL) != policy_digest(replace(FULL, confidence=0.91))
    assert replace(FULL, source="other.yaml", notes=("a",)) == FULL
    assert replace(FULL, not_run="fail") != FULL
    assert copy.deepcopy(FULL) == FULL


_UNITS: st.SearchStrategy[Unit] = st.sampled_from(["%", "npb", "nps"])


@given(st.floats(0, 1), _UNITS, st.floats(0.51, 0.999), st.integers(2, 10**6))
def test_numbers_survive_as_plain_data(value: float, unit: Unit, confidence: float, sentences: int) -> None:
    bound = Bound(value=value, unit=unit)
    made = Policy(default=Rule(max_degradation=bound), confidence=confidence, min_sentences=sentences)
    assert run_spec(la_aciq={"gate": plain_policy(made)}).la_aciq.gate == made

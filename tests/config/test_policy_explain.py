"""The policy in plain words: golden text, and what it must say whatever the policy."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest

from inc_laaciq.config import Group, Policy, Rule, TaskRule, explain, parse_bound, read_policy
from inc_laaciq.errors import SpecError

DAY = datetime.date(2027, 1, 31)

TEXT = """\
version: 1
max_degradation: 5%
max_disparity: 0.02npb
groups:
  - {name: low, languages: [sw, yo], max_degradation: 0.5nps, max_disparity: 2%, severity: warn}
languages:
  "no": {severity: warn}
required_languages: [de]
waivers:
  - {language: tr, max_degradation: 9%, owner: ann, reason: "two\\n words", ticket: T-1, expires: 2027-01-31}
inconclusive: fail
"""

EXPECTED = """\
Policy policy.yaml (sha256 {digest})

Bounds on every language
  en (English): degradation at most 5%, from default [policy.yaml:2]
  sw (Swahili): degradation at most 0.5nps (only a warning), from group low [policy.yaml:5]; in low
  no (Norwegian): degradation at most 5% (only a warning), from default [policy.yaml:2]
  tr (Turkish): degradation at most 5%, from default [policy.yaml:2]; waived up to 9% until 2027-01-31
  de (German): degradation at most 5%, from default [policy.yaml:2]; required

Bounds between languages and releases
  most degraded minus least degraded of all languages: at most 0.02npb [policy.yaml:3]
  most minus least degraded within group low (sw): at most 2% (only a warning) [policy.yaml:5]

Waivers as of 2027-01-31
  tr: active, counts through 2027-01-31: 9% instead of 5% [policy.yaml:10]
    owner ann, ticket T-1: two words
  A waived language stays in every table and every disparity.
  An expired waiver widens nothing, and fails the gate until it is renewed or removed.

Units
  %: growth of perplexity over the baseline's, within one language
  npb: nats per UTF-8 byte: loss added, per byte of text
  nps: nats per aligned sentence: loss added, per sentence that all languages share

Verdicts
  PASS: with 95% confidence the true value keeps its bound
  FAIL: with 95% confidence it is beyond the bound; an error fails the gate, a warning is reported
  INCONCLUSIVE: neither is sure, or a language has fewer than 30 sentences; the gate fails [policy.yaml:11]
  NOT-RUN: there are no figures; the gate fails

Exit codes
  0: the gate passed
  1: internal error, or too little memory or disk
  2: wrong usage, configuration or input
  3: the gate failed: an error bound is broken, or one is INCONCLUSIVE, or figures are missing, or a waiver expired
  4: the gate is inconclusive; only with --strict, without it that is 0
  5: baseline and candidate do not match
"""


@pytest.fixture
def policy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Policy:
    monkeypatch.chdir(tmp_path)
    Path("policy.yaml").write_text(TEXT, encoding="utf-8")
    return read_policy("policy.yaml")


def test_the_whole_text(policy: Policy) -> None:
    text = explain(policy, ["eng", "swh", "no", "tr"], DAY)
    assert policy.sha256 is not None
    assert text == EXPECTED.format(digest=policy.sha256[:12])
    assert text == explain(policy, ["eng", "swh", "no", "tr"], DAY)


def test_an_expired_waiver_is_told(policy: Policy) -> None:
    text = explain(policy, ["tr"], DAY + datetime.timedelta(days=1))
    assert (
        "tr (Turkish): degradation at most 5%, from default [policy.yaml:2]; its waiver (9%) expired after 2027-01-31"
        in text
    )
    assert "tr: EXPIRED, counted through 2027-01-31: 9% instead of 5%" in text


def test_without_a_day_no_waiver_is_called_active_or_expired(policy: Policy) -> None:
    text = explain(policy, ["tr"])
    assert "\nWaivers\n  tr: counts through 2027-01-31" in text
    assert "active" not in text
    assert "EXPIRED" not in text


def test_without_languages_the_default_is_told() -> None:
    assert "every language: degradation at most 5%, from default\n" in explain(
        Policy(default=Rule(max_degradation=parse_bound("5%"))), []
    )
    text = explain(Policy(max_regression=parse_bound("2%")), [])
    assert "every language: no bound on its degradation, unless a group or the language has one" in text
    assert "every language against the previous release: at most 2% worse\n" in text


def test_the_reference_has_no_bound_and_the_others_go_by_it() -> None:
    policy = Policy(default=Rule(max_degradation=parse_bound("5%")), relative_to="en", baseline_id="ab" * 32)
    text = explain(policy, ["en", "sw"])
    assert "en (English): no bound of its own: the others are held against it" in text
    assert "sw (Swahili): degradation beyond that of en at most 5%, from default" in text
    assert "Policy made in Python\nOnly the baseline with id abababababab... is accepted" in text


def test_a_language_without_a_bound_is_told() -> None:
    policy = Policy(
        groups=(Group(name="rtl", scripts=("Arab",), rule=Rule(max_degradation=parse_bound("1%"))),),
        tasks=(
            TaskRule(pattern="a_{language}", metric="acc", max_disparity=parse_bound("2pp"), severity="warn"),
            TaskRule(pattern="b_{language}", metric="wer", higher_is_better=False),
        ),
        not_run="warn",
    )
    text = explain(policy, ["fa", "sw"])
    assert "fa (Persian): degradation at most 1%, from group rtl; in rtl" in text
    assert "sw (Swahili): no bound on its degradation\n" in text
    assert "a_{language}, acc (higher is better): most minus least loss at most 2pp (only a warning)\n" in text
    assert "b_{language}, wer (lower is better): read, not bounded\n" in text
    assert "NOT-RUN: there are no figures; it is reported, and the gate can still pass\n" in text
    assert "3: the gate failed: an error bound is broken\n" in text
    assert "nps:" not in text


def test_an_unknown_language_is_refused(policy: Policy) -> None:
    with pytest.raises(SpecError, match="is not a known language"):
        explain(policy, ["xx"])
    with pytest.raises(SpecError, match="is given twice"):
        explain(policy, ["sw", "swh"])

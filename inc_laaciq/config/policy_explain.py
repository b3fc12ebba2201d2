"""A policy in plain words: what holds for which language and from where, who is let through, what a verdict does."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from inc_laaciq.config.bounds import Bound
from inc_laaciq.config.policy_rules import groups_of, is_in, resolve, waiver_for, where
from inc_laaciq.languages import canonical_languages, is_same, name

if TYPE_CHECKING:
    from inc_laaciq.config.policy import Policy, Waiver

_MEANS = {
    "%": "growth of perplexity over the baseline's, within one language",
    "npb": "nats per UTF-8 byte: loss added, per byte of text",
    "nps": "nats per aligned sentence: loss added, per sentence that all languages share",
    "pp": "percentage points of a task's accuracy",
}


def explain(policy: Policy, languages: Iterable[str], today: datetime.date | None = None) -> str:
    """Tell what a policy demands, in plain text.

    Parameters
    ----------
    policy : Policy
    languages : iterable of str
        Languages to tell it for, in any spelling; those that the policy requires are told too.
    today : date, optional
        Tells which waivers have expired; without it the text only says until when each one counts.

    Returns
    -------
    str
        Lines, the last one with a line feed; the same text for the same arguments.

    Raises
    ------
    SpecError
        If a language is not known or given twice.
    """
    tags = canonical_languages(languages)
    tags += tuple(tag for tag in policy.required_languages if not any(is_same(tag, given) for given in tags))
    sections = [
        ("", _head(policy)),
        ("Bounds on every language", _languages(policy, tags, today)),
        ("Bounds between languages and releases", _comparisons(policy, tags)),
        ("Tasks of other tools", _tasks(policy)),
        ("Waivers" + (f" as of {today.isoformat()}" if today else ""), _waivers(policy, today)),
        ("Units", _units(policy)),
        ("Verdicts", _verdicts(policy)),
        ("Exit codes", _exit_codes(policy)),
    ]
    lines: list[str] = []
    for title, content in sections:
        found = list(content)
        if not found:
            continue
        lines += ["", title] if title else []
        lines += [f"  {line}" for line in found] if title else found
    return "\n".join(lines) + "\n"


def _head(policy: Policy) -> Iterator[str]:
    digest = f" (sha256 {policy.sha256[:12]})" if policy.sha256 else ""
    yield f"Policy {policy.source or 'made in Python'}{digest}"
    if policy.baseline_id is not None:
        yield f"Only the baseline with id {policy.baseline_id[:12]}... is accepted; another one ends with exit code 5."


def _languages(policy: Policy, tags: tuple[str, ...], today: datetime.date | None) -> Iterator[str]:
    beyond = f" beyond that of {policy.relative_to}" if policy.relative_to else ""
    for tag in tags:
        label = f"{tag} ({name(tag)}): "
        rule, source = resolve(policy, tag)
        if policy.relative_to is not None and is_same(policy.relative_to, tag):
            text = "no bound of its own: the others are held against it"
        elif rule.max_degradation is None:
            text = "no bound on its degradation"
        else:
            text = (
                f"degradation{beyond} at most {rule.max_degradation}{_severity(rule.severity)}, "
                f"from {_from(policy, source, rule.line)}"
            )
        waiver = waiver_for(policy, tag)
        if waiver is not None:
            text += f"; {_waived(waiver, today)}"
        groups = [group.name for group in groups_of(policy, tag)]
        if groups:
            text += f"; in {', '.join(groups)}"
        if any(is_same(tag, required) for required in policy.required_languages):
            text += "; required"
        yield label + text
    if not tags:
        yield f"every language: {_default(policy, beyond)}"


def _default(policy: Policy, beyond: str) -> str:
    bound = policy.default.max_degradation
    if bound is None:
        return "no bound on its degradation, unless a group or the language has one"
    source = _from(policy, "default", policy.default.line)
    return f"degradation{beyond} at most {bound}{_severity(policy.default.severity)}, from {source}"


def _waived(waiver: Waiver, today: datetime.date | None) -> str:
    if today is not None and waiver.is_expired(today):
        return f"its waiver ({waiver.max_degradation}) expired after {waiver.expires.isoformat()}"
    return f"waived up to {waiver.max_degradation} until {waiver.expires.isoformat()}"


def _comparisons(policy: Policy, tags: tuple[str, ...]) -> Iterator[str]:
    severity = _severity(policy.default.severity)
    if policy.max_disparity is not None:
        place = _from(policy, "", policy.lines.get("max_disparity"))
        yield f"most degraded minus least degraded of all languages: at most {policy.max_disparity}{severity}{place}"
    for number, group in enumerate(policy.groups):
        if group.max_disparity is not None:
            members = [tag for tag in tags if is_in(group, tag)]
            among = f" ({', '.join(members)})" if members else ""
            place = _from(policy, "", policy.lines.get(f"groups[{number}].max_disparity"))
            own = _severity(group.rule.severity or policy.default.severity)
            yield (
                f"most minus least degraded within group {group.name}{among}: at most {group.max_disparity}{own}{place}"
            )
    if policy.max_regression is not None:
        place = _from(policy, "", policy.lines.get("max_regression"))
        yield f"every language against the previous release: at most {policy.max_regression} worse{severity}{place}"


def _tasks(policy: Policy) -> Iterator[str]:
    for task in policy.tasks:
        better = "higher" if task.higher_is_better else "lower"
        bounds = [
            text
            for text, bound in (
                (f"loss of any language at most {task.max_degradation}", task.max_degradation),
                (f"most minus least loss at most {task.max_disparity}", task.max_disparity),
            )
            if bound is not None
        ]
        bounded = f"{', '.join(bounds)}{_severity(task.severity)}" if bounds else "read, not bounded"
        yield f"{task.pattern}, {task.metric} ({better} is better): {bounded}{_from(policy, '', task.line)}"


def _waivers(policy: Policy, today: datetime.date | None) -> Iterator[str]:
    for waiver in policy.waivers:
        rule, _ = resolve(policy, waiver.language)
        state = "counts" if today is None else "EXPIRED, counted" if waiver.is_expired(today) else "active, counts"
        reason = " ".join(waiver.reason.split())
        yield (
            f"{waiver.language}: {state} through {waiver.expires.isoformat()}: {waiver.max_degradation} instead of "
            f"{rule.max_degradation}{_from(policy, '', waiver.line)}"
        )
        yield f"  owner {waiver.owner}, ticket {waiver.ticket}: {reason}"
    if policy.waivers:
        yield "A waived language stays in every table and every disparity."
        yield "An expired waiver widens nothing, and fails the gate until it is renewed or removed."


def _units(policy: Policy) -> Iterator[str]:
    rules = [policy.default, *(group.rule for group in policy.groups), *policy.languages.values()]
    bounds: list[Bound | None] = [rule.max_degradation for rule in rules]
    bounds += [policy.max_disparity, policy.max_regression, *(group.max_disparity for group in policy.groups)]
    bounds += [bound for task in policy.tasks for bound in (task.max_degradation, task.max_disparity)]
    used = {bound.unit for bound in bounds if bound is not None}
    for unit, meaning in _MEANS.items():
        if unit in used:
            yield f"{unit}: {meaning}"


def _verdicts(policy: Policy) -> Iterator[str]:
    percent = f"{100 * policy.confidence:.10g}%"
    unclear = "the gate fails" if policy.inconclusive == "fail" else "it is reported, and the gate can still pass"
    absent = "the gate fails" if policy.not_run == "fail" else "it is reported, and the gate can still pass"
    yield f"PASS: with {percent} confidence the true value keeps its bound"
    yield f"FAIL: with {percent} confidence it is beyond the bound; an error fails the gate, a warning is reported"
    yield (
        f"INCONCLUSIVE: neither is sure, or a language has fewer than {policy.min_sentences} sentences; {unclear}"
        f"{_from(policy, '', policy.lines.get('inconclusive'))}"
    )
    yield f"NOT-RUN: there are no figures; {absent}{_from(policy, '', policy.lines.get('not_run'))}"


def _exit_codes(policy: Policy) -> Iterator[str]:
    fails = ["an error bound is broken"]
    fails += ["one is INCONCLUSIVE"] if policy.inconclusive == "fail" else []
    fails += ["figures are missing"] if policy.not_run == "fail" else []
    fails += ["a waiver expired"] if policy.waivers else []
    yield "0: the gate passed"
    yield "1: internal error, or too little memory or disk"
    yield "2: wrong usage, configuration or input"
    yield f"3: the gate failed: {', or '.join(fails)}"
    yield "4: the gate is inconclusive; only with --strict, without it that is 0"
    yield "5: baseline and candidate do not match"


def _severity(severity: str | None) -> str:
    return " (only a warning)" if severity == "warn" else ""


def _from(policy: Policy, source: str, line: int | None) -> str:
    """Words for where a bound stands: after a name, or alone in brackets; nothing if nothing is known."""
    place = where(policy, line) if line is not None else ""
    if not source:
        return f" [{place}]" if place else ""
    return f"{source} [{place}]" if place else source

"""Which rule of a policy holds for a language, and which parts of a policy contradict each other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from inc_laaciq.config.policy_parts import Group, Rule, Waiver
from inc_laaciq.errors import SpecError
from inc_laaciq.languages import canonical, canonical_languages, family, is_same, name, script

if TYPE_CHECKING:
    from inc_laaciq.config.policy import Policy


def resolve(policy: Policy, tag: str) -> tuple[Rule, str]:
    """Rule that holds for a language, without regard to waivers.

    A language's own entry counts more than a group, a group more than the default, and a later group more than an
    earlier one.  This goes for bound and severity separately: what a level leaves open is as in the level above.

    Parameters
    ----------
    policy : Policy
    tag : str
        Any spelling of a language.

    Returns
    -------
    rule : Rule
        Its severity is never None, its `max_degradation` only if no level bounds the language.  Its line is that of
        the bound.
    source : str
        Where the bound comes from: `"default"`, `"group NAME"` or `"language TAG"`.

    Examples
    --------
    >>> from inc_laaciq.config.bounds import parse_bound
    >>> from inc_laaciq.config.policy import Policy
    >>> low = Group(name="low-resource", languages=("sw",), rule=Rule(max_degradation=parse_bound("3%")))
    >>> policy = Policy(default=Rule(max_degradation=parse_bound("5%")), groups=(low,))
    >>> rule, source = resolve(policy, "swh")
    >>> str(rule.max_degradation), rule.severity, source
    ('3%', 'error', 'group low-resource')
    """
    bound, severity, line, source = None, None, None, "default"
    for rule, level in levels(policy, tag):
        if rule.max_degradation is not None:
            bound, line, source = rule.max_degradation, rule.line, level
        severity = rule.severity or severity
    return Rule(max_degradation=bound, severity=severity or "error", line=line), source


def levels(policy: Policy, tag: str) -> Iterator[tuple[Rule, str]]:
    """Rules that a language is under, the weakest first, each with the words for where it stands."""
    yield policy.default, "default"
    for group in groups_of(policy, tag):
        yield group.rule, f"group {group.name}"
    for language, rule in policy.languages.items():
        if is_same(language, tag):
            yield rule, f"language {language}"


def groups_of(policy: Policy, tag: str) -> tuple[Group, ...]:
    """Groups that a language is in, in the order of the policy."""
    return tuple(group for group in policy.groups if is_in(group, tag))


def is_in(group: Group, tag: str) -> bool:
    """Whether a language is in a group: by its tag, by its script or by its family."""
    return (
        any(is_same(language, tag) for language in group.languages)
        or script(tag) in group.scripts
        or family(tag) in group.families
    )


def waiver_for(policy: Policy, tag: str) -> Waiver | None:
    """Waiver for a language, expired or not; None if there is none."""
    return next((waiver for waiver in policy.waivers if is_same(waiver.language, tag)), None)


def where(policy: Policy, line: int | None) -> str:
    """`FILE:LINE` of something in a policy, as far as it is known; empty for a policy made in Python."""
    if policy.source is None:
        return ""
    return policy.source if line is None else f"{policy.source}:{line}"


def check_agreement(policy: Policy) -> None:
    """Check that a policy bounds something and that its parts do not contradict each other.

    Raises
    ------
    SpecError
        About the first contradiction, with file and line if the policy has them.
    """
    for line, reason in _contradictions(policy):
        place = where(policy, line)
        raise SpecError(f"{place}: {reason}" if place else reason)


def _contradictions(policy: Policy) -> Iterator[tuple[int | None, str]]:
    """Lines and reasons of what is wrong between the parts."""
    if not _has_bound(policy):
        yield None, "a gate without a bound judges nothing. Give max_degradation or max_disparity, such as '10%'."
    yield from _repeated(policy)
    yield from _about_reference(policy)
    for waiver in policy.waivers:
        reason = _waiver_reason(policy, waiver)
        if reason:
            yield waiver.line, f"the waiver for {name(waiver.language)} ({waiver.language}) {reason}."


def _has_bound(policy: Policy) -> bool:
    bounds = [policy.max_disparity, policy.max_regression]
    bounds += [bound for task in policy.tasks for bound in (task.max_degradation, task.max_disparity)]
    bounds += [group.max_disparity for group in policy.groups]
    return _bounds_languages(policy) or any(bound is not None for bound in bounds)


def _bounds_languages(policy: Policy) -> bool:
    """Whether any level has a max_degradation."""
    rules = [policy.default, *(group.rule for group in policy.groups), *policy.languages.values()]
    return any(rule.max_degradation is not None for rule in rules)


def _repeated(policy: Policy) -> Iterator[tuple[int | None, str]]:
    """What is named twice."""
    seen: set[str] = set()
    for place, group in enumerate(policy.groups):
        if group.name in seen:
            line = policy.lines.get(f"groups[{place}].name", group.rule.line)
            yield line, f"two groups are named {group.name!r}. Give each its own name."
        seen.add(group.name)
    seen = set()
    for task in policy.tasks:
        if task.pattern in seen:
            yield task.line, f"two task rules have the pattern {task.pattern!r}. Keep one of them."
        seen.add(task.pattern)
    for place, waiver in enumerate(policy.waivers):
        try:
            canonical_languages([earlier.language for earlier in policy.waivers[: place + 1]])
        except SpecError as error:
            yield waiver.line, f"waivers: {error}"


def _about_reference(policy: Policy) -> Iterator[tuple[int | None, str]]:
    """What makes no sense beside `relative_to`."""
    reference = policy.relative_to
    if reference is None:
        return
    line = policy.lines.get("relative_to")
    if not _bounds_languages(policy):
        yield (
            line,
            (
                f"relative_to {reference!r} has no max_degradation to act on. Give one, or remove relative_to "
                "(max_disparity compares languages with each other by itself)."
            ),
        )
    trivial = f"is relative to {reference} itself, which is always 0. Remove it, or relative_to"
    for language, rule in policy.languages.items():
        if is_same(language, reference) and rule.max_degradation is not None:
            yield rule.line, f"max_degradation {rule.max_degradation} of language {language} {trivial}."
    for waiver in policy.waivers:
        if is_same(waiver.language, reference):
            yield waiver.line, f"the waiver for {waiver.language} {trivial}."


def _waiver_reason(policy: Policy, waiver: Waiver) -> str:
    """Say why a waiver is none; empty if it widens the bound of its language."""
    rule, source = resolve(policy, canonical(waiver.language))
    bound = rule.max_degradation
    if bound is None:
        return "has no bound to widen: no level of the policy gives the language a max_degradation"
    line = f" on line {rule.line}" if policy.source is not None and rule.line is not None else ""
    held = f"the bound that holds without it, {bound} ({source}{line})"
    if waiver.max_degradation.unit != bound.unit:
        return f"is in {waiver.max_degradation.unit}, but {held}, is in {bound.unit}. Write it in the same unit"
    if waiver.max_degradation.value <= bound.value:
        return f"allows {waiver.max_degradation}, which is no more than {held}. Widen the waiver or remove it"
    return ""

"""Which language a task of another tool is about: `belebele_swh_Latn` is Swahili by `belebele_{language}`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from inc_laaciq.config.policy import LANGUAGE_PLACEHOLDER, TaskRule
from inc_laaciq.errors import SpecError
from inc_laaciq.evaluation.foreign_files import shown
from inc_laaciq.languages import canonical, canonical_languages

_MAX_LISTED = 50


@dataclass(frozen=True, kw_only=True)
class TaskMatch:
    """One language of one pattern.

    Parameters
    ----------
    rule : TaskRule
    language : str
        Canonical tag.
    task : str
        What the pattern matched: a task, or a group of tasks.
    parts : tuple of str
        The tasks whose items count: the task itself, or all tasks of the group.
    """

    rule: TaskRule
    language: str
    task: str
    parts: tuple[str, ...]


def rule_label(rule: TaskRule) -> str:
    """How an error message calls a rule."""
    line = f" (line {rule.line})" if rule.line is not None else ""
    return f"tasks: {rule.pattern!r}{line}"


def match_tasks(
    tasks: Sequence[str], groups: Mapping[str, Sequence[str]], rules: Sequence[TaskRule], source: str
) -> tuple[TaskMatch, ...]:
    """Find the language of every task of a results file.

    Parameters
    ----------
    tasks : sequence of str
        Tasks that were run.
    groups : mapping of group -> sequence of str
        Tasks and groups that a group consists of.  A group that a pattern matches stands for all its tasks, as in
        `global_mmlu_full_{language}`; other groups are only summaries of tasks and are passed over.
    rules : sequence of TaskRule
    source : str
        The file, for messages.

    Raises
    ------
    SpecError
        If a task has no pattern or several, a pattern no task, or a pattern a language twice.
    """
    found = [
        TaskMatch(rule=rule, language=language, task=name, parts=_parts(name, groups, tasks))
        for rule in _checked(rules)
        for name in dict.fromkeys([*tasks, *groups])
        if (language := _language(name, rule)) is not None
    ]
    for rule in rules:
        _check_rule(rule, [match for match in found if match.rule is rule], tasks, source)
    _check_tasks(tasks, found, source)
    return tuple(sorted(found, key=lambda match: (match.rule.pattern, match.language)))


def _checked(rules: Sequence[TaskRule]) -> Sequence[TaskRule]:
    patterns = [rule.pattern for rule in rules]
    for rule in rules:
        if rule.pattern.count(LANGUAGE_PLACEHOLDER) != 1:
            raise SpecError(
                f"{rule_label(rule)}: a pattern holds {LANGUAGE_PLACEHOLDER} once, such as belebele_{{language}}."
            )
        if patterns.count(rule.pattern) > 1:
            raise SpecError(f"{rule_label(rule)}: the pattern is there twice. Keep one of them.")
    return rules


def _language(name: str, rule: TaskRule) -> str | None:
    """The language that a name has in the pattern's place; None if the name is of another form."""
    before, _, after = rule.pattern.partition(LANGUAGE_PLACEHOLDER)
    if not (name.startswith(before) and name.endswith(after) and len(name) > len(before) + len(after)):
        return None
    try:
        return canonical(_tag(name, rule))
    except SpecError:  # such as `anatomy` of mmlu_anatomy: another task, which no or another pattern maps
        return None


def _tag(name: str, rule: TaskRule) -> str:
    before, _, after = rule.pattern.partition(LANGUAGE_PLACEHOLDER)
    return name[len(before) : len(name) - len(after)]


def _parts(name: str, groups: Mapping[str, Sequence[str]], tasks: Sequence[str]) -> tuple[str, ...]:
    """The tasks of a group, of its groups, and so on; of a task, itself."""
    known, seen, waiting, found = set(tasks), {name}, [name], []
    while waiting:
        current = waiting.pop()
        if current in known:
            found.append(current)
        fresh = [part for part in groups.get(current, ()) if part not in seen]
        seen.update(fresh)
        waiting += fresh
    return tuple(sorted(found))


def _check_rule(rule: TaskRule, found: Sequence[TaskMatch], tasks: Sequence[str], source: str) -> None:
    if not found:
        raise SpecError(
            f"{source}: no task is named as {rule_label(rule)} says. The file has {_listed(tasks)}; in place of "
            f"{LANGUAGE_PLACEHOLDER} there must be a language tag such as 'sw' or 'swh_Latn'."
        )
    try:
        canonical_languages(_tag(match.task, rule) for match in found)
    except SpecError as error:
        raise SpecError(f"{source}: {rule_label(rule)}: {error}") from error
    empty = [match.task for match in found if not match.parts]
    if empty:
        raise SpecError(f"{source}: {rule_label(rule)} matches {_listed(empty)}, of which the file has no results.")


def _check_tasks(tasks: Sequence[str], found: Sequence[TaskMatch], source: str) -> None:
    covered: dict[str, list[TaskMatch]] = defaultdict(list)
    for match in found:
        for part in match.parts:
            covered[part].append(match)
    for task, matches in covered.items():
        if len(matches) > 1:
            by = " and ".join(f"{rule_label(match.rule)} as {shown(match.task)}" for match in matches)
            raise SpecError(f"{source}: the task {shown(task)} would count double: {by}. Change one of the patterns.")
    unknown = [task for task in tasks if task not in covered]
    if unknown:
        raise SpecError(
            f"{source}: no pattern of `tasks:` in the policy tells the language of {_listed(unknown)}. Add one for "
            f"each kind, such as belebele_{LANGUAGE_PLACEHOLDER}, or leave these tasks out of the evaluation."
        )


def _listed(names: Sequence[str]) -> str:
    text = ", ".join(shown(name) for name in names[:_MAX_LISTED])
    return text + (f" and {len(names) - _MAX_LISTED} more" if len(names) > _MAX_LISTED else "") or "no task"

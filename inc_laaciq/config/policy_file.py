"""Policies from yaml: a file of their own, or the `la_aciq.gate:` section of a configuration, with the same keys."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from inc_laaciq.config import checks
from inc_laaciq.config import policy_checks as check
from inc_laaciq.config.policy import CONSEQUENCES, SEVERITIES, Group, Policy, Rule, TaskRule, Waiver
from inc_laaciq.config.policy_explain import explain
from inc_laaciq.config.policy_plain import VERSION
from inc_laaciq.config.section import Keys, Section
from inc_laaciq.config.strict_yaml import Document, read_document
from inc_laaciq.config.tags import note_language, read_language_keys, read_languages
from inc_laaciq.config.texts import resolve_path
from inc_laaciq.errors import SpecError

__all__ = ["explain", "policy_section", "read_policy"]

_POLICY = (
    "max_degradation",
    "max_disparity",
    "relative_to",
    "max_regression",
    "severity",
    "confidence",
    "min_sentences",
    "inconclusive",
    "not_run",
    "baseline_id",
    "required_languages",
    "groups",
    "languages",
    "waivers",
    "tasks",
)
FILE_KEYS = Keys(
    used=("version", *_POLICY), refused={"policy": "a policy file holds the policy itself; it names no other file"}
)
SECTION_KEYS = Keys(
    used=("policy", *_POLICY), refused={"version": "it belongs into a policy file; this section has no version"}
)
GROUP_KEYS = Keys(used=("name", "languages", "scripts", "families", "max_degradation", "max_disparity", "severity"))
LANGUAGE_KEYS = Keys(used=("max_degradation", "severity"))
WAIVER_KEYS = Keys(used=("language", "max_degradation", "owner", "reason", "ticket", "expires"))
TASK_KEYS = Keys(used=("metric", "higher_is_better", "max_degradation", "max_disparity", "severity"))


def read_policy(path: Path | str) -> Policy:
    """Read a policy file.

    Parameters
    ----------
    path : path
        YAML with `version: 1` and the keys that `yaml/gate_policy.yaml` explains.

    Returns
    -------
    Policy
        Its `source` is the path as given, its `sha256` that of the file's text as UTF-8 without a byte order mark.

    Raises
    ------
    SpecError
        About the first thing that is wrong, with file and line.
    """
    document = read_document(path)
    section = Section(document, FILE_KEYS)
    section.require("version", _version, f"{VERSION}, at the top of a policy file")
    digest = hashlib.sha256(document.text.encode()).hexdigest()
    return _policy(section, source=str(path), sha256=digest, notes=section.notes)


def policy_section(section: Section, key: str, folder: Path) -> Policy:
    """Read a policy that is written in a configuration, or that a configuration names with `policy: FILE`.

    Parameters
    ----------
    section : Section
        What holds the key, such as `la_aciq`; it gets the notes.
    key : str
    folder : path
        What the path of a policy file is relative to.

    Raises
    ------
    SpecError
        About the first thing that is wrong, with file and line.
    """
    gate = section.child(key, SECTION_KEYS, required=True)
    if "policy" in gate:
        for other in gate.data:
            if other != "policy":
                raise gate.conflict(other, gate, "policy", "keep the file, and write the key there")
        policy = read_policy(resolve_path(gate.take("policy", checks.text, ""), folder))
        section.notes.extend((section.line_of(key) or 0, note) for note in policy.notes)
        return policy
    if not gate.data:
        raise section.error(
            key,
            "has no bound, so it judges nothing. Write max_degradation: 10%, or remove the section.",
            with_value=False,
        )
    return _policy(gate, source=_label(gate.document), sha256=None, notes=[])


def _label(document: Document) -> str | None:
    """Path of the file; None for settings from Python."""
    return document.label if document.lines else None


def _version(value: object) -> int:
    if value != VERSION or isinstance(value, bool):
        raise SpecError(f"is not a version that this release reads. Allowed: {VERSION}.")
    return VERSION


def _policy(gate: Section, *, source: str | None, sha256: str | None, notes: list[tuple[int, str]]) -> Policy:
    """Policy of a mapping; contradictions between its parts are found by `Policy` itself."""
    settings: dict[str, Any] = {
        "default": _rule(gate),
        "max_disparity": gate.take("max_disparity", check.parse_likelihood_bound, None),
        "max_regression": gate.take("max_regression", check.parse_likelihood_bound, None),
        "relative_to": note_language(gate, "relative_to", gate.data["relative_to"]) if "relative_to" in gate else None,
        "confidence": gate.take("confidence", check.parse_confidence, Policy.confidence),
        "min_sentences": gate.take("min_sentences", check.min_sentences, Policy.min_sentences),
        "inconclusive": gate.take("inconclusive", checks.word(CONSEQUENCES), Policy.inconclusive),
        "not_run": gate.take("not_run", checks.word(CONSEQUENCES), Policy.not_run),
        "baseline_id": gate.take("baseline_id", check.baseline_id, None),
        "required_languages": read_languages(gate, "required_languages") if "required_languages" in gate else (),
        "groups": tuple(_group(item) for item in _items(gate, "groups", GROUP_KEYS)),
        "languages": _languages(gate),
        "waivers": tuple(_waiver(item) for item in _items(gate, "waivers", WAIVER_KEYS)),
        "tasks": _tasks(gate),
    }
    return Policy(
        **settings,
        source=source,
        sha256=sha256,
        lines=_lines(gate),
        notes=tuple(text for _, text in sorted(notes, key=lambda note: note[0])),
    )


def _not_empty(section: Section, key: str) -> Section:
    """Open a mapping with keys of any name, at least one."""
    inner = section.child(key, None, required=True)
    if not inner.data:
        raise section.error(key, "is empty. Remove the key if there is nothing to say.", with_value=False)
    return inner


def _rule(section: Section) -> Rule:
    """Rule of a mapping, its line that of the bound, or else of the mapping."""
    return Rule(
        max_degradation=section.take("max_degradation", check.parse_likelihood_bound, None),
        severity=section.take("severity", checks.word(SEVERITIES), None),
        line=section.line_of("max_degradation"),
    )


def _items(section: Section, key: str, keys: Keys) -> Iterator[Section]:
    """Mappings of a list."""
    if key not in section:
        return
    given = section.data[key]
    if not isinstance(given, list) or not given:
        raise section.error(key, "must be a list with something in it. Remove the key if there is nothing to list.")
    for place in range(len(given)):
        yield section.item(key, place, keys)


def _group(section: Section) -> Group:
    name = section.require("name", check.one_line, "low-resource")
    if not any(key in section for key in ("languages", "scripts", "families")):
        raise section.error("name", "selects no language. Write languages, scripts or families beside it.")
    languages = read_languages(section, "languages") if "languages" in section else ()
    scripts = _names(section, "scripts", check.script)
    families = _names(section, "families", check.family)
    max_disparity = section.take("max_disparity", check.parse_likelihood_bound, None)
    if max_disparity is not None and len(languages) == 1 and not scripts and not families:
        raise section.error("max_disparity", "needs two languages to compare, and the group has one.")
    return Group(
        name=name,
        languages=languages,
        scripts=scripts,
        families=families,
        rule=_rule(section),
        max_disparity=max_disparity,
    )


def _names(section: Section, key: str, check_name: Callable[[object], str]) -> tuple[str, ...]:
    """Read a list of scripts or families."""
    if key not in section:
        return ()
    given = section.data[key]
    if not isinstance(given, list) or not given:
        raise section.error(key, "must be a list with something in it.")
    found: list[str] = []
    for place, value in enumerate(given):
        try:
            found.append(check_name(value))
        except SpecError as error:
            raise section.error((key, place), str(error)) from None
        if found[-1] in found[:-1]:
            raise section.error((key, place), f"{checks.shown(value)} is listed twice.")
    return tuple(found)


def _languages(gate: Section) -> dict[str, Rule]:
    """Rules by language; a bound alone is short for a mapping with a max_degradation."""
    if "languages" not in gate:
        return {}
    section = _not_empty(gate, "languages")
    rules = {}
    for tag, written in read_language_keys(gate, "languages", section).items():
        if isinstance(section.data[written], dict):
            rule = _rule(section.child(written, LANGUAGE_KEYS))
            if rule.is_empty:
                raise section.error(written, "says nothing. Write max_degradation or severity.")
            rules[tag] = rule
        else:
            bound = section.take(written, check.parse_likelihood_bound, None)
            rules[tag] = Rule(max_degradation=bound, line=section.line_of(written))
    return rules


def _waiver(section: Section) -> Waiver:
    return Waiver(
        language=note_language(section, "language", section.require("language", lambda tag: tag, "tr")),
        max_degradation=section.require("max_degradation", check.parse_likelihood_bound, "9%"),
        owner=section.require("owner", check.one_line, "someone@example.org"),
        reason=section.require("reason", checks.text, "'the old release has the same loss'"),
        ticket=section.require("ticket", check.one_line, "QUANT-12"),
        expires=section.require("expires", check.parse_day, "2027-01-31"),
        line=section.line_of("max_degradation"),
    )


def _tasks(gate: Section) -> tuple[TaskRule, ...]:
    if "tasks" not in gate:
        return ()
    section = _not_empty(gate, "tasks")
    return tuple(_task(section, pattern) for pattern in section.data)


def _task(section: Section, pattern: str) -> TaskRule:
    try:
        check.task_pattern(pattern)
    except SpecError as error:
        raise section.error(pattern, str(error), with_value=False) from None
    task = section.child(pattern, TASK_KEYS)
    return TaskRule(
        pattern=pattern,
        metric=task.require("metric", check.metric, "acc"),
        higher_is_better=task.take("higher_is_better", checks.boolean, TaskRule.higher_is_better),
        max_degradation=task.take("max_degradation", check.parse_task_bound, None),
        max_disparity=task.take("max_disparity", check.parse_task_bound, None),
        severity=task.take("severity", checks.word(SEVERITIES), TaskRule.severity),
        line=section.line_of(pattern),
    )


def _lines(gate: Section) -> dict[str, int]:
    """Lines of the keys below a section, by their path in it."""
    prefix = f"{gate.path}." if gate.path else ""
    return {path.removeprefix(prefix): line for path, line in gate.document.lines.items() if path.startswith(prefix)}

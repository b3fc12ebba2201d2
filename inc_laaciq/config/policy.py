"""What a gate demands: bounds for every language, exceptions for groups and languages, waivers, and what doubt costs.

The defaults of a policy are the defaults here and nowhere else.  `policy_file` reads a policy from yaml, and
`policy_rules` tells which rule holds for a language.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from inc_laaciq.config import checks
from inc_laaciq.config import policy_checks as check
from inc_laaciq.config.bounds import Bound
from inc_laaciq.config.checks import check_fields
from inc_laaciq.config.policy_checks import LANGUAGE_PLACEHOLDER
from inc_laaciq.config.policy_parts import SEVERITIES, Group, Rule, Severity, TaskRule, Waiver
from inc_laaciq.config.policy_rules import check_agreement
from inc_laaciq.errors import SpecError
from inc_laaciq.languages import canonical_languages

Consequence = Literal["fail", "warn"]

CONSEQUENCES: tuple[Consequence, ...] = get_args(Consequence)

__all__ = [
    "CONSEQUENCES",
    "LANGUAGE_PLACEHOLDER",
    "SEVERITIES",
    "Consequence",
    "Group",
    "Policy",
    "Rule",
    "Severity",
    "TaskRule",
    "Waiver",
]


@dataclass(frozen=True, kw_only=True)
class Policy:
    """A whole policy.

    Two of them are equal if they demand the same; `source`, `sha256`, `lines` and `notes`, and every `line`, only tell
    where that was said.

    Parameters
    ----------
    default : Rule
        For every language.
    max_disparity : Bound or None
        Largest degradation minus smallest, over all languages.
    relative_to : str or None
        If given, `max_degradation` bounds the degradation beyond that of this language.
    max_regression : Bound or None
        Of every language against the previous release.
    groups : tuple of Group
        Of several that a language is in, the last one that says something counts.
    languages : mapping of language -> Rule
        Counts more than a group.
    required_languages : tuple of str
        Languages that must have figures, whatever the results list.
    waivers : tuple of Waiver
    tasks : tuple of TaskRule
    confidence : float
        Of a one-sided bound; 0.5 < confidence < 1.
    min_sentences : int
        With fewer, a language cannot pass: it is INCONCLUSIVE unless it certainly fails.
    inconclusive, not_run : "fail" or "warn"
        What a language without a clear verdict, or without figures, does to the verdict of the gate.
    baseline_id : str or None
        Content hash of the only baseline that is accepted.
    source : str or None
        Path of the file that holds the policy: a policy file, or a configuration with a `la_aciq.gate:` section.
    sha256 : str or None
        Hash of the policy file; None for a section of a configuration.
    lines : mapping of str to int
        Line of every key in `source`, by its path in the policy, such as `max_disparity` or `groups[0].max_disparity`.
    notes : tuple of str
        What the reader of the policy should know, such as aliases that were resolved.

    Raises
    ------
    SpecError
        If a value is out of range, if there is no bound at all, or if two parts contradict each other.
    """

    default: Rule = field(default_factory=Rule)
    max_disparity: Bound | None = None
    relative_to: str | None = None
    max_regression: Bound | None = None
    groups: tuple[Group, ...] = ()
    languages: Mapping[str, Rule] = field(default_factory=dict)
    required_languages: tuple[str, ...] = ()
    waivers: tuple[Waiver, ...] = ()
    tasks: tuple[TaskRule, ...] = ()
    confidence: float = 0.95
    min_sentences: int = 30
    inconclusive: Consequence = "warn"
    not_run: Consequence = "fail"
    baseline_id: str | None = None
    source: str | None = field(default=None, compare=False)
    sha256: str | None = field(default=None, compare=False)
    lines: Mapping[str, int] = field(default_factory=dict, compare=False, repr=False)
    notes: tuple[str, ...] = field(default=(), compare=False, repr=False)

    def __post_init__(self) -> None:
        check_fields(
            self,
            default=check.instance(Rule),
            max_disparity=check.optional(check.likelihood_bound),
            relative_to=check.optional(check.canonical_tag),
            max_regression=check.optional(check.likelihood_bound),
            groups=check.tuple_of(check.instance(Group)),
            languages=_check_languages,
            required_languages=check.tuple_of(check.canonical_tag),
            waivers=check.tuple_of(check.instance(Waiver)),
            tasks=check.tuple_of(check.instance(TaskRule)),
            confidence=check.confidence,
            min_sentences=check.min_sentences,
            inconclusive=checks.word(CONSEQUENCES),
            not_run=checks.word(CONSEQUENCES),
            baseline_id=check.optional(check.baseline_id),
        )
        canonical_languages(self.required_languages)
        check_agreement(self)


def _check_languages(rules: Any) -> None:
    check.instance(Mapping)(rules)
    for tag, rule in rules.items():
        check.canonical_tag(tag)
        check.instance(Rule)(rule)
        if rule.is_empty:
            raise SpecError(f"says nothing about {tag!r}. Give max_degradation or severity.")
    canonical_languages(rules)

"""The parts of a policy: rules of one level, groups of languages, waivers, and how tasks are read.

`policy` puts them together; import them from there.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass, field
from typing import Literal, get_args

from inc_laaciq.config import checks
from inc_laaciq.config import policy_checks as check
from inc_laaciq.config.bounds import Bound
from inc_laaciq.config.checks import check_fields
from inc_laaciq.errors import SpecError
from inc_laaciq.languages import canonical_languages

Severity = Literal["error", "warn"]

SEVERITIES: tuple[Severity, ...] = get_args(Severity)


@dataclass(frozen=True, kw_only=True)
class Rule:
    """Bounds of one level of a policy: of all languages, of a group, or of one language.

    Parameters
    ----------
    max_degradation : Bound or None
        Of every language it is about, in `%`, `npb` or `nps`; None leaves what the level above says.
    severity : "error", "warn" or None
        Whether a broken bound fails the gate or is only reported; None as above, and `error` at the top.
    line : int or None
        Where the policy file says so; None without a file.
    """

    max_degradation: Bound | None = None
    severity: Severity | None = None
    line: int | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        check_fields(
            self,
            max_degradation=check.optional(check.likelihood_bound),
            severity=check.optional(checks.word(SEVERITIES)),
        )

    @property
    def is_empty(self) -> bool:
        """Whether it leaves everything to the level above."""
        return self.max_degradation is None and self.severity is None


@dataclass(frozen=True, kw_only=True)
class Group:
    """Languages that share a rule: those listed, those in one of the scripts, and those of one of the families.

    Parameters
    ----------
    name : str
    languages : tuple of str
        Canonical tags.
    scripts : tuple of str
        ISO 15924 codes: every language that is likely written in one of them.
    families : tuple of str
        Names as in `languages.family`.
    rule : Rule
        Empty for a group that only labels its languages in the report.
    max_disparity : Bound or None
        Between the languages of the group.
    """

    name: str
    languages: tuple[str, ...] = ()
    scripts: tuple[str, ...] = ()
    families: tuple[str, ...] = ()
    rule: Rule = field(default_factory=Rule)
    max_disparity: Bound | None = None

    def __post_init__(self) -> None:
        check_fields(
            self,
            name=check.one_line,
            languages=check.tuple_of(check.canonical_tag),
            scripts=check.tuple_of(check.script),
            families=check.tuple_of(check.family),
            rule=check.instance(Rule),
            max_disparity=check.optional(check.likelihood_bound),
        )
        canonical_languages(self.languages)
        if not (self.languages or self.scripts or self.families):
            raise SpecError(f"group {self.name!r} selects no language. Give languages, scripts or families.")
        if self.max_disparity is not None and len(self.languages) == 1 and not (self.scripts or self.families):
            raise SpecError(
                f"group {self.name!r} has a max_disparity and one language: a difference needs two. Add a language, "
                "or use max_degradation."
            )


@dataclass(frozen=True, kw_only=True)
class Waiver:
    """A language that is let through with a wider bound, for a stated reason, until a day.

    Parameters
    ----------
    language : str
        Canonical tag.
    max_degradation : Bound
        What still holds; a waiver never lifts the bound altogether.
    owner, reason, ticket : str
        Not empty.
    expires : date
        The last day on which it counts.
    line : int or None
    """

    language: str
    max_degradation: Bound
    owner: str
    reason: str
    ticket: str
    expires: datetime.date
    line: int | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        check_fields(
            self,
            language=check.canonical_tag,
            max_degradation=check.likelihood_bound,
            owner=check.one_line,
            reason=checks.text,
            ticket=check.one_line,
            expires=check.day,
        )

    def is_expired(self, today: datetime.date) -> bool:
        """Whether it has ceased to count.

        Examples
        --------
        >>> waiver = Waiver(language="tr", max_degradation=Bound(value=0.09, unit="%"), owner="a", reason="b",
        ...                 ticket="c", expires=datetime.date(2027, 1, 31))
        >>> waiver.is_expired(datetime.date(2027, 1, 31)), waiver.is_expired(datetime.date(2027, 2, 1))
        (False, True)
        """
        return today > self.expires


@dataclass(frozen=True, kw_only=True)
class TaskRule:
    """How the tasks of another evaluation tool are read and bounded.

    Parameters
    ----------
    pattern : str
        Name of a task with `{language}` in place of the language, such as `belebele_{language}`.
    metric : str
        Such as `acc` or `acc_norm`, without the name of a filter.
    higher_is_better : bool
    max_degradation, max_disparity : Bound or None
        In percentage points (`2pp`).
    severity : "error" or "warn"
    line : int or None
    """

    pattern: str
    metric: str
    higher_is_better: bool = True
    max_degradation: Bound | None = None
    max_disparity: Bound | None = None
    severity: Severity = "error"
    line: int | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        check_fields(
            self,
            pattern=check.task_pattern,
            metric=check.metric,
            higher_is_better=checks.boolean,
            max_degradation=check.optional(check.task_bound),
            max_disparity=check.optional(check.task_bound),
            severity=checks.word(SEVERITIES),
        )

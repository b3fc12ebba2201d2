"""A bound held against what was measured: one check, its verdict, and the sentence that says why.

PASS needs certainty that the bound is kept, FAIL certainty that it is broken; what lies between is INCONCLUSIVE and
says how much more text would decide it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Literal

from inc_laaciq.config.bounds import Bound, format_bound
from inc_laaciq.config.policy import Severity, Waiver
from inc_laaciq.evaluation import proportions
from inc_laaciq.evaluation.comparison import Change
from inc_laaciq.evaluation.statistics import (
    MIN_EFFECTIVE,
    Bounds,
    as_relative,
    detectable,
    language_bounds,
    p_above,
    relative_bounds,
)

Verdict = Literal["PASS", "FAIL", "INCONCLUSIVE", "NOT-RUN"]


@dataclass(frozen=True, kw_only=True)
class Check:
    """One bound and what became of it.

    Parameters
    ----------
    kind : str
        `max_degradation`, `max_disparity`, `max_regression`, `presence` or `waiver`; with `:TASK` for a task.
    verdict : "PASS", "FAIL", "INCONCLUSIVE" or "NOT-RUN"
    reason : str
        Why, without the verdict.
    language, group, task : str or None
        What it is about; None for all.
    limit : Bound or None
    bounds : Bounds or None
        Value and one-sided bounds in the unit of the limit; lower = upper = value where no interval is known.
    p_value : float or None
        Of the hypothesis that the limit is kept, adjusted where several languages share the bound.
    detectable : float or None
        Smallest limit at which a model that harms nobody passes in all languages with 80 % power, in the unit of the
        limit.
    severity : "error" or "warn"
    source : str
        Level of the policy that set the bound.
    line : int or None
        Of the policy file.
    waiver : Waiver or None
        In force for this check.
    lacks_text : bool
        No model could pass it on so little text.
    """

    kind: str
    verdict: Verdict
    reason: str
    language: str | None = None
    group: str | None = None
    task: str | None = None
    limit: Bound | None = None
    bounds: Bounds | None = None
    p_value: float | None = None
    detectable: float | None = None
    severity: Severity = "error"
    source: str = "default"
    line: int | None = None
    waiver: Waiver | None = None
    lacks_text: bool = False

    @property
    def is_warning(self) -> bool:
        """Whether it is reported and cannot fail the gate."""
        return self.severity == "warn"

    @property
    def is_sufficient(self) -> bool | None:
        """Whether the text can tell as little as the limit; None where that is not known."""
        if self.limit is None or self.detectable is None:
            return None
        return self.detectable <= self.limit.value

    @property
    def sentence(self) -> str:
        """Verdict, language and reason; a broken bound of severity `warn` reads WARN."""
        verdict = "WARN" if self.is_warning and self.verdict != "PASS" else self.verdict
        about = self.language or (f"group {self.group}" if self.group else "")
        return f"{verdict} {about}: {self.reason}" if about else f"{verdict}: {self.reason}"

    def as_dict(self) -> dict[str, Any]:
        """Entry of the gate document."""
        waiver = self.waiver
        about = self.language or self.group or "all"
        return {
            "id": f"{self.kind}/{about}",
            "kind": self.kind,
            "language": self.language,
            "group": self.group,
            "task": self.task,
            "limit": None if self.limit is None else format_bound(self.limit),
            "limit_value": None if self.limit is None else self.limit.value,
            "unit": None if self.limit is None else self.limit.unit,
            "value": _finite(self.bounds.value if self.bounds else None),
            "lower": _finite(self.bounds.lower if self.bounds else None),
            "upper": _finite(self.bounds.upper if self.bounds else None),
            "p_value": _finite(self.p_value),
            "detectable": _finite(self.detectable),
            "verdict": self.verdict,
            "severity": self.severity,
            "reason": self.sentence,
            "source": self.source,
            "line": self.line,
            "waiver": None if waiver is None else waiver_dict(waiver),
            "lacks_text": self.lacks_text,
        }


def waiver_dict(waiver: Waiver) -> dict[str, Any]:
    """A waiver as plain data."""
    return {
        "owner": waiver.owner,
        "reason": waiver.reason,
        "ticket": waiver.ticket,
        "expires": waiver.expires.isoformat(),
        "line": waiver.line,
    }


def check_language(
    check: Check,
    change: Change,
    *,
    confidence: float,
    min_sentences: int,
    of: str = "relative perplexity",
    languages: int = 1,
) -> Check:
    """Hold one language's change against the limit of a check that names language, limit and origin.

    The verdict FAIL is that of the language by itself; `name_failures` corrects it for several languages.

    Parameters
    ----------
    check : Check
        With a limit.
    change : Change
    confidence : float
        Of a one-sided bound.
    min_sentences : int
        With fewer, or with fewer than 10 effective documents, the check cannot pass.
    of : str
        What the value is, for the reason.
    languages : int
        How many have to pass together, for `detectable`.
    """
    limit = _limit(check)
    if change.is_point:
        kept = change.value <= limit.value
        return replace(
            check,
            verdict="PASS" if kept else "FAIL",
            bounds=Bounds(value=change.value, lower=change.value, upper=change.value),
            reason=f"{of} {number(change.value, limit.unit)} {'keeps' if kept else 'is above'} {check.kind} {limit} "
            "(one value, no interval is known)",
        )
    found = _estimate(change, limit.value, confidence, languages)
    if found is None:
        return replace(
            check,
            verdict="INCONCLUSIVE",
            lacks_text=True,
            bounds=None,
            reason=f"{of} {number(change.value, limit.unit)} rests on a single sentence, so no interval is known; at "
            f"least {min_sentences} are needed",
        )
    bounds, p_value, least = found
    if change.n < min_sentences:
        enough = f"rests on {change.n} {_items(change)}, and at least {min_sentences} are needed"
    elif change.counts is None and change.n_effective < MIN_EFFECTIVE:
        enough = (
            f"rests on text that is worth {change.n_effective:.1f} documents of equal size, and at least "
            f"{MIN_EFFECTIVE:.0f} are needed: add documents"
        )
    else:
        enough = ""
    described = f"{of} {interval(bounds, limit.unit)}"
    detected = replace(check, bounds=bounds, p_value=p_value, detectable=least)
    # Little text can show harm that is large enough; it can never show that there is none.
    if bounds.value > limit.value and p_value < 1 - confidence:
        return replace(detected, verdict="FAIL", reason=f"{described} is above {check.kind} {limit}")
    if enough:
        return replace(detected, verdict="INCONCLUSIVE", reason=f"{described} {enough}", lacks_text=True)
    if bounds.upper <= limit.value:
        return replace(detected, verdict="PASS", reason=f"{described} keeps {check.kind} {limit}")
    return replace(
        detected,
        verdict="INCONCLUSIVE",
        reason=f"{described} may be above {check.kind} {limit}{_more(change, bounds, limit)}",
    )


def name_failures(checks: list[Check], adjusted: dict[int, float], confidence: float) -> list[Check]:
    """Take back those failures that chance alone would produce among so many languages.

    Parameters
    ----------
    checks : list of Check
    adjusted : dict of index -> p-value after Holm's correction
    confidence : float
    """
    found = []
    for number_, check in enumerate(checks):
        if number_ in adjusted:
            check = replace(check, p_value=adjusted[number_])
            if check.verdict == "FAIL" and adjusted[number_] >= 1 - confidence:
                check = replace(
                    check,
                    verdict="INCONCLUSIVE",
                    reason=f"{check.reason}, which among {len(adjusted)} languages can be chance "
                    f"(p = {adjusted[number_]:.2g} after Holm's correction)",
                )
        found.append(check)
    return found


def check_spread(
    check: Check, bounds: Bounds, *, worst: str, best: str, n_languages: int, is_point: bool, why: str
) -> Check:
    """Hold a disparity against the limit of a check.

    Parameters
    ----------
    check : Check
        With a limit.
    bounds : Bounds
    worst, best : str
        Languages with the largest and smallest value.
    n_languages : int
    is_point : bool
        No interval is known.
    why : str
        Why no verdict can be certain; empty if one can.
    """
    limit = _limit(check)
    known = number(bounds.value, limit.unit) if is_point else interval(bounds, limit.unit)
    described = f"disparity {known} of {n_languages} languages, between {worst} and {best},"
    if is_point:
        described += " (single values, no interval is known)"
    check = replace(check, bounds=bounds)
    if bounds.lower > limit.value:
        return replace(check, verdict="FAIL", reason=f"{described} is above {check.kind} {limit}")
    if why:
        return replace(check, verdict="INCONCLUSIVE", reason=f"{described} {why}", lacks_text=True)
    if bounds.upper <= limit.value:
        return replace(check, verdict="PASS", reason=f"{described} keeps {check.kind} {limit}")
    return replace(check, verdict="INCONCLUSIVE", reason=f"{described} may be above {check.kind} {limit}")


def number(value: float, unit: str) -> str:
    """A value in a bound's unit, with six digits, so that one hardly above its bound does not look equal to it."""
    return f"{100 * value:+.6g}{unit}" if unit in ("%", "pp") else f"{value:+.6g}{unit}"


def interval(bounds: Bounds, unit: str) -> str:
    """A value with its one-sided bounds."""
    return f"{number(bounds.value, unit)} [{number(bounds.lower, unit)}, {number(bounds.upper, unit)}]"


def _estimate(
    change: Change, margin: float, confidence: float, languages: int
) -> tuple[Bounds, float, float | None] | None:
    """Bounds, p-value of keeping the margin, and the smallest detectable margin; None without an interval."""
    if change.counts is not None:
        harmed, helped = change.counts
        bounds = proportions.accuracy_bounds(harmed, helped, change.n, confidence)
        least = bounds.upper - bounds.value + proportions.noise(harmed, helped, change.n, languages)
        return bounds, proportions.accuracy_p_above(harmed, helped, change.n, margin), least
    known = change.logarithm or change.sample
    if change.sample is None or known is None or not math.isfinite(known.standard_error):
        return None
    if change.logarithm is not None:
        return (
            relative_bounds(change.logarithm, confidence),
            p_above(change.logarithm, math.log1p(margin)),
            as_relative(detectable(change.logarithm, confidence, languages)),
        )
    return (
        language_bounds(change.sample, confidence),
        p_above(change.sample, margin),
        detectable(change.sample, confidence, languages),
    )


def _more(change: Change, bounds: Bounds, limit: Bound) -> str:
    """How much text would decide, if the value stays what it is."""
    distance = abs(limit.value - bounds.value)
    if distance <= 0 or not math.isfinite(bounds.upper):
        return ""
    factor = ((bounds.upper - bounds.value) / distance) ** 2
    needed = change.n * factor
    return f"; about {math.ceil(needed / 10) * 10} {_items(change)} like these would decide" if needed < 1e7 else ""


def _items(change: Change) -> str:
    """What the sample is made of."""
    return "items" if change.counts is not None else "sentences"


def _limit(check: Check) -> Bound:
    if check.limit is None:
        raise ValueError(f"check {check.kind} has no limit")
    return check.limit


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None

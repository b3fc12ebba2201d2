"""The gate: results of two models and a policy come in, a verdict with its reasons goes out as one document.

It fails closed.  What was asked for and has no usable figures is NOT-RUN and never a pass; PASS needs certainty for
every language; a verdict in between is INCONCLUSIVE and says what would decide it.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from inc_laaciq.config.bounds import Bound
from inc_laaciq.config.policy import Policy, TaskRule
from inc_laaciq.config.policy_rules import is_in, resolve, waiver_for
from inc_laaciq.evaluation import proportions
from inc_laaciq.evaluation.checks import Check, Verdict, check_language, check_spread, name_failures, waiver_dict
from inc_laaciq.evaluation.comparison import Change, Comparison, Unit
from inc_laaciq.evaluation.match import check_match
from inc_laaciq.evaluation.measured import Evaluation
from inc_laaciq.evaluation.resampling import DRAWS, Resampler
from inc_laaciq.evaluation.statistics import MIN_EFFECTIVE, Bounds, disparity_bounds, holm
from inc_laaciq.evaluation.summary import VERDICTS, gate_document
from inc_laaciq.languages import is_same

EXIT_PASSED, EXIT_FAILED, EXIT_INCONCLUSIVE = 0, 3, 4

_VALUES: dict[str, str] = {
    "%": "relative perplexity",
    "npb": "degradation",
    "nps": "degradation a sentence",
    "pp": "loss of accuracy",
}


def judge(
    candidate: Evaluation,
    baseline: Evaluation,
    policy: Policy | None,
    *,
    previous: Evaluation | None = None,
    today: datetime.date | None = None,
    seed: int = 0,
    draws: int = DRAWS,
) -> dict[str, Any]:
    """Judge a candidate against a baseline by a policy.

    Parameters
    ----------
    candidate, baseline : Evaluation
    policy : Policy or None
        None judges nothing: the verdict is NOT-RUN, and the figures are there.
    previous : Evaluation, optional
        The last release, for `max_regression`.
    today : date, optional
        By which waivers expire; default today's date, UTC.
    seed, draws : int
        Of the bootstrap.

    Returns
    -------
    dict
        The gate document, schema `inc-laaciq/gate/1` (schemas/gate.schema.json), without `meta`.

    Raises
    ------
    MismatchError
        If they were not measured on the same things.
    SpecError
        If a bound's unit cannot be had from these results.

    Notes
    -----
    Making any language worse, sentence by sentence, never turns a failed `max_degradation` into a pass: a failure has
    its value above the limit and a pass below.  Of `max_disparity` no such rule can hold, because making the best
    language worse narrows the difference, nor for the language that `relative_to` names.
    """
    resampler = Resampler(draws, seed)
    check_match(candidate, baseline, baseline_id=policy.baseline_id if policy else None)
    comparison = Comparison(candidate, baseline, resampler)
    judged: list[Check] = []
    waivers: list[dict[str, Any]] = []
    if policy is not None:
        day = today or datetime.datetime.now(datetime.timezone.utc).date()
        gate = _Gate(policy, comparison, day)
        judged = gate.checks(None if previous is None else _previous(candidate, previous, resampler))
        waivers = gate.waivers()
    return gate_document(
        comparison,
        policy,
        judged,
        waivers,
        verdict=verdict(judged) if policy is not None else "NOT-RUN",
        previous=previous,
        seed=seed,
        draws=draws,
    )


def verdict(checks: Sequence[Check]) -> Verdict:
    """The worst verdict of the checks that are not mere warnings; NOT-RUN if there are none."""
    found = {check.verdict for check in checks if not check.is_warning}
    return next((word for word in VERDICTS if word in found), "PASS" if checks else "NOT-RUN")


def exit_code(verdict: str, policy: Policy | None, *, strict: bool = False) -> int:
    """What the command line returns for a verdict: 0, 3 (failed), or under `strict` 4 (undecided).

    Parameters
    ----------
    verdict : str
    policy : Policy or None
        Without a policy nothing is judged, and nothing can fail.
    strict : bool
        Undecided is not good enough.
    """
    if policy is None or verdict == "PASS":
        return EXIT_PASSED
    consequence = {"INCONCLUSIVE": policy.inconclusive, "NOT-RUN": policy.not_run}.get(verdict, "fail")
    if consequence == "fail":
        return EXIT_FAILED
    return EXIT_INCONCLUSIVE if strict else EXIT_PASSED


def _previous(candidate: Evaluation, previous: Evaluation, resampler: Resampler) -> Comparison:
    check_match(candidate, previous, is_previous=True)
    return Comparison(candidate, previous, resampler)


class _Gate:
    """One policy held against one comparison."""

    def __init__(self, policy: Policy, comparison: Comparison, today: datetime.date) -> None:
        self._policy = policy
        self._comparison = comparison
        self._today = today
        self._languages = comparison.languages()

    def checks(self, previous: Comparison | None) -> list[Check]:
        """All checks in a fixed order: what is missing, then bound by bound."""
        policy = self._policy
        found = self._presence()
        found += self._expired_waivers()
        found += self._degradations()
        found += self._disparities()
        if policy.max_regression is not None:
            found += self._regressions(previous, policy.max_regression)
        for task in policy.tasks:
            found += self._task(task)
        return found

    def waivers(self) -> list[dict[str, Any]]:
        """Every waiver of the policy, for the report."""
        return [
            {
                "language": waiver.language,
                "limit": str(waiver.max_degradation),
                **waiver_dict(waiver),
                "is_expired": waiver.is_expired(self._today),
            }
            for waiver in self._policy.waivers
        ]

    def _presence(self) -> list[Check]:
        missing = self._comparison.missing(self._policy)
        found = [self._missing(tag, reason) for tag, reason in missing.items()]
        if self._bounds_likelihood() and not self._languages and not found:
            found.append(Check(kind="presence", verdict="NOT-RUN", reason="the results hold no likelihood to judge"))
        return found

    def _missing(self, tag: str, reason: str, kind: str = "presence", task: TaskRule | None = None) -> Check:
        rule, source = resolve(self._policy, tag)
        severity = rule.severity if task is None else task.severity
        # `warn` is for a bound that is broken.  Whether a required language may be absent is for `not_run` to say.
        is_required = task is None and any(is_same(tag, other) for other in self._policy.required_languages)
        return Check(
            kind=kind,
            language=tag,
            task=None if task is None else task.pattern,
            verdict="NOT-RUN",
            reason=f"not evaluated, {reason or 'no reason was recorded'}",
            severity="error" if is_required or severity is None else severity,
            source=source,
            line=rule.line,
        )

    def _bounds_likelihood(self) -> bool:
        policy = self._policy
        rules = [policy.default, *(group.rule for group in policy.groups), *policy.languages.values()]
        spreads = [policy.max_disparity, policy.max_regression, *(group.max_disparity for group in policy.groups)]
        return any(bound is not None for bound in (*(rule.max_degradation for rule in rules), *spreads))

    def _expired_waivers(self) -> list[Check]:
        return [
            Check(
                kind="waiver",
                language=waiver.language,
                verdict="FAIL",
                reason=f"the waiver of {waiver.owner} ({waiver.ticket}) ended on {waiver.expires}: renew or remove it",
                source="waiver",
                line=waiver.line,
            )
            for waiver in self._policy.waivers
            if waiver.is_expired(self._today)
        ]

    def _degradations(self) -> list[Check]:
        found: list[Check] = []
        for tag in self._languages:
            rule, source = resolve(self._policy, tag)
            bound, line, waiver = rule.max_degradation, rule.line, waiver_for(self._policy, tag)
            if bound is None or self._is_reference(tag):
                continue
            if waiver is not None and not waiver.is_expired(self._today):
                bound, source, line = waiver.max_degradation, "waiver", waiver.line
            else:
                waiver = None
            check = Check(
                kind="max_degradation",
                language=tag,
                verdict="NOT-RUN",
                reason="",
                limit=bound,
                severity=rule.severity or "error",
                source=source,
                line=line,
                waiver=waiver,
            )
            found.append(self._judged(check, self._change(tag, bound.unit), beyond=self._beyond))
        return self._named(found)

    @property
    def _beyond(self) -> str:
        reference = self._policy.relative_to
        return f" beyond that of {reference}" if reference else ""

    def _is_reference(self, tag: str) -> bool:
        return self._policy.relative_to is not None and is_same(tag, self._policy.relative_to)

    def _change(self, tag: str, unit: Unit) -> Change | str:
        """Change of a language, beyond that of the reference where there is one; or why there is none."""
        change = self._comparison.change(tag, unit)
        if change is None:
            return f"its {'bytes' if unit == 'npb' else 'tokens'} are not known, so no bound in {unit} can be held"
        if self._policy.relative_to is None:
            return change
        reference = next((other for other in self._languages if self._is_reference(other)), None)
        base = None if reference is None else self._comparison.change(reference, unit)
        if base is None:
            return f"{self._policy.relative_to}, which it is judged relative to, was not evaluated"
        return change.beyond(base)

    def _judged(self, check: Check, change: Change | str, beyond: str = "", n_languages: int | None = None) -> Check:
        if isinstance(change, str):
            return replace(check, verdict="NOT-RUN", reason=change)
        unit = check.limit.unit if check.limit is not None else "%"
        judged = check_language(
            check,
            change,
            confidence=self._policy.confidence,
            min_sentences=self._policy.min_sentences,
            of=f"{_VALUES[unit]}{beyond}",
            languages=n_languages or max(1, len(self._languages)),
        )
        if judged.waiver is not None:
            waiver = judged.waiver
            words = f"; waived until {waiver.expires} by {waiver.owner} ({waiver.ticket}): {waiver.reason}"
            judged = replace(judged, reason=f"{judged.reason}{words}")
        return judged

    def _named(self, checks: list[Check]) -> list[Check]:
        """Failures corrected for the number of languages."""
        p_values = {
            str(place): check.p_value
            for place, check in enumerate(checks)
            if check.p_value is not None and check.verdict != "NOT-RUN"
        }
        adjusted = {int(place): p for place, p in holm(p_values).items()}
        return name_failures(checks, adjusted, self._policy.confidence)

    def _disparities(self) -> list[Check]:
        policy, found = self._policy, []
        if policy.max_disparity is not None:
            check = Check(
                kind="max_disparity",
                verdict="NOT-RUN",
                reason="",
                limit=policy.max_disparity,
                severity=policy.default.severity or "error",
                line=policy.lines.get("max_disparity"),
            )
            found.append(self._spread(check, self._languages))
        for place, group in enumerate(policy.groups):
            if group.max_disparity is None:
                continue
            check = Check(
                kind="max_disparity",
                group=group.name,
                verdict="NOT-RUN",
                reason="",
                limit=group.max_disparity,
                severity=group.rule.severity or policy.default.severity or "error",
                source=f"group {group.name}",
                line=policy.lines.get(f"groups[{place}].max_disparity"),
            )
            found.append(self._spread(check, [tag for tag in self._languages if is_in(group, tag)]))
        return found

    def _spread(self, check: Check, languages: Sequence[str]) -> Check:
        unit = check.limit.unit if check.limit is not None else "%"
        changes = {tag: self._comparison.change(tag, unit) for tag in languages}
        if unknown := [tag for tag, change in changes.items() if change is None]:
            return replace(check, reason=f"bytes or tokens of {', '.join(unknown)} are not known")
        return self._spread_of(check, {tag: change for tag, change in changes.items() if change is not None})

    def _spread_of(self, check: Check, changes: Mapping[str, Change]) -> Check:
        if not changes:
            return replace(check, verdict="NOT-RUN", reason="no language of it was evaluated, so no bound was checked")
        if len(changes) < 2:
            reason = f"only {next(iter(changes))} of it was evaluated, and a difference needs two languages"
            return replace(check, verdict="NOT-RUN", reason=reason)
        ordered = sorted(changes, key=lambda tag: (changes[tag].value, tag))
        best, worst = ordered[0], ordered[-1]
        points = [tag for tag, change in changes.items() if change.is_point]
        is_point = len(points) == len(changes)
        short = [tag for tag, change in changes.items() if not change.is_point and self._is_short(change)]
        draws = next((len(change.sample.values) for change in changes.values() if change.sample is not None), 0)
        samples = [sample for change in changes.values() if (sample := change.beside(draws)) is not None]
        counts = [(*change.counts, change.n) for change in changes.values() if change.counts is not None]
        value = changes[worst].value - changes[best].value
        why = ""
        if is_point:
            bounds = Bounds(value=value, lower=value, upper=value)
        elif len(samples) < len(changes):
            bounds, why = Bounds(value=value, lower=0.0, upper=float("inf")), "cannot be judged: too little text"
        elif len(counts) == len(changes):
            bounds = proportions.disparity_bounds(counts, self._policy.confidence)
        else:
            bounds = disparity_bounds(samples, self._policy.confidence)
        if short:
            why = f"cannot be judged: too little text of {', '.join(short)}"
        judged = check_spread(
            check, bounds, worst=worst, best=best, n_languages=len(changes), is_point=is_point, why=why
        )
        if points and not is_point:
            judged = replace(judged, reason=f"{judged.reason} (of {', '.join(points)} no interval is known)")
        return judged

    def _is_short(self, change: Change) -> bool:
        too_few = change.n < self._policy.min_sentences
        return too_few or (change.counts is None and change.n_effective < MIN_EFFECTIVE)

    def _regressions(self, previous: Comparison | None, bound: Bound) -> list[Check]:
        line = self._policy.lines.get("max_regression")
        if previous is None:
            reason = "max_regression needs the results of the previous release: give --previous"
            return [Check(kind="max_regression", verdict="NOT-RUN", reason=reason, limit=bound, line=line)]
        found = []
        for tag, reason in previous.missing().items():
            if tag in self._languages:
                found.append(replace(self._missing(tag, f"previous release: {reason}", "max_regression"), line=line))
        for tag in previous.languages():
            rule, _ = resolve(self._policy, tag)
            check = Check(
                kind="max_regression",
                language=tag,
                verdict="NOT-RUN",
                reason="its bytes or tokens are not known",
                limit=bound,
                severity=rule.severity or "error",
                line=line,
            )
            change = previous.change(tag, bound.unit)
            found.append(check if change is None else self._judged(check, change, beyond=" since the previous release"))
        return self._named(found)

    def _task(self, task: TaskRule) -> list[Check]:
        changes, missing = self._comparison.task_changes(task.pattern)
        about = Check(
            kind=f"max_degradation:{task.pattern}",
            task=task.pattern,
            verdict="NOT-RUN",
            reason="neither side has results of this task",
            severity=task.severity,
            source="task",
            line=task.line,
        )
        found = [
            replace(self._missing(tag, reason, about.kind, task), line=task.line) for tag, reason in missing.items()
        ]
        if not changes and not missing:
            # A rule without a bound may be about likelihoods, which are judged as such.
            return [] if task.max_degradation is None and task.max_disparity is None else [about]
        if task.max_degradation is not None:
            bounded = replace(about, limit=task.max_degradation)
            judged = [
                self._judged(
                    replace(bounded, language=tag), change, beyond=f" on {task.pattern}", n_languages=len(changes)
                )
                for tag, change in changes.items()
            ]
            found += self._named(judged)
        if task.max_disparity is not None:
            spread = replace(about, kind=f"max_disparity:{task.pattern}", limit=task.max_disparity)
            found.append(self._spread_of(spread, changes))
        return found

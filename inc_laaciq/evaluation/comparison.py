"""A candidate beside a baseline: for every language what is known of the change, in whichever unit a bound has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from inc_laaciq.config.policy import Policy
from inc_laaciq.errors import SpecError
from inc_laaciq.evaluation.items import ItemScores
from inc_laaciq.evaluation.losses import SentenceLosses
from inc_laaciq.evaluation.measured import Evaluation
from inc_laaciq.evaluation.pairs import Size, clusters, pair_items, pair_losses
from inc_laaciq.evaluation.resampling import Resampled, Resampler, exact, resample
from inc_laaciq.evaluation.statistics import as_relative, difference, relative
from inc_laaciq.languages import is_same

Unit = Literal["%", "npb", "nps", "pp"]

LARGEST_LOSS = 1e100
"""In nats a sentence; beyond it squares overflow, and no model that works comes near it."""

_REPORTED: tuple[Unit, ...] = ("%", "npb")
_SIZES: dict[Unit, Size] = {"%": "tokens", "npb": "bytes", "nps": "sentences"}


@dataclass(frozen=True, kw_only=True)
class Change:
    """What is known of a language's change in one unit.

    Parameters
    ----------
    value : float
        Positive is worse; a fraction for % and pp.
    sample : Resampled or None
        Its bootstrap distribution; None where a language has one value only, or one cluster.
    n : int
        Sentences or items.
    n_effective : float
        Effective number of documents or items.
    is_point : bool
        There is one value for the language, and no more can be known.
    counts : tuple of (int, int), optional
        Answers harmed and helped, where every item is right or wrong.
    logarithm : Resampled, optional
        Where the unit is %: the same in nats per token, of which the value is exp - 1.
    """

    value: float
    sample: Resampled | None
    n: int
    n_effective: float
    is_point: bool = False
    counts: tuple[int, int] | None = None
    logarithm: Resampled | None = None

    def beside(self, draws: int) -> Resampled | None:
        """The sample, or the single value as if it were exact; None where neither is known."""
        return exact("", self.value, draws) if self.is_point else self.sample

    def beyond(self, base: Change) -> Change:
        """Change beyond that of another language; a single value counts as exact beside a sample."""
        sample, known = None, self.sample or base.sample
        if known is not None:
            ours, theirs = self.beside(len(known.values)), base.beside(len(known.values))
            sample = difference(ours, theirs) if ours is not None and theirs is not None else None
        measured = [change for change in (self, base) if not change.is_point] or [self, base]
        return Change(
            value=self.value - base.value,
            sample=sample,
            n=min(change.n for change in measured),
            n_effective=min(change.n_effective for change in measured),
            is_point=self.is_point and base.is_point,
        )


class Comparison:
    """Changes of every language, computed once for each unit.

    Parameters
    ----------
    candidate, baseline : Evaluation
        That match (see `check_match`).
    resampler : Resampler
    """

    def __init__(self, candidate: Evaluation, baseline: Evaluation, resampler: Resampler) -> None:
        self.candidate = candidate
        self.baseline = baseline
        self._resampler = resampler
        self._changes: dict[tuple[str, Unit], Change | None] = {}

    def missing(self, policy: Policy | None = None) -> dict[str, str]:
        """Reason for every language that either side names, or the policy requires, and that cannot be compared."""
        found = {**self.candidate.missing}
        found |= {tag: f"baseline: {reason}" for tag, reason in self.baseline.missing.items()}
        for side, ours, theirs in (
            ("the candidate", self.candidate, self.baseline),
            ("the baseline", self.baseline, self.candidate),
        ):
            for tag in sorted(theirs.losses.keys() - ours.losses.keys() - found.keys()):
                found[tag] = f"{side} has no results for it"
            for tag, losses in ours.losses.items():
                if not losses.n:
                    found.setdefault(tag, f"{side} has no sentence of it")
                elif not losses.is_valid or np.abs(losses.loss).max() > LARGEST_LOSS:
                    found.setdefault(tag, f"{side} gives NaN or infinite losses on it")
        if policy is not None:
            judged = {rule.pattern for rule in policy.tasks if rule.max_degradation or rule.max_disparity}
            of_tasks = {tag for task, tags in self.candidate.tasks.items() if task in judged for tag in tags}
            # A bound of a language's own is a demand for its likelihood, for else it would be kept by nobody.
            own = [tag for tag, rule in policy.languages.items() if rule.max_degradation is not None]
            for tags, what, also in ((own, "likelihood", ()), (policy.required_languages, "results", of_tasks)):
                known = {*self.candidate.losses, *found, *also}
                for tag in tags:
                    if not any(is_same(tag, other) for other in known):
                        found.setdefault(tag, f"the policy requires it, and there is no {what} of it")
        return dict(sorted(found.items()))

    def languages(self) -> tuple[str, ...]:
        """Languages that can be compared by likelihood."""
        missing = self.missing()
        both = self.candidate.losses.keys() & self.baseline.losses.keys()
        return tuple(sorted(both - missing.keys()))

    def change(self, tag: str, unit: Unit) -> Change | None:
        """Change of a language that can be compared; None where the unit's size (bytes, tokens) is not known.

        Raises
        ------
        SpecError
            If the unit asks for aligned text and this is not.
        MismatchError
            If the sentences are not the same.
        """
        if (tag, unit) not in self._changes:
            # What a report tells of every language too, at once, because one drawing then serves both.
            for each in dict.fromkeys((unit, *_REPORTED)):
                self._changes[tag, each] = self._compare(self.candidate.losses[tag], self.baseline.losses[tag], each)
        return self._changes[tag, unit]

    def _compare(self, candidate: SentenceLosses, baseline: SentenceLosses, unit: Unit) -> Change | None:
        if unit == "nps" and not (self.candidate.texts.get("aligned") and self.baseline.texts.get("aligned")):
            raise SpecError(
                "a bound in nps (nats per aligned sentence) needs aligned text: the same sentences in every language, "
                "evaluated with --aligned or evaluation.aligned. Use % or npb for other text."
            )
        pairs = pair_losses(candidate, baseline, _SIZES[unit])
        if not pairs.size.sum() > 0:
            return None
        is_point = candidate.is_point and baseline.is_point
        sample = resample(pairs, self._resampler) if pairs.n_clusters > 1 else None
        is_relative = unit == "%"
        return Change(
            value=as_relative(pairs.estimate) if is_relative else pairs.estimate,
            sample=relative(sample) if is_relative and sample is not None else sample,
            n=pairs.n,
            n_effective=pairs.n_effective,
            is_point=is_point,
            logarithm=sample if is_relative else None,
        )

    def documents(self, tag: str) -> int | None:
        """Documents of a language's text; None where its sentences stand alone."""
        losses = self.baseline.losses[tag]
        number, kind = clusters(losses)
        return int(number.max()) + 1 if kind == "document" else None

    def task_changes(self, task: str) -> tuple[dict[str, Change], dict[str, str]]:
        """Changes in accuracy by language on one task, and the languages without, with the reason."""
        ours: Mapping[str, ItemScores] = self.candidate.tasks.get(task, {})
        theirs: Mapping[str, ItemScores] = self.baseline.tasks.get(task, {})
        changes, missing = {}, {}
        for tag in sorted(ours.keys() | theirs.keys()):
            if tag not in ours or tag not in theirs:
                missing[tag] = f"the {'candidate' if tag not in ours else 'baseline'} has no results for it"
            elif not ours[tag].is_valid or not theirs[tag].is_valid:
                missing[tag] = "there are no items, or scores that are not finite"
            else:
                changes[tag] = self._compare_items(ours[tag], theirs[tag])
        return changes, missing

    def _compare_items(self, candidate: ItemScores, baseline: ItemScores) -> Change:
        pairs = pair_items(candidate, baseline)
        is_point = candidate.is_point or baseline.is_point
        counts = None
        if candidate.is_binary and baseline.is_binary and not is_point:
            counts = (int((pairs.difference > 0).sum()), int((pairs.difference < 0).sum()))
        return Change(
            value=pairs.estimate,
            sample=resample(pairs, self._resampler) if pairs.n_clusters > 1 and not is_point else None,
            n=pairs.n,
            n_effective=pairs.n_effective,
            is_point=is_point,
            counts=counts,
        )

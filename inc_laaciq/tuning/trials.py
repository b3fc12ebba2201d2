"""The trials of a search among given configurations: which one is next, what the gate said of each, what is kept.

Who drives it asks `next` for a number, makes that model, and calls the object with it; the float model comes first.
"""

from __future__ import annotations

import gc
import math
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from torch import nn

from inc_laaciq.errors import BackendError, MismatchError
from inc_laaciq.evaluation.measured import Evaluation
from inc_laaciq.tuning.criterion import PASSED, LanguageCriterion
from inc_laaciq.tuning.model_changes import changed_layers, leave_inference_mode, release, state_digest
from inc_laaciq.tuning.order import Candidate, next_candidate, predicted, share

Progress = Callable[[str, int, int], None]

_SAME = 1e-4


@dataclass(frozen=True, kw_only=True)
class TrialRecord:
    """A trial as it is kept for later.

    Parameters
    ----------
    candidate : int
        Number of the configuration.
    document : mapping
        Of the gate.
    seconds : float
        Quantizing and evaluating it.
    quantized_layers : int
    sha256 : str
        Of the quantized model.
    """

    candidate: int
    document: Mapping[str, Any]
    seconds: float
    quantized_layers: int
    sha256: str


class Trials:
    """Chooses, judges and remembers.

    Parameters
    ----------
    candidates : sequence of Candidate
    criterion : LanguageCriterion
        Has judged nothing yet.
    model : nn.Module
        The float model.
    max_trials : int
        Trials of earlier runs count.
    progress : callable(stage, done, total), optional
    save : callable(baseline, records), optional
        Called after every trial.
    is_own : bool
        Nobody else holds the models that are evaluated, so a rejected one can be freed at once.

    Attributes
    ----------
    records : list of TrialRecord
        In the order of the criterion's documents.
    peak_models : int
        Most models with weights in memory at once, the float model counted; copies inside an algorithm are not.
    current : str
        What is being done, for messages.
    """

    def __init__(
        self,
        candidates: Sequence[Candidate],
        criterion: LanguageCriterion,
        model: nn.Module,
        *,
        max_trials: int,
        progress: Progress | None = None,
        save: Callable[[Mapping[str, Any], Sequence[TrialRecord]], None] | None = None,
        is_own: bool = False,
    ) -> None:
        self.candidates = candidates
        self.criterion = criterion
        self.records: list[TrialRecord] = []
        self.current = "evaluating the float model"
        self.peak_models = 2  # it is evaluated as a copy
        self._model = model
        self._max_trials = max_trials
        self._progress = progress
        self._save = save
        self._is_own = is_own
        self._expected: tuple[Mapping[str, Any], list[TrialRecord]] | None = None
        self._pending: int | None = None
        self._passed_over: set[int] = set()
        self._started = 0.0
        self._is_decided = False
        self._alive: list[list[weakref.ref[Any]]] = []

    def resume(self, baseline: Mapping[str, Any], records: Sequence[TrialRecord]) -> None:
        """Take over trials of an earlier run, once the float model turns out to give the same figures.

        One that passed is run again, because its model is not at hand.
        """
        self._expected = baseline, [record for record in records if record.document["verdict"] != "PASS"]

    def next(self) -> int | None:
        """Number of the next candidate; None at the end of the search."""
        if self._pending is not None:  # it was asked for and never came
            self._passed_over.add(self._pending)
        self._pending = None
        if self._is_decided or len(self.records) >= self._max_trials:
            return None
        self._pending = next_candidate(self.candidates, self._shares())
        if self._pending is None:
            return None
        gc.collect()  # Neural Compressor's models hold themselves: those of earlier trials would stay for a while
        living = sum(any(tensor() is not None for tensor in tensors) for tensors in self._alive)
        self.peak_models = max(self.peak_models, 1 + living + 1)  # the float model, and a new copy of it
        self.current = f"trial {len(self.records) + 1}: {self.candidates[self._pending].label}"
        if self._progress is not None:
            self._progress(self.current, len(self.records), self._max_trials)
        self._started = time.monotonic()
        return self._pending

    def __call__(self, model: Any) -> float:
        """Score of a model for a criterion that wants 1 or more: the float model first, then one for each `next`."""
        if self.criterion.baseline is None:
            score = self.criterion(model)
            self._take_over()
            return score
        number = self._pending
        if number is None:
            raise BackendError("a model was evaluated that no trial asked for.")
        layers = changed_layers(self._model, model)
        if not layers:
            raise BackendError(
                f"{self.current}: it quantized nothing, the model is the float model. Correct its white_list, its "
                "set_local patterns or its dtype, or leave the configuration out"
            )
        digest = state_digest(model)
        self._alive.append([weakref.ref(tensor) for tensor in (*model.parameters(), *model.buffers())])
        self.criterion.labels[len(self.records)] = self.candidates[number].label
        score = self.criterion(model)
        self._pending = None
        self._is_decided = self.criterion.is_decided
        record = TrialRecord(
            candidate=number,
            document=self.criterion.documents[-1],
            seconds=round(time.monotonic() - self._started, 3),
            quantized_layers=len(layers),
            sha256=digest,
        )
        self._keep(record)
        if score < PASSED and self._is_own:
            release(model)
        else:
            leave_inference_mode(model)
        return score

    def _take_over(self) -> None:
        if self._expected is None:
            return
        expected, records = self._expected
        if not is_same_baseline(expected, self.baseline()):
            raise MismatchError(
                "the float model gives other figures than in the run that wrote the history: "
                f"{expected} before, {self.baseline()} now. Use the same text and evaluation, or another history file"
            )
        for record in records:
            self.criterion.labels[len(self.records)] = self.candidates[record.candidate].label
            self.criterion.documents.append(dict(record.document))
            self.criterion.evaluations.append(Evaluation(source="history", id=record.sha256))
            self.records.append(record)

    def _keep(self, record: TrialRecord) -> None:
        self.records.append(record)
        if self._save is not None:
            self._save(self.baseline(), self.records)

    def _shares(self) -> dict[int, float | None]:
        found: dict[int, float | None] = dict.fromkeys(self._passed_over)
        return found | {record.candidate: share(record.document) for record in self.records}

    def baseline(self) -> dict[str, Any]:
        """Figures of the float model by language: what was scored, and the perplexity; null if that is not finite."""
        evaluation = self.criterion.baseline
        if evaluation is None:
            return {}
        return {
            tag: {"scored": losses.fingerprint, "perplexity": losses.perplexity if losses.is_valid else None}
            for tag, losses in evaluation.losses.items()
        }

    def history(self) -> list[dict[str, Any]]:
        """`LanguageCriterion.trials`, with `bits`, `quantized_layers` and `seconds` of each."""
        return [
            {
                **trial,
                "bits": bits if math.isfinite(bits := self.candidates[record.candidate].bits) else None,
                "quantized_layers": record.quantized_layers,
                "seconds": record.seconds,
            }
            for trial, record in zip(self.criterion.trials(), self.records, strict=True)
        ]

    def untried(self) -> list[str]:
        """What was not tried, with the loss that it would be expected to have where there is an expectation."""
        tried = [(self.candidates[record.candidate], share(record.document)) for record in self.records]
        numbers = {record.candidate for record in self.records}
        found = []
        for number, candidate in enumerate(self.candidates):
            if number not in numbers:
                value = predicted(candidate, tried)
                hint = "" if value is None else f" (expected: {max(value, 0):.2g} times what the gate allows)"
                found.append(f"{candidate.label}{hint}")
        return found


def is_same_baseline(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether the same was scored, with nearly the same result: other machines differ in the last digits."""
    return one.keys() == other.keys() and all(
        figures["scored"] == other[tag]["scored"]
        and math.isclose(figures["perplexity"] or 0, other[tag]["perplexity"] or 0, rel_tol=_SAME)
        for tag, figures in one.items()
    )


def record_dict(record: TrialRecord) -> dict[str, Any]:
    """A record as plain data, without the number, which means nothing to another run."""
    return {key: value for key, value in asdict(record).items() if key != "candidate"}

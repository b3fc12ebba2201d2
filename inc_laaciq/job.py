"""A run, loaded and checked: everything that can be refused is refused here, before any long work."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from inc_laaciq.backends.inc_limits import check_carried
from inc_laaciq.calibration.layers import Layer, find_layers, linearize
from inc_laaciq.calibration.overlap import overlap
from inc_laaciq.calibration.prepare import read_corpus
from inc_laaciq.calibration.text import Corpus
from inc_laaciq.checkpoint import LoadedModel, load_model
from inc_laaciq.config import LaaciqSpec, RunSpec
from inc_laaciq.errors import DataError, SpecError
from inc_laaciq.planning import Plan, module_bytes, plan_run


@dataclass(frozen=True, kw_only=True)
class Job:
    """Everything that a run needs, loaded and checked.

    Parameters
    ----------
    run : RunSpec
    source : LoadedModel
        The float model, its `Conv1D` layers linearized.
    layers : tuple of Layer
    calibration, evaluation : Corpus or None
    notes : tuple of str
        What the user should know, for the report.
    """

    run: RunSpec
    source: LoadedModel
    layers: tuple[Layer, ...]
    calibration: Corpus | None
    evaluation: Corpus | None
    notes: tuple[str, ...]

    @property
    def plan(self) -> Plan:
        """Estimate of the run."""
        languages = len(self.calibration.texts) if self.calibration else 0
        return plan_run(self.layers, module_bytes(self.source.model), languages, self.run.la_aciq.mode)


def prepare(
    run: RunSpec,
    model: str | Path | None = None,
    *,
    trust_remote_code: bool = False,
    revision: str | None = None,
    allow_pickle: bool = False,
) -> Job:
    """Load and check everything; nothing is written.

    Parameters
    ----------
    run : RunSpec
    model : path or hub id, optional
        Overrides `la_aciq.model`.

    Raises
    ------
    LaaciqError
        With what is wrong and what to do, before any long work.
    """
    settings = run.la_aciq
    where = model or run.model
    if where is None:
        raise SpecError("no model: give --model, or la_aciq.model in the configuration")
    if settings.mode == "balanced" and settings.calibration is None:
        raise SpecError("mode 'balanced' needs la_aciq.calibration.texts; mode 'fast' works without")
    calibration = read_corpus(settings.calibration, settings) if settings.calibration else None
    evaluation = read_corpus(settings.evaluation, settings) if settings.evaluation else None
    notes = [*run.notes]
    if calibration is not None:
        _check_weights(settings, calibration)
    if calibration is not None and evaluation is not None:
        notes += _overlap_notes(calibration, evaluation, gated=settings.gate is not None)
    for corpus in (calibration, evaluation):
        notes += corpus.notes if corpus is not None else ()
    source = load_model(where, trust_remote_code=trust_remote_code, revision=revision, allow_pickle=allow_pickle)
    notes += source.notes
    linear = linearize(source.model)
    layers = tuple(find_layers(linear, run.weight, run.rules, lm_head=settings.lm_head))
    for layer in layers:
        if layer.weight is not None:
            check_carried(layer.name, layer.weight)
    return Job(
        run=run,
        source=replace(source, model=linear),
        layers=layers,
        calibration=calibration,
        evaluation=evaluation,
        notes=tuple(dict.fromkeys(notes)),
    )


def _check_weights(settings: LaaciqSpec, calibration: Corpus) -> None:
    """A weight for a language without text would do nothing, silently."""
    named = {*settings.weights, *(settings.shares or ())}
    if unknown := sorted(named - calibration.texts.keys()):
        raise SpecError(
            f"la_aciq.weights and shares name {', '.join(unknown)}, which the calibration text does not have. "
            f"It has {', '.join(calibration.texts)}"
        )


def _overlap_notes(calibration: Corpus, evaluation: Corpus, *, gated: bool) -> list[str]:
    """A model judged on its own calibration text is judged too well: an error with a gate, a note without."""
    shares = {tag: share for tag, share in overlap(calibration, evaluation).items() if share > 0}
    if not shares:
        return []
    worst = max(shares, key=lambda tag: shares[tag])
    text = (
        f"calibration and evaluation text overlap in {len(shares)} languages, most in {worst}: "
        f"{100 * shares[worst]:.1f} % of its evaluation lines are calibration lines"
    )
    if gated:
        raise DataError(f"{text}. A gate on such text passes too easily: use disjoint text")
    return [text]

"""A run, loaded and checked: everything that can be refused is refused here, before any long work."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from inc_laaciq.backends.inc_limits import check_carried
from inc_laaciq.calibration.layers import Layer, find_layers, linearize
from inc_laaciq.calibration.overlap import overlap_notes
from inc_laaciq.calibration.prepare import check_weights, read_corpus
from inc_laaciq.calibration.text import Corpus
from inc_laaciq.calibration.tokenization import unsupported_languages
from inc_laaciq.checkpoint import LoadedModel, find_nonfinite, load_model
from inc_laaciq.config import LaaciqSpec, RunSpec, WeightSpec
from inc_laaciq.config.specs import NEED_TEXT
from inc_laaciq.errors import ModelError, NumericError, SpecError
from inc_laaciq.evaluation.aligned import check_aligned
from inc_laaciq.fair.solve import unused_labels, what_is_tuned
from inc_laaciq.planning import Plan, module_bytes, plan_run

if TYPE_CHECKING:
    from torch import nn


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
        settings = self.run.la_aciq
        kind = what_is_tuned(settings, sum(layer.n_weights for layer in self.layers if layer.weight is not None))
        is_tuned = settings.mode == "fair" and kind != "none"
        return plan_run(
            self.layers,
            module_bytes(self.source.model),
            languages,
            # FP8 is not solved and needs no second moments: the mode that takes least comes nearest.
            settings.mode if self.run.fp8 is None else "fast",
            counted=self.run.approach == "post_training_static_quant" and self.run.activation.needs_counts,
            tuning_steps=settings.fair.steps if is_tuned else 0,
            sampled=settings.fair.sampled if is_tuned and kind == "model" else 0,
        )


def prepare(
    run: RunSpec,
    model: str | Path | None = None,
    *,
    trust_remote_code: bool = False,
    revision: str | None = None,
    allow_pickle: bool = False,
    check: Callable[[str, WeightSpec], None] = check_carried,
) -> Job:
    """Load and check everything; nothing is written.

    Parameters
    ----------
    run : RunSpec
    model : path or hub id, optional
        Overrides `la_aciq.model`.
    check : callable(layer, weight)
        Refuses what the backend cannot carry; by default, what Neural Compressor cannot.

    Raises
    ------
    LaaciqError
        With what is wrong and what to do, before any long work.
    """
    settings = run.la_aciq
    where = model or run.model
    if where is None:
        raise SpecError("no model: give --model, or la_aciq.model in the configuration")
    if settings.mode in NEED_TEXT and settings.calibration is None:
        raise SpecError(f"mode {settings.mode!r} needs la_aciq.calibration.texts; mode 'fast' works without")
    calibration = read_corpus(settings.calibration, settings) if settings.calibration else None
    evaluation = read_corpus(settings.evaluation, settings) if settings.evaluation else None
    if evaluation is not None and settings.evaluation is not None and settings.evaluation.aligned:
        check_aligned(evaluation)
    notes = [*run.notes]
    if calibration is not None:
        check_weights(settings, calibration.texts)
    if calibration is not None and evaluation is not None:
        notes += overlap_notes(calibration, evaluation, gated=settings.gate is not None)
    for corpus in (calibration, evaluation):
        notes += corpus.notes if corpus is not None else ()
    source = load_model(where, trust_remote_code=trust_remote_code, revision=revision, allow_pickle=allow_pickle)
    notes += source.notes
    texts = {tag: text for corpus in (calibration, evaluation) if corpus for tag, text in corpus.texts.items()}
    notes += unsupported_languages(Corpus(texts=texts), source.tokenizer)
    linear = linearize(source.model)
    notes += _nonfinite_notes(linear, settings)
    layers = tuple(find_layers(linear, run.weight, run.rules, lm_head=settings.lm_head))
    for layer in layers:
        if layer.weight is not None:
            check(layer.name, layer.weight)
            if run.fp8 is not None:
                _check_is_linear(source.model, layer.name)
    if unused := unused_labels(settings, sum(layer.n_weights for layer in layers if layer.weight is not None)):
        notes.append(unused)
    return Job(
        run=run,
        source=replace(source, model=linear),
        layers=layers,
        calibration=calibration,
        evaluation=evaluation,
        notes=tuple(dict.fromkeys(notes)),
    )


def _check_is_linear(model: nn.Module, name: str) -> None:
    """Refuse what only `linearize` makes a linear layer: a Gaudi gets measurements alone, and its model is another."""
    from torch.nn import Linear

    kind = model.get_submodule(name)
    if not isinstance(kind, Linear):
        raise ModelError(
            f"layer {name!r} is a {type(kind).__name__}, which Neural Compressor's FP8 leaves as it is. Use another "
            "approach, or leave such layers in float with quantization.op_wise"
        )


def _nonfinite_notes(model: nn.Module, settings: LaaciqSpec) -> list[str]:
    """NaN in any weight, of a norm or an embedding as well, spoils every language: an error unless `nan` says else."""
    found = [f"{name} ({count})" for name, count in find_nonfinite(dict(model.named_parameters())).items()]
    if not found:
        return []
    text = f"the model has NaN or infinite values in {', '.join(found[:5])}{', ...' if len(found) > 5 else ''}"
    if settings.nan == "error":
        raise NumericError(f"{text}. Repair it, or set la_aciq.nan to keep-fp to leave its layers with NaN in float")
    return [text]

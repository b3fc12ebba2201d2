"""Calibrate and solve all layers of a model, as many at a time as memory allows."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn

from inc_laaciq.calibration.collect import Progress, collect
from inc_laaciq.calibration.folding import Fold, folded
from inc_laaciq.calibration.layers import Layer, linear_layer
from inc_laaciq.config import ActivationSpec, LaaciqSpec, WeightSpec
from inc_laaciq.config.specs import NEED_TEXT
from inc_laaciq.errors import EvaluationError, LaaciqError, NumericError, SpecError
from inc_laaciq.fair.solve import solve_fair
from inc_laaciq.quant.activation import Range, static_range
from inc_laaciq.quant.moments import LanguageMoments
from inc_laaciq.quant.solver import QuantizedWeight, SolverSpec, check_finite, solve
from inc_laaciq.quant.value_counts import BINS
from inc_laaciq.scaling import find_folds

logger = logging.getLogger(__name__)

_LOST = 0.25  # of a language's sum of squares at the input of a layer: there is a warning from here on

_SCALED = ("fast", "balanced", "fair")


@dataclass(frozen=True, kw_only=True)
class Solution:
    """What was solved for a whole model.

    Parameters
    ----------
    weights : mapping of layer name -> QuantizedWeight
    layers : tuple of Layer
        All linear layers; those that turned out unusable are in float here, with the reason.
    ranges : mapping of layer name -> Range
        Static range of each layer's input; empty for weight-only quantization.
    invalid : mapping of language -> str
        Languages on which the float model itself is broken, with what was seen.
    tuning : mapping
        Of mode "fair": what was tuned, the step that was kept, and how each language came along.
    folds : tuple of Fold
        Scales of columns that the weights were solved with: they are right only in a model to which these are applied.
    """

    weights: Mapping[str, QuantizedWeight]
    layers: tuple[Layer, ...]
    ranges: Mapping[str, Range] = field(default_factory=dict)
    invalid: Mapping[str, str] = field(default_factory=dict)
    tuning: Mapping[str, Any] = field(default_factory=dict)
    folds: tuple[Fold, ...] = ()

    @property
    def missing(self) -> dict[str, str]:
        """The languages of `invalid`, each with the reason why no figure of this solution speaks for it."""
        return {tag: f"the float model fails on its calibration text: {why}" for tag, why in self.invalid.items()}


def solver_spec(weight: WeightSpec, settings: LaaciqSpec) -> SolverSpec:
    """The solver's view of the configuration of one layer."""
    return SolverSpec(
        bits=weight.bits,
        group_size=weight.group_size,
        scheme=weight.scheme,
        mode="balanced" if settings.mode == "fair" else settings.mode,
        reconcile=settings.reconcile,
        signed=settings.signed,
        damping=settings.damping,
        refine=settings.refine,
        weights=settings.weights,
        shares=settings.shares,
    )


def statistics_bytes(layer: Layer, n_languages: int, *, full: bool, counted: bool = False) -> int:
    """Memory that the statistics of one layer take for all languages, in bytes."""
    per_feature = 8 + 8 + 4 + 4 + (4 * layer.in_features if full else 0)
    return (per_feature * layer.in_features + (8 * BINS if counted else 0)) * n_languages


def passes(
    layers: Sequence[Layer], n_languages: int, *, full: bool, memory: int, counted: bool = False
) -> list[list[Layer]]:
    """Layers in their order, cut where their statistics would exceed `memory` bytes; at least one a pass."""
    cut: list[list[Layer]] = []
    used = 0
    for layer in layers:
        need = statistics_bytes(layer, n_languages, full=full, counted=counted)
        if not cut or used + need > memory:
            cut.append([])
            used = 0
        cut[-1].append(layer)
        used += need
    return cut


def quantize_layers(
    model: nn.Module,
    layers: Sequence[Layer],
    batches: Mapping[str, Sequence[torch.Tensor]] | None,
    settings: LaaciqSpec,
    *,
    activation: ActivationSpec | None = None,
    memory: int = 4 << 30,
    progress: Progress | None = None,
    folds: tuple[Fold, ...] | None = None,
) -> Solution:
    """Solve every layer that is to be quantized.

    Parameters
    ----------
    model : nn.Module
        The float model; left as it is (its norms and layers are scaled meanwhile, where there are outlier columns).
    layers : sequence of Layer
        From `find_layers`.
    batches : mapping of language -> token batches, or None
        None = data-free, for modes "paper" and "fast".
    settings : LaaciqSpec
    activation : ActivationSpec, optional
        Also find a static range for each layer's input.
    memory : int
        Bytes for statistics; less memory costs more passes over the calibration text.
    progress : callable(stage, done, total), optional
    folds : tuple of Fold, optional
        Of an earlier solution, of which some layers are to be solved again; they are found unless given.

    Raises
    ------
    NumericError
        If a layer's weights hold NaN or infinity and `settings.nan` is "error".
    EvaluationError
        If the float model is broken on every language.
    SpecError
        If mode "balanced" or "fair" has no calibration text.
    """
    if not batches and settings.mode in NEED_TEXT:
        raise SpecError(
            f"mode {settings.mode!r} needs calibration text: give la_aciq.calibration.texts, or use mode 'fast'"
        )
    layers, usable = _leave_nonfinite_in_float(model, layers, settings)
    if folds is None:
        folds = ()
        if settings.scaling and batches and activation is None and settings.mode in _SCALED:
            folds = find_folds(model, usable, batches, lambda layer: _layer_spec(layer, settings), progress=progress)
    with folded(model, folds) as applied:
        solution = _solve_layers(
            model, layers, batches, settings, activation=activation, memory=memory, progress=progress
        )
    return replace(solution, folds=applied)


def _solve_layers(
    model: nn.Module,
    layers: Sequence[Layer],
    batches: Mapping[str, Sequence[torch.Tensor]] | None,
    settings: LaaciqSpec,
    *,
    activation: ActivationSpec | None,
    memory: int,
    progress: Progress | None,
) -> Solution:
    """`quantize_layers` for a model that is as it is to be quantized."""
    usable = [layer for layer in layers if layer.weight is not None]
    total = len(usable)
    full = settings.mode in NEED_TEXT
    if activation is not None and activation.algorithm != "la_aciq":
        activation = None  # the ranges are Neural Compressor's own
    counted = activation is not None and activation.needs_counts
    weights: dict[str, QuantizedWeight] = {}
    ranges: dict[str, Range] = {}
    invalid: dict[str, str] = {}
    tuning: Mapping[str, Any] = {}
    if settings.mode == "fair" and batches and usable:
        fair = solve_fair(
            model, usable, batches, settings, lambda layer: _layer_spec(layer, settings), progress=progress
        )
        invalid, tuning = dict(fair.invalid), fair.tuning
        batches = {tag: rows for tag, rows in batches.items() if tag not in invalid}
        weights |= fair.weights
        # The output projection, and what no text reaches.
        usable = [layer for layer in usable if layer.name not in weights]
    for part in passes(usable, len(batches or ()), full=full, memory=memory, counted=counted):
        moments: Mapping[str, Mapping[str, LanguageMoments]] = {}
        if batches:
            names = [layer.name for layer in part]
            collected = collect(model, batches, names, full=full, counted=counted, progress=progress)
            moments, invalid = collected.moments, {**invalid, **collected.invalid}
            batches = {tag: rows for tag, rows in batches.items() if tag not in invalid}
            if not batches:
                first = next(iter(invalid.items()))
                raise EvaluationError(
                    f"the float model gives NaN or infinity on every language, for example {first[0]}: {first[1]}. "
                    "Check the model, or load it in float32"
                )
            if collected.invalid and weights:
                # Layers were solved for a language that breaks later: how many would depend on the memory there is.
                rest = _solve_layers(
                    model, layers, batches, settings, activation=activation, memory=memory, progress=progress
                )
                return replace(rest, invalid={**invalid, **rest.invalid})
        for layer in part:
            seen = moments.get(layer.name)
            if seen and not any(settings.weights.get(tag, 1.0) > 0 for tag in seen):
                seen = None  # only languages of weight 0 reach it
            weights[layer.name] = _solve_layer(model, layer, seen, settings)
            if activation is not None and seen:
                ranges[layer.name] = static_range(
                    {tag: m.activation for tag, m in seen.items()},
                    activation.bits,
                    scheme=activation.scheme,
                    reconcile=activation.reconcile,
                    weights={tag: w for tag, w in settings.weights.items() if tag in seen},
                )
            if progress is not None:
                progress("solving", len(weights), total)
    for note in lost_input_note(ranges):
        logger.warning(note)
    ordered = {layer.name: weights[layer.name] for layer in layers if layer.name in weights}
    return Solution(weights=ordered, layers=tuple(layers), ranges=ranges, invalid=invalid, tuning=tuning)


def lost_input_note(ranges: Mapping[str, Range]) -> list[str]:
    """What is to be said of static ranges on which a language loses much of what a layer is given."""
    errors = {name: found.errors for name, found in ranges.items() if found.errors}
    worst = {name: max(by_tag.items(), key=lambda pair: pair[1]) for name, by_tag in errors.items()}
    lost = {name: error for name, (_, error) in worst.items() if error > _LOST}
    if not lost:
        return []
    name = max(lost, key=lambda name: lost[name])
    return [
        f"one static range does not serve all languages in {len(lost)} of {len(ranges)} layers: in {name} "
        f"{worst[name][0]} loses {100 * lost[name]:.0f} % of its input. Leave such a layer in float, or use "
        "weight-only quantization"
    ]


def _leave_nonfinite_in_float(
    model: nn.Module, layers: Sequence[Layer], settings: LaaciqSpec
) -> tuple[list[Layer], list[Layer]]:
    """All layers, and those to be solved: a layer with NaN is an error, or stays in float if that is asked for."""
    checked = []
    for layer in layers:
        if layer.weight is not None:
            try:
                check_finite(linear_layer(model, layer.name).weight)
            except NumericError as error:
                if settings.nan != "keep-fp":
                    raise NumericError(
                        f"layer {layer.name!r}: {error}. "
                        "Repair the model, or set la_aciq.nan to keep-fp to leave it in float"
                    ) from None
                logger.warning("layer %s stays in float: %s", layer.name, error)
                layer = replace(layer, weight=None, reason=str(error))
        checked.append(layer)
    return checked, [layer for layer in checked if layer.weight is not None]


def _layer_spec(layer: Layer, settings: LaaciqSpec) -> SolverSpec:
    if layer.weight is None:
        raise SpecError(f"layer {layer.name!r} is kept in float and cannot be solved")
    return solver_spec(layer.weight, settings)


def _solve_layer(
    model: nn.Module, layer: Layer, moments: Mapping[str, LanguageMoments] | None, settings: LaaciqSpec
) -> QuantizedWeight:
    spec = _layer_spec(layer, settings)
    if not moments and spec.mode == "balanced":
        logger.warning("layer %s: no calibration token that counts reached it; solved without data", layer.name)
        spec = replace(spec, mode="fast")
    try:
        return solve(linear_layer(model, layer.name).weight, spec, moments)
    except LaaciqError as error:
        raise type(error)(f"layer {layer.name!r}: {error}") from error

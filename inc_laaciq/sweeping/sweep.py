"""Quantize a model at every width by every method, and measure each language."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import nn

from inc_laaciq.assessment.assess import AssessSpec, assess
from inc_laaciq.assessment.rounding import rounded
from inc_laaciq.calibration.collect import Progress
from inc_laaciq.calibration.folding import apply_folds
from inc_laaciq.calibration.layers import Layer, find_layers, linear_layer
from inc_laaciq.calibration.loader import LanguageLoader
from inc_laaciq.calibration.prepare import row_length
from inc_laaciq.calibration.text import Corpus
from inc_laaciq.checkpoint import LoadedModel
from inc_laaciq.config import LaaciqSpec, WeightSpec
from inc_laaciq.config.bounds import Bound
from inc_laaciq.config.specs import NEED_TEXT
from inc_laaciq.errors import EvaluationError, ResourceError, SpecError
from inc_laaciq.evaluation.compare import overview
from inc_laaciq.evaluation.degradation import degradation
from inc_laaciq.evaluation.likelihood import sentence_losses
from inc_laaciq.evaluation.losses import SentenceLosses
from inc_laaciq.evaluation.pairs import pair_losses
from inc_laaciq.evaluation.results import finite
from inc_laaciq.languages import name
from inc_laaciq.layerwise import quantize_layers
from inc_laaciq.memory import available_memory
from inc_laaciq.planning import module_bytes
from inc_laaciq.quant.grid import Scheme
from inc_laaciq.sweeping.cells import Cell, Cells
from inc_laaciq.sweeping.theory import PREDICTORS, theory
from inc_laaciq.sweeping.widths import fewest_bits

SCHEMA = "inc-laaciq/sweep/1"
PLAIN = "rtn"
METHODS: tuple[str, ...] = (PLAIN, "fast", "balanced", "fair")
PREDICTED = Cell(method="predicted")
_PREDICTED_BITS = 4
_PREDICTED_TOKENS = 2048


@dataclass(frozen=True, kw_only=True)
class SweepSpec:
    """What is swept.

    Parameters
    ----------
    bits : tuple of int
        2 to 8 each.
    methods : tuple of str
        Of `METHODS`: plain rounding, and the modes of la_aciq.
    group_size : int
    scheme : "sym" or "asym"
    margin : Bound
        What a language may lose, in % of perplexity or nats per byte.
    tokens_per_language : int
        Of the evaluation text; 0 = all.
    seed : int
        Which sentences are scored.
    """

    bits: tuple[int, ...] = (2, 3, 4, 5, 6, 8)
    methods: tuple[str, ...] = (PLAIN, "balanced")
    group_size: int = 64
    scheme: Scheme = "sym"
    margin: Bound
    tokens_per_language: int = 4096
    seed: int = 0

    def __post_init__(self) -> None:
        for bits in self.bits:
            WeightSpec(bits=bits, group_size=self.group_size, scheme=self.scheme)
        if not self.bits or len(set(self.bits)) < len(self.bits):
            raise SpecError(f"bits={self.bits} must name one width or more, each once.")
        if unknown := [method for method in self.methods if method not in METHODS]:
            raise SpecError(f"methods name {', '.join(unknown)}. Allowed: {', '.join(METHODS)}.")
        if not self.methods or len(set(self.methods)) < len(self.methods):
            raise SpecError(f"methods={self.methods} must name one method or more, each once.")
        if self.margin.unit not in ("%", "npb") or not self.margin.value > 0:
            raise SpecError(f"margin={self.margin} is not a share of perplexity or nats per byte above 0, such as 5%.")

    @property
    def cells(self) -> tuple[Cell, ...]:
        """All quantized models, methods in their order, fewest bits first."""
        return tuple(Cell(method=method, bits=bits) for method in self.methods for bits in sorted(self.bits))


class Sweep:
    """A sweep over one model.

    Parameters
    ----------
    source : LoadedModel
        In float, its `Conv1D` layers linearized.
    spec : SweepSpec
    evaluation : Corpus
    calibration : Corpus or None
    loader : LanguageLoader or None
        The calibration text in batches.
    settings : LaaciqSpec
        For the modes of la_aciq; their `mode` is that of the method.
    cells : Cells
    progress : callable(stage, done, total), optional

    Raises
    ------
    SpecError
        If a method needs calibration text and there is none, or the group size does not fit.
    """

    def __init__(
        self,
        source: LoadedModel,
        spec: SweepSpec,
        evaluation: Corpus,
        calibration: Corpus | None,
        loader: LanguageLoader | None,
        settings: LaaciqSpec,
        cells: Cells,
        progress: Progress | None = None,
    ) -> None:
        if loader is None and (needy := [method for method in spec.methods if method in NEED_TEXT]):
            raise SpecError(f"{', '.join(needy)} needs calibration text: give --calibration, or other --methods")
        self._source, self._spec = source, spec
        self._evaluation, self._calibration = evaluation, calibration
        self._loader, self._settings, self._cells, self._progress = loader, settings, cells, progress
        self._baseline: Mapping[str, SentenceLosses] | None = None
        self._layers = {bits: self._find(bits) for bits in spec.bits}
        _check_memory(source.model)

    def _find(self, bits: int) -> list[Layer]:
        return find_layers(self._source.model, self._weight(bits))

    def _weight(self, bits: int) -> WeightSpec:
        return WeightSpec(bits=bits, group_size=self._spec.group_size, scheme=self._spec.scheme)

    @property
    def missing(self) -> list[Cell]:
        """What is still to be done."""
        return [cell for cell in (PREDICTED, *self._spec.cells) if self._cells.read(cell) is None]

    def forget(self) -> list[Cell]:
        """Remove what is done; everything is then still to be done."""
        for cell in (PREDICTED, *self._spec.cells):
            self._cells.path(cell).unlink(missing_ok=True)
        return self.missing

    def run(self) -> dict[str, Any]:
        """Do what is missing; the whole sweep as a document."""
        todo = (PREDICTED, *self._spec.cells)
        found: dict[Cell, dict[str, Any]] = {}
        for number, cell in enumerate(todo):
            content = self._cells.read(cell)
            if content is None:
                content = self._predict() if cell == PREDICTED else self._measure(cell)
                self._cells.write(cell, content)
            found[cell] = content
            if self._progress is not None:
                self._progress("sweeping", number + 1, len(todo))
        return self._document(found)

    def _predict(self) -> dict[str, Any]:
        """What is known of every language beforehand; from the calibration text, which nothing is measured on."""
        corpus = self._calibration if self._calibration is not None else self._evaluation
        spec = AssessSpec(
            bits=_PREDICTED_BITS,
            group_size=self._spec.group_size,
            scheme=self._spec.scheme,
            tokens_per_language=_PREDICTED_TOKENS,
            seed=self._spec.seed,
        )
        model = self._source.model
        found = assess(
            model, self._source.tokenizer, corpus, spec, row_length=row_length(model), progress=self._progress
        )
        entries = {tag: entry for tag, entry in found["languages"].items() if "missing" not in entry}
        return {"languages": {tag: {key: entry[key] for key in PREDICTORS} for tag, entry in entries.items()}}

    def _measure(self, cell: Cell) -> dict[str, Any]:
        if self._baseline is None:
            self._baseline = self._losses(self._source.model, "float")
        model, missing = self._quantized(cell)
        losses = self._losses(model, cell.label, reference=self._source.model)
        sound = {tag: before for tag, before in self._baseline.items() if before.is_valid and tag not in missing}
        if not sound:
            raise EvaluationError("the float model fails on every language that there is evaluation text of")
        measured = {tag: degradation(losses[tag], before) for tag, before in sound.items()}
        languages = {}
        for tag, d in measured.items():
            languages[tag] = {
                "name": name(tag),
                "degradation": finite(d.degradation),
                "standard_error": finite(d.standard_error),
                "relative_perplexity": finite(d.relative_perplexity),
                "kl": finite(_per_byte(losses[tag])),
                "n_effective": finite(pair_losses(losses[tag], self._baseline[tag], "bytes").n_effective),
                "sentences": d.n_sentences,
                "tokens": d.n_tokens,
                "bytes": d.n_bytes,
            }
        return {"languages": languages, "missing": missing, **overview(measured)}

    def _losses(self, model: Any, label: str, *, reference: Any = None) -> dict[str, SentenceLosses]:
        def labelled(_stage: str, done: int, total: int) -> None:
            if self._progress is not None:
                self._progress(f"evaluating {label}", done, total)

        return sentence_losses(
            model,
            self._source.tokenizer,
            self._evaluation,
            tokens_per_language=self._spec.tokens_per_language,
            seed=self._spec.seed,
            reference=reference,
            progress=labelled,
        )

    def _quantized(self, cell: Cell) -> tuple[nn.Module, dict[str, str]]:
        """A copy of the model whose weights are those that the codes stand for, and languages it was not solved for."""
        layers = [layer for layer in self._layers[cell.bits] if layer.weight is not None]
        model: nn.Module
        if cell.method == PLAIN:
            model = copy.deepcopy(self._source.model)
            with torch.no_grad():
                for layer in layers:
                    module = linear_layer(model, layer.name)
                    # A new one, here and below: a layer that shares the old one stays in float.
                    module.weight = nn.Parameter(rounded(module.weight, self._weight(cell.bits)))
            return model, {}
        mode: Any = cell.method  # which is a mode's name
        settings = replace(self._settings, mode=mode)
        batches = self._loader.batches if self._loader is not None else None
        solution = quantize_layers(self._source.model, layers, batches, settings, progress=self._progress)
        model = copy.deepcopy(self._source.model)
        apply_folds(model, solution.folds)
        with torch.no_grad():
            for found, solved in solution.weights.items():
                module = linear_layer(model, found)
                module.weight = nn.Parameter(solved.dequantize().to(module.weight))
        return model, solution.missing

    def _document(self, found: dict[Cell, dict[str, Any]]) -> dict[str, Any]:
        spec, predicted = self._spec, found.pop(PREDICTED)["languages"]
        missing = dict.fromkeys(self._evaluation.missing, "no text was found")
        calibrated = self._loader.batches if self._loader is not None else {}
        without = sorted(calibrated.keys() - self._evaluation.texts.keys())
        missing |= dict.fromkeys(without, "no evaluation text was found")
        tags = sorted({tag for content in found.values() for tag in content["languages"]})
        missing |= {tag: "the float model fails on it" for tag in self._evaluation.texts if tag not in tags}
        for content in found.values():
            missing |= content["missing"]
        return {
            "schema": SCHEMA,
            "spec": {
                **asdict(spec),
                "bits": sorted(spec.bits),
                "methods": list(spec.methods),
                "margin": str(spec.margin),
            },
            "cells": [{**asdict(cell), **content} for cell, content in found.items()],
            "fewest_bits": {method: {tag: self._fewest(method, tag, found) for tag in tags} for method in spec.methods},
            "predictors": predicted,
            "theory": theory([(cell.label, content["languages"]) for cell, content in found.items()], predicted),
            "missing": missing,
        }

    def _fewest(self, method: str, tag: str, found: Mapping[Cell, Mapping[str, Any]]) -> int | None:
        entries = {
            cell.bits: content["languages"].get(tag, {}) for cell, content in found.items() if cell.method == method
        }
        return fewest_bits(entries, self._spec.margin)


def _check_memory(model: nn.Module) -> None:
    """A copy of the model is measured beside it; what does not fit is refused before the system ends the process."""
    available, needed = available_memory(), module_bytes(model)
    if available is not None and needed > available:
        raise ResourceError(
            f"a quantized copy of the model takes {needed / 1e9:.1f} GB and {available / 1e9:.1f} GB are free. "
            "Use a larger machine"
        )


def _per_byte(losses: SentenceLosses) -> float:
    """Divergence in nats per UTF-8 byte; NaN where it is not known."""
    return float("nan") if losses.kl is None else float(losses.kl.sum() / losses.n_bytes.sum())

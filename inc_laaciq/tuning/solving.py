"""How a search solves a configuration and measures its layers, on one model and one calibration text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import nn

from inc_laaciq.calibration.collect import Progress
from inc_laaciq.calibration.folding import Fold
from inc_laaciq.calibration.layers import Layer
from inc_laaciq.calibration.loader import LanguageLoader
from inc_laaciq.config import ActivationSpec, LaaciqSpec
from inc_laaciq.layerwise import Solution, quantize_layers
from inc_laaciq.tuning.sensitivity import layer_harm

_MEMORY = 4 << 30


@dataclass(frozen=True, kw_only=True)
class Solver:
    """Solves layers of a model on calibration text, and measures what each of them costs.

    Parameters
    ----------
    model : nn.Module
        The float model; left as it is.
    loader : LanguageLoader or None
        None = data-free.
    activation : ActivationSpec or None
        For static quantization.
    progress : callable(stage, done, total), optional
    """

    model: nn.Module
    loader: LanguageLoader | None
    activation: ActivationSpec | None = None
    progress: Progress | None = None

    @property
    def _batches(self) -> Mapping[str, Sequence[torch.Tensor]]:
        return self.loader.batches if self.loader is not None else {}

    def solve(self, layers: Sequence[Layer], settings: LaaciqSpec, folds: tuple[Fold, ...] | None) -> Solution:
        """`quantize_layers`; what `natural` goes by is the size of the text, of which a quota takes a part."""
        if self.loader is not None and settings.reconcile == "natural" and settings.shares is None:
            settings = replace(settings, shares=self.loader.shares)
        return quantize_layers(
            self.model,
            layers,
            self._batches or None,
            settings,
            activation=self.activation,
            memory=self.loader.memory if self.loader is not None else _MEMORY,
            progress=self.progress,
            folds=folds,
        )

    def measure(self, solution: Solution, languages: Sequence[str]) -> Mapping[str, Mapping[str, float]]:
        """`layer_harm` for some languages, or for all where none of them has calibration text."""
        text = {tag: rows for tag, rows in self._batches.items() if tag in languages}
        return layer_harm(
            self.model, solution.weights, text or self._batches, folds=solution.folds, progress=self.progress
        )

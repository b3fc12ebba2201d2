"""A whole run of static INT8 through Neural Compressor's torch API, as `inc_fit` does it through the adaptor API."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import cast

from torch import nn

from inc_laaciq.backends.inc_torch_static import StaticModel, algorithm, quantize_static
from inc_laaciq.calibration.layers import find_layers, linearize
from inc_laaciq.calibration.loader import LanguageLoader
from inc_laaciq.config import RunSpec
from inc_laaciq.errors import SpecError
from inc_laaciq.layerwise import Solution
from inc_laaciq.tuning.criterion import LanguageCriterion
from inc_laaciq.tuning.searched import searched
from inc_laaciq.tuning.solving import Solver


@dataclass(frozen=True, kw_only=True)
class QuantizedStatic:
    """What a run gives, with the names that Neural Compressor's model of the adaptor API has.

    Parameters
    ----------
    model : StaticModel
    """

    model: StaticModel

    @property
    def la_aciq(self) -> Solution:
        """What was solved."""
        return self.model.la_aciq

    def save(self, folder: str) -> None:
        """Write Neural Compressor's own form: `quantized_weight.pt`, a graph of torch.export, and `qconfig.json`."""
        self.model.save(folder)


def fit_static(
    model: nn.Module, run: RunSpec, loader: LanguageLoader | None, criterion: LanguageCriterion | None = None
) -> QuantizedStatic:
    """Quantize weights and inputs of linear layers to eight bits; the float model is not changed.

    Parameters
    ----------
    model : nn.Module
    run : RunSpec
        Of approach `post_training_static_quant`.
    loader : LanguageLoader or None
    criterion : LanguageCriterion, optional
        Goes on until it is met; if it never is, the best trial is returned, and the criterion says so.

    Raises
    ------
    BackendError
        If Neural Compressor's torch API cannot do it here.
    SpecError
        If there is no calibration text.
    """
    algorithm()  # before anything that takes long
    if loader is None:
        raise SpecError("static INT8 needs calibration text: give la_aciq.calibration.texts")
    model = linearize(model)
    # INT8 kernels take positive scales only.
    run = replace(run, la_aciq=replace(run.la_aciq, signed=False))
    layers = find_layers(model, run.weight, run.rules, lm_head=run.la_aciq.lm_head)
    solver = Solver(model=model, loader=loader, activation=run.activation, progress=loader.progress)
    rows = [batch for part in loader.batches.values() for batch in part]
    realise = partial(quantize_static, model, ranges=run.activation.algorithm, batches=rows)
    if criterion is None:
        return QuantizedStatic(model=realise(solver.solve(layers, run.la_aciq, None)))
    _, judged = searched(layers, run, solver, criterion, realise, bits_can_rise=False)
    return QuantizedStatic(model=cast(StaticModel, judged))

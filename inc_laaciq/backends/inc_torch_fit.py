"""A whole run through Neural Compressor's torch API, as `inc_fit` does it through the adaptor API."""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from neural_compressor.torch.algorithms.weight_only.modules import INCWeightOnlyLinear
from neural_compressor.torch.quantization import RTNConfig, convert, prepare
from torch import nn

from inc_laaciq.backends.inc_torch import layers_of
from inc_laaciq.backends.inc_torch_calibration import RECORDER
from inc_laaciq.backends.inc_torch_config import LAACIQConfig
from inc_laaciq.backends.inc_torch_packing import exactly_packed
from inc_laaciq.calibration.folding import apply_folds
from inc_laaciq.calibration.layers import Layer, linear_layer, linearize
from inc_laaciq.calibration.loader import LanguageLoader
from inc_laaciq.config import RunSpec
from inc_laaciq.errors import BackendError
from inc_laaciq.layerwise import Solution
from inc_laaciq.tuning.criterion import LanguageCriterion
from inc_laaciq.tuning.searched import searched
from inc_laaciq.tuning.solving import Solver


@dataclass(frozen=True, kw_only=True)
class Quantized:
    """What a run gives; it has the methods of the adaptor API's model that a run needs.

    Parameters
    ----------
    model : nn.Module
        In float, with exactly the weights that the codes stand for: what is evaluated.
    packed : nn.Module
        Neural Compressor's, with the same codes and scales in its packed layers.
    la_aciq : Solution
    """

    model: nn.Module
    packed: Any
    la_aciq: Solution

    def save(self, folder: str) -> None:
        """Write Neural Compressor's own form: `quantized_weight.pt` and `qconfig.json`."""
        self.packed.save(folder)

    def export_compressed_model(self, **_form: Any) -> nn.Module:
        """The model in the packed form that computes in float32; the layers of `model` are replaced."""
        for name, weight in self.la_aciq.weights.items():
            parent, _, child = name.rpartition(".")
            packed = exactly_packed(linear_layer(self.model, name), weight)
            setattr(self.model.get_submodule(parent), child, packed)
        return self.model


def fit(
    model: nn.Module, run: RunSpec, loader: LanguageLoader | None, criterion: LanguageCriterion | None = None
) -> Any:
    """Quantize with `laaciq`; the float model is not changed.

    Parameters
    ----------
    model : nn.Module
    run : RunSpec
    loader : LanguageLoader or None
    criterion : LanguageCriterion, optional
        Goes on until it is met; if it never is, the best trial is returned, and the criterion says so.

    Returns
    -------
    Quantized, or QuantizedStatic for static INT8

    Raises
    ------
    BackendError
        If Neural Compressor's torch API has no static INT8 here, and it is asked for.
    """
    if run.approach == "post_training_static_quant":
        from inc_laaciq.backends.inc_torch_static_fit import fit_static

        return fit_static(model, run, loader, criterion)
    model = linearize(model)
    config = LAACIQConfig.from_run(run)
    mapping = config.to_config_mapping(model_info=config.get_model_info(model))
    configs = {name: each for (name, _), each in mapping.items()}
    layers = layers_of(model, configs, lm_head=run.la_aciq.lm_head)
    progress = loader.progress if loader is not None else None
    solver = Solver(model=model, loader=loader, progress=progress)
    if criterion is None:
        solution = solver.solve(layers, run.la_aciq, None)
        exact = rounded(model, solution)
    else:
        solution, exact = searched(layers, run, solver, criterion, partial(rounded, model), bits_can_rise=True)
    return Quantized(model=exact, packed=_through_inc(model, config, solution), la_aciq=solution)


def rounded(model: nn.Module, solution: Solution) -> nn.Module:
    """Copy of a float model that computes with the weights of a solution."""
    exact = copy.deepcopy(model)
    # First, because it scales the layers that stay in float as well as those that are written over.
    apply_folds(exact, solution.folds)
    with torch.no_grad():
        for name, weight in solution.weights.items():
            layer = linear_layer(exact, name)
            # A new one: a layer that shares the old one stays in float.
            layer.weight = nn.Parameter(weight.dequantize().to(layer.weight))
    return exact


def _through_inc(model: nn.Module, config: LAACIQConfig, solution: Solution) -> nn.Module:
    """Neural Compressor's packed model of a solution that is there already."""
    prepared = prepare(model, config, inplace=False)
    getattr(prepared, RECORDER).solution = solution
    packed: nn.Module = convert(prepared)
    return packed


def fit_rtn(model: nn.Module, layers: Sequence[Layer]) -> nn.Module:
    """Neural Compressor's own round-to-nearest of the same layers, at the same bits, on a fresh copy.

    Raises
    ------
    BackendError
        If Neural Compressor quantizes other layers than asked for.
    """
    grids = {layer.name: layer.weight for layer in layers if layer.weight is not None}
    # Its own exception for the output projection would undo ours, so it is told that there is none to make.
    shared = {"use_layer_wise": False, "quant_lm_head": True}
    config = RTNConfig(white_list=None, **shared)
    for name, grid in grids.items():
        own = RTNConfig(bits=grid.bits, group_size=grid.group_size, use_sym=grid.scheme == "sym", **shared)
        config.set_local(rf"{re.escape(name)}\Z", own)
    result: nn.Module = convert(prepare(copy.deepcopy(linearize(model)), config))
    if differing := sorted(quantized_layers(result) ^ grids.keys()):
        raise BackendError(f"Neural Compressor's RTN quantized other layers than la_aciq: {differing}")
    return result


def quantized_layers(model: nn.Module) -> set[str]:
    """Names of the layers that Neural Compressor has packed."""
    return {name for name, module in model.named_modules() if isinstance(module, INCWeightOnlyLinear)}

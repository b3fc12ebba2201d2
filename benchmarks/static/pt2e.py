"""W8A8 through Neural Compressor's torch API (PT2E): la_aciq's ranges and codes, and Neural Compressor's own."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from methods.bench import Bench
from methods.grids import check_layers

from inc_laaciq.backends.inc_torch_static import StaticModel, quantize_static, quiet
from inc_laaciq.backends.static_export import export_model, layer_name
from inc_laaciq.calibration.layers import find_layers
from inc_laaciq.config import ActivationSpec, LaaciqSpec, WeightSpec
from inc_laaciq.config.specs import RangeReconcile
from inc_laaciq.layerwise import Solution, quantize_layers

Batches = Mapping[str, tuple[torch.Tensor, ...]]
Fit = Callable[[Bench, Batches, int], torch.nn.Module]

_WEIGHT = WeightSpec(bits=8, group_size=-1, scheme="sym")


def _shuffled(batches: Batches, seed: int) -> list[torch.Tensor]:
    """Rows of all languages in a random order: Neural Compressor's `minmax` is a moving average."""
    rows = [row.unsqueeze(0) for part in batches.values() for batch in part for row in batch]
    return [rows[place] for place in np.random.default_rng(seed).permutation(len(rows))]


def _solved(bench: Bench, batches: Batches, activation: ActivationSpec) -> Solution:
    model = bench.source.model
    settings = replace(LaaciqSpec(), signed=False)
    return quantize_layers(model, find_layers(model, _WEIGHT), batches, settings, activation=activation)


def fit_ours(activation: ActivationSpec) -> Fit:
    """A fit with la_aciq's weight codes, and input ranges as the yaml could ask for."""

    def fit(bench: Bench, batches: Batches, seed: int) -> torch.nn.Module:
        rows, solution = _shuffled(batches, seed), _solved(bench, batches, activation)
        return quantize_static(bench.source.model, solution, ranges=activation.algorithm, batches=rows)

    return fit


def fit_stock(algorithm: str, *, is_whole: bool = False) -> Fit:
    """A fit that is Neural Compressor's own throughout: of the same layers, or of all that it quantizes by itself."""

    def fit(bench: Bench, batches: Batches, seed: int) -> torch.nn.Module:
        from neural_compressor.torch.quantization import INT8StaticQuantConfig, convert, prepare

        own = {"act_algo": algorithm}
        config = INT8StaticQuantConfig(**own)
        if not is_whole:
            config = INT8StaticQuantConfig(w_dtype="fp32", act_dtype="fp32")
            for name in bench.layers(_WEIGHT.bits, _WEIGHT.group_size)[0]:
                config.set_local(f"model.{name}", INT8StaticQuantConfig(**own))
        with quiet(), torch.no_grad():
            exported = export_model(copy.deepcopy(bench.source.model))
            prepared = prepare(exported.graph, config, example_inputs=exported.example_inputs)
            for row in _shuffled(batches, seed):
                prepared(row, torch.ones_like(row))
            graph = convert(prepared)
        return StaticModel(graph, exported, bench.source.model.config, Solution(weights={}, layers=()))

    return fit


RULES: Mapping[RangeReconcile, str] = {
    "max": "la_aciq, union of ranges",
    "mean": "la_aciq, mean of ranges",
    "pooled": "la_aciq, pooled ranges",
}
"""Method by the rule that makes one range from those of all languages; the default rule is called "la_aciq"."""

FITS: Mapping[str, Fit] = {
    "la_aciq": fit_ours(ActivationSpec()),
    **{
        name: fit_ours(ActivationSpec(reconcile=rule))
        for rule, name in RULES.items()
        if rule != ActivationSpec.reconcile
    },
    "la_aciq codes, inc minmax ranges": fit_ours(ActivationSpec(algorithm="minmax")),
    "inc minmax": fit_stock("minmax"),
    "inc kl": fit_stock("kl"),
    "inc minmax, as it comes": fit_stock("minmax", is_whole=True),
}
"""By method; the last also rounds the output projection, and products such as those within GELU."""

WHOLE = ("inc minmax, as it comes",)


def quantize(bench: Bench, method: str, batches: Batches, seed: int) -> torch.nn.Module:
    """The model with 8-bit weights and activations, from Neural Compressor.

    Raises
    ------
    LayersError
        If it quantized other layers than asked for.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model: Any = FITS[method](bench, batches, seed)
    if method not in WHOLE:
        check_layers(rounded_layers(model.graph), bench.layers(_WEIGHT.bits, _WEIGHT.group_size)[0], method)
    return model


def rounded_layers(graph: Any) -> list[str]:
    """Names of the linear layers of a graph whose weight and input are rounded, sorted."""
    found = set()
    for node in graph.graph.nodes:
        name = layer_name(node)
        if name is not None and all("dequantize_per" in str(place.target) for place in node.args[:2]):
            found.add(name)
    return sorted(found)

"""Static INT8 through Neural Compressor's FX adaptor, with given activation ranges and given weight codes.

Both go in between torch's `prepare_fx` and `convert_fx`, where Neural Compressor calls `model_calibration`: the input
observer of a linear layer gets the language-aware range, and its weight observer hands out the solver's scales.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from neural_compressor.adaptor.pytorch import PyTorch_FXAdaptor
from torch import nn
from torch.ao.quantization import ObserverBase

from inc_laaciq.backends.inc_registration import STRATEGY
from inc_laaciq.config.specs import ActivationAlgorithm
from inc_laaciq.errors import BackendError
from inc_laaciq.layerwise import Solution
from inc_laaciq.quant.solver import QuantizedWeight

logger = logging.getLogger(__name__)

_WRAPPED = ".module"


def plain_name(op_name: str) -> str:
    """Module name behind Neural Compressor's: a lone layer is wrapped, so `lm_head` is called `lm_head.module`."""
    return op_name.removesuffix(_WRAPPED)


class SolvedWeightObserver(ObserverBase):
    """Weight observer that ignores the weights and gives the scales that were solved, one for each channel."""

    def __init__(self, scale: torch.Tensor) -> None:
        super().__init__(dtype=torch.qint8)
        self.qscheme = torch.per_channel_symmetric
        self.ch_axis = 0
        self.quant_min, self.quant_max = -128, 127
        self.scale = scale.flatten().clone()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Observe nothing."""
        return x

    def calculate_qparams(self, **_: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """Scales and zero points, shape (out_features,)."""
        return self.scale, torch.zeros_like(self.scale, dtype=torch.int64)


class _Factory:
    """What torch calls to make an observer; `with_args` is part of its protocol for these."""

    def __init__(self, scale: torch.Tensor) -> None:
        self.scale = scale

    def __call__(self) -> SolvedWeightObserver:
        return SolvedWeightObserver(self.scale)


class LaAciqStaticAdaptor(PyTorch_FXAdaptor):  # type: ignore[misc]
    """Static INT8 adaptor that carries a given solution and, unless `algorithm` is Neural Compressor's, its ranges."""

    solutions: Mapping[int, Solution]
    algorithm: ActivationAlgorithm

    def quantize(self, tune_cfg: dict[str, Any], model: Any, dataloader: Any, q_func: Any = None) -> Any:
        """Quantized copy of the model; the float model stays as it is."""
        self.solution = self.solutions[tune_cfg[STRATEGY].get("trial", 0)]
        for (name, _), config in tune_cfg["op"].items():
            if plain_name(name) in self.solution.weights:
                # The observer of `minmax` takes a range; that of `kl` keeps a histogram.
                config["activation"]["algorithm"] = "minmax" if self.algorithm == STRATEGY else self.algorithm
        model = copy.deepcopy(model)
        with torch.no_grad():
            for name, weight in self.solution.weights.items():
                layer = model.model.get_submodule(name)
                # A new one: a layer that shares the old one stays in float.
                layer.weight = nn.Parameter(weight.dequantize().to(layer.weight))
        quantized = super().quantize(tune_cfg, model, dataloader, q_func)
        quantized.la_aciq = self.solution
        return quantized

    def model_calibration(
        self, q_model: nn.Module, dataloader: Any, iterations: int = 1, conf: Any = None, calib_sampling_size: int = 1
    ) -> None:
        """Neural Compressor's calibration, then the solved ranges and scales over what it observed."""
        super().model_calibration(q_model, dataloader, iterations, conf, calib_sampling_size)
        found = set()
        for name, linear, observer in _observed_linears(q_model):
            if name not in self.solution.weights:
                continue
            found.add(name)
            _give_scales(linear, self.solution.weights[name])
            limits = self.solution.ranges.get(name) if self.algorithm == STRATEGY else None
            if limits is not None:
                observer.min_val.fill_(limits.minimum)
                observer.max_val.fill_(limits.maximum)
        if lost := sorted(self.solution.weights.keys() - found):
            raise BackendError(f"no observer was found for {', '.join(lost)}: their ranges would be lost")


def _observed_linears(prepared: nn.Module) -> Iterator[tuple[str, nn.Linear, Any]]:
    """Every linear layer that has an observer on its input: name, layer, observer."""
    for prefix, graph in prepared.named_modules():
        if not isinstance(graph, torch.fx.GraphModule):
            continue
        modules = dict(graph.named_modules())
        for node in graph.graph.nodes:
            linear = modules.get(node.target) if node.op == "call_module" else None
            if not isinstance(linear, nn.Linear) or not isinstance(node.args[0], torch.fx.Node):
                continue
            observer = modules.get(str(node.args[0].target))
            if isinstance(observer, ObserverBase) and hasattr(observer, "min_val"):
                name = f"{prefix}.{node.target}" if prefix else str(node.target)
                yield plain_name(name), linear, observer


def _give_scales(linear: Any, weight: QuantizedWeight) -> None:
    linear.qconfig = linear.qconfig._replace(weight=_Factory(weight.scale))

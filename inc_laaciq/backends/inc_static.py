"""Static INT8 through Neural Compressor's FX adaptor, with given activation ranges and given weight codes.

Both go in between torch's `prepare_fx` and `convert_fx`, where Neural Compressor calls `model_calibration`: the
observers of a linear layer's input and output get the language-aware ranges, and its weight observer hands out the
solver's scales.
"""

from __future__ import annotations

import copy
import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from neural_compressor.adaptor.pytorch import PyTorch_FXAdaptor
from torch import nn
from torch.ao.quantization import ObserverBase

from inc_laaciq.backends.inc_registration import STRATEGY
from inc_laaciq.config.specs import ActivationAlgorithm
from inc_laaciq.errors import BackendError
from inc_laaciq.layerwise import Solution
from inc_laaciq.quant.activation import Range
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
        given = {name: limits for name, limits in self.solution.output_ranges.items() if name in self._rounded_outputs}
        quantized.la_aciq = replace(self.solution, output_ranges=given)
        return quantized

    def model_calibration(
        self, q_model: nn.Module, dataloader: Any, iterations: int = 1, conf: Any = None, calib_sampling_size: int = 1
    ) -> None:
        """Neural Compressor's calibration, then the solved ranges and scales over what it observed."""
        super().model_calibration(q_model, dataloader, iterations, conf, calib_sampling_size)
        observed = [each for each in _observed_linears(q_model) if each.name in self.solution.weights]
        self._rounded_outputs = set()
        for each in observed:
            _give_scales(each.linear, self.solution.weights[each.name])
        if self.algorithm == STRATEGY:
            # Inputs last: where a layer feeds another one, one observer is both.
            for each in observed:
                limits = self.solution.output_ranges.get(each.name)
                if limits is not None and each.output is not None:
                    _set_range(each.output, limits)
                    self._rounded_outputs.add(each.name)
            for each in observed:
                if (limits := self.solution.ranges.get(each.name)) is not None:
                    _set_range(each.input, limits)
        if lost := sorted(self.solution.weights.keys() - {each.name for each in observed}):
            raise BackendError(f"no observer was found for {', '.join(lost)}: their ranges would be lost")


class _Observed(NamedTuple):
    """A linear layer, the observer of its input, and that of its output if it sees nothing else."""

    name: str
    linear: nn.Linear
    input: Any
    output: Any


def _observed_linears(prepared: nn.Module) -> Iterator[_Observed]:
    """Every linear layer that has an observer on its input."""
    for prefix, graph in prepared.named_modules():
        if not isinstance(graph, torch.fx.GraphModule):
            continue
        # What is joined is rounded to one range: torch observes it with one observer, under several names.
        modules = dict(graph.named_modules(remove_duplicate=False))
        uses = Counter(id(modules[str(node.target)]) for node in graph.graph.nodes if node.op == "call_module")
        for node in graph.graph.nodes:
            linear = modules.get(node.target) if node.op == "call_module" else None
            if not isinstance(linear, nn.Linear) or not isinstance(node.args[0], torch.fx.Node):
                continue
            observer = modules.get(str(node.args[0].target))
            if _takes_range(observer):
                name = f"{prefix}.{node.target}" if prefix else str(node.target)
                users = (modules.get(str(user.target)) for user in node.users)
                own = [user for user in users if _takes_range(user) and uses[id(user)] == 1]
                yield _Observed(plain_name(name), linear, observer, own[0] if len(own) == 1 else None)


def _takes_range(observer: Any) -> bool:
    return isinstance(observer, ObserverBase) and hasattr(observer, "min_val")


def _set_range(observer: Any, limits: Range) -> None:
    observer.min_val.fill_(limits.minimum)
    observer.max_val.fill_(limits.maximum)


def _give_scales(linear: Any, weight: QuantizedWeight) -> None:
    linear.qconfig = linear.qconfig._replace(weight=_Factory(weight.scale))

"""Weight-only quantization through Neural Compressor's adaptor, with given codes and scales."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from neural_compressor.adaptor.pytorch import PyTorchWeightOnlyAdaptor
from torch import nn

from inc_laaciq.backends.inc_registration import STRATEGY
from inc_laaciq.calibration.folding import apply_folds
from inc_laaciq.errors import BackendError
from inc_laaciq.layerwise import Solution
from inc_laaciq.quant.solver import QuantizedWeight


def gptq_entry(weight: QuantizedWeight) -> dict[str, list[list[float]]]:
    """Scale and zero point as Neural Compressor's export takes them; anything else it would derive from absmax.

    Plain floats, because a numpy number saves but does not load.
    """
    rows, groups = weight.scale.shape
    # One row of zeros for all channels: lists of floats are large, and Neural Compressor does not read these.
    zero = [[0.0] * groups] * rows if weight.zero_point is None else weight.zero_point.tolist()
    return {"scale": weight.scale.tolist(), "zero": zero}


class LaAciqWeightOnlyAdaptor(PyTorchWeightOnlyAdaptor):  # type: ignore[misc]
    """Weight-only adaptor that writes a given solution into the model instead of rounding by itself."""

    solutions: Mapping[int, Solution]

    def quantize(self, tune_cfg: dict[str, Any], model: Any, dataloader: Any, calib_func: Any = None) -> Any:
        """Copy of the model with the solution's weights; the float model stays as it is."""
        solution = self.solutions[tune_cfg[STRATEGY].get("trial", 0)]
        for (name, _), config in tune_cfg["op"].items():
            if config["weight"]["dtype"] != "fp32":
                # No algorithm of Neural Compressor has this name, so its own code leaves the weights alone.
                config["weight"]["algorithm"] = STRATEGY.upper()
                if name not in solution.weights:
                    raise BackendError(f"Neural Compressor asks for layer {name!r} to be quantized; it was not solved")
        quantized = super().quantize(tune_cfg, copy.deepcopy(model), dataloader, calib_func)
        # First, because it scales the layers that stay in float as well as those that are written over.
        apply_folds(quantized.model, solution.folds)
        with torch.no_grad():
            for name, weight in solution.weights.items():
                layer = quantized.model.get_submodule(name)
                # A new one: a layer that shares the old one stays in float.
                layer.weight = nn.Parameter(weight.dequantize().to(layer.weight))
        quantized.gptq_config = {name: gptq_entry(weight) for name, weight in solution.weights.items()}
        quantized.la_aciq = solution
        return quantized

"""W8A4, simulated in float: Neural Compressor's static path cannot carry activations of 4 bits.

The input of every quantized layer is rounded to 16 levels on one fixed range by a hook in front of the layer, and its
weights to 8 bits per output channel without clipping.  The matrix products themselves are in float, as an integer
kernel's would be up to the rounding of float sums; outputs of layers are not rounded.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from methods.bench import Bench
from torch import nn

from inc_laaciq.calibration.collect import collect
from inc_laaciq.calibration.layers import linear_layer
from inc_laaciq.config import ActivationSpec
from inc_laaciq.quant.activation import ActivationMoments, Range, static_range
from inc_laaciq.quant.grid import Grid, absmax_parameters, round_to_grid
from static.rules import OTHERS

BITS = 4
WEIGHT_BITS = 8
OURS, MINMAX = "la_aciq", "minmax"

Moments = Mapping[str, ActivationMoments]


def minmax_range(moments: Moments, bits: int) -> Range:
    """From the least to the largest value of the calibration text, zero included."""
    del bits
    return Range(
        minimum=min(0.0, *(one.minimum for one in moments.values())),
        maximum=max(0.0, *(one.maximum for one in moments.values())),
        alpha={},
    )


RANGES: Mapping[str, Callable[[Moments, int], Range]] = {
    OURS: partial(static_range, reconcile=ActivationSpec.reconcile),
    MINMAX: minmax_range,
    **{name: partial(static_range, reconcile=rule) for rule, name in OTHERS.items()},
}
"""By method: the range of a layer's input from the statistics of every language."""


def activations(
    bench: Bench, model: nn.Module, batches: Mapping[str, tuple[torch.Tensor, ...]]
) -> dict[str, dict[str, ActivationMoments]]:
    """Statistics of the inputs of all layers that are to be quantized, by layer and language."""
    layers, _ = bench.layers(WEIGHT_BITS, -1)
    found = collect(model, batches, layers, full=False, counted=True)
    return {name: {tag: one.activation for tag, one in by_tag.items()} for name, by_tag in found.moments.items()}


def rounded_weights(model: nn.Module, layers: list[str]) -> nn.Module:
    """A copy of the model whose layers have weights of 8 bits, one scale for each output channel."""
    model = copy.deepcopy(model).eval()
    grid = Grid(bits=WEIGHT_BITS, scheme="sym")
    with torch.no_grad():
        for name in layers:
            weight = linear_layer(model, name).weight
            weight.copy_(round_to_grid(weight, *absmax_parameters(weight, grid), grid))
    return model


def round_activations(x: torch.Tensor, limits: Range, bits: int) -> torch.Tensor:
    """The nearest of at most 2**bits equally spaced values that cover the range; zero is one of them.

    Parameters
    ----------
    x : tensor, float32
    limits : Range
    bits : int
        2 to 8.

    Returns
    -------
    tensor, same shape; the grid is moved by at most half a step against the range, so that it holds zero.
    """
    top = (1 << bits) - 1
    step = (limits.maximum - limits.minimum) / top
    if step == 0:
        return torch.zeros_like(x)
    zero = min(top, max(0, round(-limits.minimum / step)))
    return torch.fake_quantize_per_tensor_affine(x, step, zero, 0, top)


@contextmanager
def rounding_inputs(model: nn.Module, ranges: Mapping[str, Range], bits: int) -> Iterator[nn.Module]:
    """The model with the inputs of some layers rounded, each on its range; as it was afterwards."""

    def hook_of(limits: Range) -> Callable[..., Any]:
        def hook(_: nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
            return round_activations(inputs[0], limits, bits), *inputs[1:]

        return hook

    handles = [linear_layer(model, name).register_forward_pre_hook(hook_of(limits)) for name, limits in ranges.items()]
    try:
        yield model
    finally:
        for handle in handles:
            handle.remove()

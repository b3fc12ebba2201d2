"""The error that plain rounding makes, and what a layer's weights look like before it."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from inc_laaciq.config import WeightSpec
from inc_laaciq.quant.grid import Grid, absmax_parameters, from_groups, round_to_grid, to_groups


def rounded(weight: torch.Tensor, spec: WeightSpec) -> torch.Tensor:
    """A weight on its grid, without clipping: what Neural Compressor's RTN gives.

    Parameters
    ----------
    weight : tensor, shape (out_features, in_features)
    spec : WeightSpec

    Returns
    -------
    tensor of the same shape, float32.
    """
    grid = Grid(bits=spec.bits, scheme=spec.scheme)
    groups = to_groups(weight.detach().float(), spec.group_size)
    return from_groups(round_to_grid(groups, *absmax_parameters(groups, grid), grid))


def rounding_error(weight: torch.Tensor, spec: WeightSpec) -> torch.Tensor:
    """Rounded weight minus weight; bfloat16 for a half-precision weight, which halves its memory, else float32."""
    error = rounded(weight, spec) - weight.detach().float()
    return error if weight.dtype == torch.float32 else error.bfloat16()


def error_ratio(spec: WeightSpec, bits: int) -> float:
    """Squared rounding error at `bits` as a part of that of `spec`: a step is the range divided by the levels."""
    before, after = (Grid(bits=width, scheme=spec.scheme).qmax for width in (spec.bits, bits))
    return float((before / after) ** 2)


@dataclass(frozen=True, kw_only=True)
class Shape:
    """How far the weights of a layer are from a Gaussian.

    Parameters
    ----------
    kurtosis : float
        Excess kurtosis; 0 for a Gaussian, NaN where all weights are equal.
    peak : float
        Largest magnitude in standard deviations.
    """

    kurtosis: float
    peak: float


def weight_shape(weight: torch.Tensor) -> Shape:
    """Kurtosis and peak of a weight matrix, in float64."""
    values = weight.detach().double()
    centred = values - values.mean()
    variance = centred.square().mean()
    kurtosis = centred.pow(4).mean() / variance.square() - 3
    return Shape(kurtosis=float(kurtosis), peak=float(values.abs().max() / variance.sqrt()))

"""ACIQ for tensors of values: statistics, thresholds, and the choice of a distribution."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from inc_laaciq.errors import NumericError, SpecError
from inc_laaciq.quant.aciq import LAPLACE_SIGMA, alpha_from_kurtosis
from inc_laaciq.quant.clipping import Noise, check_model, unit_alpha
from inc_laaciq.quant.distributions import GAUSSIAN, LAPLACE
from inc_laaciq.quant.grid import Grid, minmax_parameters, round_to_grid

Distribution = Literal["auto", "laplace", "gaussian", "generalized"]


def spread_and_kurtosis(w: Tensor) -> tuple[Tensor, Tensor]:
    """Root mean square and excess kurtosis about zero, the centre of a symmetric grid.

    Parameters
    ----------
    w : Tensor, shape [..., n], floating

    Returns
    -------
    sigma : Tensor, shape [..., 1], float32 or wider.
    kurtosis : Tensor, shape [..., 1]; NaN where it is undefined: fewer than 4 values, or all zero.
    """
    w = w.to(torch.promote_types(w.dtype, torch.float32))
    largest = w.abs().amax(dim=-1, keepdim=True)
    # The fourth power of 1e-12 or 1e12 leaves float32, so moments are taken in units of the largest value.
    squares = (w / torch.where(largest > 0, largest, 1.0)).square_()
    second = squares.mean(dim=-1, keepdim=True)
    fourth = squares.square_().mean(dim=-1, keepdim=True)
    kurtosis = fourth / second.square() - 3.0
    return largest * second.sqrt(), kurtosis if w.shape[-1] >= 4 else torch.full_like(kurtosis, torch.nan)


def aciq_threshold(
    w: Tensor,
    bits: int,
    *,
    distribution: Distribution = "auto",
    noise: Noise = "integer",
    layout: Literal["narrow", "full", "asym"] = "narrow",
) -> Tensor:
    """Clipping threshold around zero of every group of values.

    Parameters
    ----------
    w : Tensor, shape [..., n], floating
        One tensor, channel or group on the last axis; not modified.
    bits : int
        2 to 8.
    distribution : {"auto", "laplace", "gaussian", "generalized"}
        What the values are taken for.  "auto" tries all three, and no clipping, on each group and keeps the one with
        the least squared error, as the "mix" of the paper's own code does.
    noise : {"aciq", "integer"}
        For "laplace" and "gaussian"; "generalized" always uses the integer grid.
    layout : {"narrow", "full", "asym"}
        Which integer grid.

    Returns
    -------
    Tensor, shape [..., 1], float32 or wider: at most the largest magnitude, which it is for a group of zeros or of
    fewer than 4 values.

    Raises
    ------
    SpecError
        If an argument is unknown.
    NumericError
        If `w` holds NaN or infinity.
    """
    if distribution not in get_args(Distribution):
        raise SpecError(f"distribution={distribution!r} is not known. Use one of {', '.join(get_args(Distribution))}.")
    check_model(bits, noise, layout)
    w = w.to(torch.promote_types(w.dtype, torch.float32))
    absmax = w.abs().amax(dim=-1, keepdim=True)
    if not bool(torch.isfinite(absmax).all()):
        raise NumericError(f"{int((~torch.isfinite(w)).sum())} of {w.numel()} values are NaN or infinite.")
    sigma, kurtosis = spread_and_kurtosis(w)

    def candidate(name: str) -> Tensor:
        if name == "laplace":
            alpha = w.abs().mean(dim=-1, keepdim=True) * (LAPLACE_SIGMA * unit_alpha(LAPLACE, bits, noise, layout))
        elif name == "gaussian":
            alpha = sigma * unit_alpha(GAUSSIAN, bits, noise, layout)
        else:
            alpha = alpha_from_kurtosis(sigma, kurtosis, bits, layout=layout)
        return torch.where(torch.isnan(kurtosis) | torch.isnan(alpha), absmax, torch.minimum(alpha, absmax))

    if distribution != "auto":
        return candidate(distribution)
    best, least = absmax, _rounding_error(w, absmax, bits, layout)
    for name in ("laplace", "gaussian", "generalized"):
        alpha = candidate(name)
        error = _rounding_error(w, alpha, bits, layout)
        best, least = torch.where(error < least, alpha, best), torch.minimum(error, least)
    return best


def _rounding_error(w: Tensor, alpha: Tensor, bits: int, layout: str) -> Tensor:
    """Mean squared error of each group on the grid that ends at `alpha`, shape [..., 1]."""
    grid = Grid(bits=bits, scheme="asym" if layout == "asym" else "sym", narrow_range=layout == "narrow")
    scale, zero_point = minmax_parameters(-alpha, alpha, grid, rounded=False)
    return (round_to_grid(w, scale, zero_point, grid) - w).square_().mean(dim=-1, keepdim=True)

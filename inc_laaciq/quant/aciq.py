"""ACIQ: clipping thresholds in closed form, from a few statistics of the values.

Clipping trades a few large errors for a finer grid.  Given a distribution, the best threshold is a constant times its
scale, so finding it costs one pass over the values and no search.  Source: Banner, Nahshan, Soudry: "Post training
4-bit quantization of convolutional networks for rapid-deployment", NeurIPS 2019 (arXiv:1810.05723).

Beyond the paper: the error of the true integer grid instead of the paper's model (`noise`, see `clipping`), and the
whole family of generalized Gaussians, chosen by kurtosis, instead of Laplace and Gauss only.

Statistics come in as numpy arrays, or as torch tensors where speed or a device matters; `tensor_threshold` starts from
the values themselves.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from inc_laaciq.errors import SpecError
from inc_laaciq.quant.clipping import Layout, Noise, positive, unit_alpha
from inc_laaciq.quant.distributions import GAUSSIAN, KURTOSIS_OFFSET, LAPLACE, FloatArray, kurtosis_position
from inc_laaciq.quant.kurtosis_table import kurtosis_table

LAPLACE_SIGMA = float(np.sqrt(2.0))
"""Standard deviation of a Laplace variable with b = 1."""


def optimal_alpha_laplace(b: ArrayLike, bits: int, *, noise: Noise = "aciq", layout: Layout = "narrow") -> FloatArray:
    """Clipping threshold with the least expected squared error for Laplace values.

    Parameters
    ----------
    b : array
        Laplace scale (mean distance from the median), in the unit of the values; > 0.
    bits : int
        2 to 8.
    noise : {"aciq", "integer"}
        The published model of the rounding noise, or the true integer grid.
    layout : {"narrow", "full", "asym", "relu"}
        Which integer grid, see `clipping.Layout`.  The published model knows only "relu" from the rest.

    Returns
    -------
    array, same shape as `b`, in the same unit.

    Raises
    ------
    SpecError
        If `bits`, `noise` or `layout` is unknown.
    NumericError
        If `b` is not positive and finite.

    Notes
    -----
    "aciq" solves 2 exp(-a) = 2 a / (3 * 4**bits) for a = alpha / b.  Source: Banner et al. 2019 (arXiv:1810.05723).

    Examples
    --------
    >>> round(float(optimal_alpha_laplace(np.array(1.0), bits=4)), 4)
    5.0286
    """
    return positive(b, "b") * (LAPLACE_SIGMA * unit_alpha(LAPLACE, bits, noise, layout))


def optimal_alpha_gaussian(
    sigma: ArrayLike, bits: int, *, noise: Noise = "aciq", layout: Layout = "narrow"
) -> FloatArray:
    """Clipping threshold with the least expected squared error for Gaussian values.

    Parameters and errors as for `optimal_alpha_laplace`, with the standard deviation `sigma` in the place of `b`.

    Examples
    --------
    >>> round(float(optimal_alpha_gaussian(1.0, bits=4)), 4)
    2.5591
    >>> round(float(optimal_alpha_gaussian(1.0, bits=4, noise="integer")), 4)
    2.4739
    """
    return positive(sigma, "sigma") * unit_alpha(GAUSSIAN, bits, noise, layout)


def optimal_alpha_generalized(
    sigma: ArrayLike, excess_kurtosis: ArrayLike, bits: int, *, layout: Layout = "narrow"
) -> FloatArray:
    """Clipping threshold with the least expected squared error for generalized Gaussian values on an integer grid.

    Parameters
    ----------
    sigma, excess_kurtosis : array, broadcastable
        Standard deviation, > 0, and excess kurtosis (0 for Gauss, 3 for Laplace), about the centre of the grid.
        Kurtosis outside -1.197 to 2.8e6 counts as the nearer end.
    bits, layout
        As for `optimal_alpha_laplace`.

    Returns
    -------
    array, as broadcast, in the unit of `sigma`; NaN where the kurtosis is NaN.

    Raises
    ------
    SpecError
        If `bits` or `layout` is unknown.
    NumericError
        If `sigma` is not positive and finite.
    """
    table = kurtosis_table(bits, layout)
    relative: FloatArray = np.interp(kurtosis_position(excess_kurtosis), table.nodes, table.alphas)
    return positive(sigma, "sigma") * relative


def alpha_from_kurtosis(sigma: Tensor, kurtosis: Tensor, bits: int, *, layout: Layout = "narrow") -> Tensor:
    """`optimal_alpha_generalized` for torch tensors, fast enough for millions of channels.

    Parameters
    ----------
    sigma, kurtosis : Tensor, floating, broadcastable
        Standard deviation and excess kurtosis about the centre of the grid.
    bits, layout
        As for `optimal_alpha_laplace`.

    Returns
    -------
    Tensor, as broadcast, the dtype of `sigma` or float32.  NaN where there is no answer: `sigma` not positive and
    finite, or the kurtosis undefined (NaN or infinite).  The caller takes absmax there.

    Raises
    ------
    SpecError
        If `bits` or `layout` is unknown.

    Examples
    --------
    >>> alpha_from_kurtosis(torch.tensor([1.0, 1.0, 0.0]), torch.tensor([0.0, 3.0, 0.0]), bits=4)
    tensor([2.4739, 3.4082,    nan])
    """
    table = kurtosis_table(bits, layout)
    sigma = sigma.to(torch.promote_types(sigma.dtype, torch.float32))
    alphas = torch.tensor(table.alphas, dtype=sigma.dtype, device=sigma.device)
    slopes = torch.diff(alphas, append=alphas[-1:])
    first = float(table.nodes[0])
    lowest = float(np.exp(first)) - KURTOSIS_OFFSET
    position = torch.nan_to_num(kurtosis.to(sigma.dtype), nan=0.0).clamp_(min=lowest)
    position.add_(KURTOSIS_OFFSET).log_().sub_(first).div_(table.step).clamp_(0.0, len(table.alphas) - 1.0)
    index = position.flatten().to(torch.int32)
    relative = slopes.index_select(0, index).mul_(position.flatten().sub_(index))
    relative = relative.add_(alphas.index_select(0, index)).view(position.shape)
    is_usable = torch.isfinite(kurtosis) & torch.isfinite(sigma) & (sigma > 0)
    return torch.where(is_usable, sigma * relative, torch.nan)


def seed_alpha(sigma: Tensor, kurtosis: Tensor, bits: int) -> Tensor:
    """Threshold of the rule of thumb ``sigma (2.5 + 0.3 ln(1 + kurtosis))``, kept for comparison.

    It does not depend on `bits`, and was fitted to 4.  At 6 bits it makes 2.7 (Gauss) to 5.7 (Laplace) times the
    squared error of the best threshold, at 8 bits 27 to 54 times, so it is refused outside 3 to 5 bits.

    Parameters
    ----------
    sigma, kurtosis : Tensor, broadcastable
        Standard deviation and excess kurtosis; a negative kurtosis counts as 0, which the logarithm needs.
    bits : int
        3 to 5.

    Returns
    -------
    Tensor, as broadcast; NaN where the kurtosis is NaN.

    Raises
    ------
    SpecError
        If `bits` is outside 3 to 5.
    """
    if bits not in (3, 4, 5):
        raise SpecError(
            f"bits={bits!r} does not suit the formula alpha = sigma (2.5 + 0.3 ln(1 + kurtosis)): it holds for 3 to 5 "
            f"bits only. For other widths use alpha_from_kurtosis (modes 'fast' and 'balanced')."
        )
    return sigma * (2.5 + 0.3 * torch.log1p(kurtosis.clamp(min=0.0)))

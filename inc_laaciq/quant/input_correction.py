"""A weight that makes up for an input that is no longer what it was, because earlier layers are quantized."""

from __future__ import annotations

import torch

from inc_laaciq.quant.gptq import damped_cholesky


def corrected_weight(
    weight: torch.Tensor, second_moment: torch.Tensor, difference: torch.Tensor, damping: float
) -> torch.Tensor:
    """The weight whose output on the changed input is closest to the float output on the float input.

    Parameters
    ----------
    weight : tensor, shape (out_features, in_features), float32; not modified
    second_moment : tensor, shape (in_features, in_features)
        Mean of q q^T over tokens, with q the input as it is now.
    difference : tensor, shape (in_features, in_features)
        Mean of (x - q) q^T, with x the input of the float model for the same token.
    damping : float
        Share of the mean diagonal that is added to the second moment, in (0, 1).

    Returns
    -------
    tensor, same shape as `weight`

    Notes
    -----
    Least squares: argmin over V of the mean of |W x - V q|^2 is W + W D H^-1, with H the second moment and D the
    difference.
    """
    factor = damped_cholesky(second_moment, damping)
    if factor is None:
        return weight
    step = torch.cholesky_solve((weight @ difference).T, factor).T
    return weight + step

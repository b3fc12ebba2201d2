"""Mean and norm of quantized weights, put back per output channel.

Rounding a channel to few levels moves its mean and changes its spread.  Both can be undone after the fact, without
data: ``xi * (w_q + mu)``.  Source: Banner et al. 2019 (arXiv:1810.05723), "Bias-correction".

`xi` folds into a channel's scales, so it fits every format.  `mu` does not: it needs a float offset per channel, for
which a weight-only integer format has no room.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from inc_laaciq.errors import SpecError


@dataclass(frozen=True, kw_only=True)
class BiasCorrection:
    """Correction ``xi * (w_q + mu)`` of quantized weights.

    Parameters
    ----------
    xi : Tensor, shape [out_features, 1, ...]
        Spread of the channel's weights over that of its quantized weights; 1 where the latter have none.
    mu : Tensor, shape [out_features, 1, ...]
        Mean of the channel's weights minus that of its quantized weights.
    """

    xi: Tensor
    mu: Tensor

    def apply(self, w_quantized: Tensor) -> Tensor:
        """Corrected weights, the shape of `w_quantized`, which is not modified."""
        return self.xi * (w_quantized + self.mu)


def bias_correction(w: Tensor, w_quantized: Tensor) -> BiasCorrection:
    """Correction that gives every output channel its mean and its spread back.

    Parameters
    ----------
    w, w_quantized : Tensor, shape [out_features, ...]
        Weights before and after quantization, both in weight units.

    Returns
    -------
    BiasCorrection, float32 or wider.  Corrected weights have the spread of `w`, and its mean times `xi`, as published.

    Raises
    ------
    SpecError
        If the shapes differ, or have fewer than two dimensions.

    Examples
    --------
    >>> w = torch.tensor([[0.9, 2.1, -1.2, 0.2]])
    >>> correction = bias_correction(w, torch.round(w))
    >>> round(float(correction.mu), 4), round(float(correction.xi), 4)
    (0.0, 1.0677)
    """
    if w.shape != w_quantized.shape or w.dim() < 2:
        raise SpecError(
            f"Weights of shape {tuple(w.shape)} cannot correct quantized weights of shape {tuple(w_quantized.shape)}. "
            f"Give two tensors of one shape, [out_features, ...]."
        )
    dtype = torch.promote_types(w.dtype, torch.float32)
    w, w_quantized = w.to(dtype), w_quantized.to(dtype)
    inputs = tuple(range(1, w.dim()))
    mean = w.mean(dim=inputs, keepdim=True)
    mean_quantized = w_quantized.mean(dim=inputs, keepdim=True)
    spread = (w - mean).square().sum(dim=inputs, keepdim=True).sqrt()
    spread_quantized = (w_quantized - mean_quantized).square().sum(dim=inputs, keepdim=True).sqrt()
    xi = torch.where(spread_quantized > 0, spread / spread_quantized, 1.0)
    return BiasCorrection(xi=xi, mu=mean - mean_quantized)

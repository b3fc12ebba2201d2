"""Codes and scales as continuous numbers that can be tuned by gradients, and back.

The grid, the group size and the number of bits stay what they were: only which code a weight gets and the size of a
scale change.  A weight is always used as it will be stored, with integer codes and an fp16 scale; the gradient passes
through both roundings as if they were not there (straight through).
"""

from __future__ import annotations

from dataclasses import replace

import torch

from inc_laaciq.quant.grid import dequantize, round_scale
from inc_laaciq.quant.solver import QuantizedWeight

# A weight never starts so near the edge of its code that the first step would move it to the next one.
_EDGE = 0.45


class LatentWeight:
    """One layer's codes and scales while they are tuned.

    Parameters
    ----------
    start : QuantizedWeight
        Where the tuning starts.
    target : tensor, shape (out_features, in_features)
        The weight that `start` was made from.  It says which code is the next best one of each weight.
    """

    def __init__(self, start: QuantizedWeight, target: torch.Tensor) -> None:
        self._start = start
        shape = (*start.scale.shape, -1)
        self._zero_point = None if start.zero_point is None else start.zero_point.float()[..., None]
        scale = start.scale[..., None]
        wanted = target.float().reshape(shape) / scale
        if self._zero_point is not None:
            wanted = wanted + self._zero_point
        codes = start.codes.float().reshape(shape)
        self.position = codes + (wanted - codes).clamp_(-_EDGE, _EDGE)
        """Codes before they are rounded, shape (out_features, n_groups, group_size)."""
        self.log_ratio = torch.zeros_like(scale)
        """Logarithm of scale / starting scale, shape (out_features, n_groups, 1)."""

    @property
    def scale(self) -> torch.Tensor:
        """Scale as stored, shape (out_features, n_groups, 1)."""
        return round_scale(self._start.scale[..., None] * self.log_ratio.exp())

    @property
    def codes(self) -> torch.Tensor:
        """Integer codes as float32, shape (out_features, n_groups, group_size)."""
        grid = self._start.grid
        return self.position.round().clamp_(grid.qmin, grid.qmax)

    def weight(self) -> torch.Tensor:
        """The weight that the codes stand for now, shape (out_features, in_features)."""
        return dequantize(self.codes, self.scale, self._zero_point).reshape(self._start.codes.shape)

    def gradients(self, gradient: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Gradients with respect to `position` and `log_ratio`.

        Parameters
        ----------
        gradient : tensor, shape (out_features, in_features)
            Gradient with respect to `weight()`.
        """
        gradient = gradient.reshape(self.position.shape)
        scale = self.scale
        along = dequantize(self.codes, scale, self._zero_point)
        return gradient * scale, (gradient * along).sum(-1, keepdim=True)

    def move(self, step: torch.Tensor) -> None:
        """Add a step to `position`, which stays within reach of the grid's ends."""
        grid = self._start.grid
        self.position.add_(step).clamp_(grid.qmin - _EDGE, grid.qmax + _EDGE)

    def quantized(self) -> QuantizedWeight:
        """Codes and scales as they are now."""
        grid = self._start.grid
        return replace(
            self._start,
            codes=self.codes.reshape(self._start.codes.shape).to(grid.code_dtype),
            scale=self.scale.squeeze(-1),
        )

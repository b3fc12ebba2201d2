"""Codes and scales moved, in turns, to where the output error is least while the rest stays as it is.

Error compensation goes through the columns once and never comes back.  Here each group of columns is looked at again,
with the errors of all others known: first its scales get their least squares, then its columns their best codes.
Source of the cyclic descent: Behdin et al. 2023, "QuantEase" (arXiv 2309.01885).
"""

from __future__ import annotations

import torch

from inc_laaciq.quant.grid import Grid, round_scale

_BLOCK = 64
_SPAN = 512  # columns whose pull is found by one product: with fewer the product is bound by memory


def refine(
    weight: torch.Tensor,
    hessian: torch.Tensor,
    grid: Grid,
    codes: torch.Tensor,
    scale: torch.Tensor,
    zero_point: torch.Tensor | None,
    *,
    damping: float,
    rounds: int,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Better codes and scales for the same objective; on the damped second moment no output channel gets worse.

    Parameters
    ----------
    weight : tensor, shape (out_features, in_features), float32
    hessian : tensor, shape (in_features, in_features)
    codes : tensor, shape (out_features, in_features), float32 with integer values
    scale : tensor, shape (out_features, n_groups)
    zero_point : the same shape, or None for a symmetric grid; it stays as it is
    damping : float
        Share of the mean diagonal that is added to the second moment, as in the compensation.
    rounds : int
        Times that all groups are gone through. A round costs about one product of the weight and the second moment.

    Returns
    -------
    codes : tensor, shape (out_features, in_features), float32 with integer values
    scale : tensor, shape (out_features, n_groups), float32
    target : tensor, shape (out_features, in_features), float32
        What each code was rounded from.
    """
    mean = float(hessian.diagonal().mean())
    if not mean > 0:
        return codes, scale, weight
    damped = hessian.clone()
    damped.diagonal().add_(damping * mean)
    # One column of the weight is one contiguous row from here on, and so is one group's scale for all channels.
    columns, scale = weight.T.contiguous(), scale.T.float().clone(memory_format=torch.contiguous_format)
    zero = torch.zeros_like(scale) if zero_point is None else zero_point.T.float().contiguous()
    size = len(columns) // len(scale)
    steps = codes.T.contiguous() - zero.repeat_interleave(size, 0)
    error = columns - steps * scale.repeat_interleave(size, 0)
    target = columns.clone()
    span = size * max(1, _SPAN // size)
    for start in rounds * list(range(0, len(columns), span)):
        end = min(start + span, len(columns))
        pull = damped[start:end] @ error  # half the gradient
        for first in range(start, end, size):
            last, group = first + size, first // size
            before = error[first:last].clone()
            here = damped[first:last, first:last], steps[first:last], scale[group], error[first:last]
            _fit_scale(*here, pull[first - start : last - start])
            low, high = grid.qmin - zero[group], grid.qmax - zero[group]
            _sweep(*here, pull[first - start : last - start], target[first:last], low=low, high=high)
            pull[last - start :].addmm_(damped[last:end, first:last], error[first:last] - before)
    steps += zero.repeat_interleave(size, 0)
    return steps.T.contiguous(), scale.T.contiguous(), target.T.contiguous()


def _fit_scale(
    hessian: torch.Tensor, steps: torch.Tensor, scale: torch.Tensor, error: torch.Tensor, pull: torch.Tensor
) -> None:
    """Least-squares scale of one group in every channel, rounded to fp16; kept where it would not lower the error.

    Changes `scale`, `error` and `pull` in place.
    """
    response = hessian @ steps
    square = (steps * response).sum(0)
    slope = (steps * pull).sum(0)
    wanted = scale + slope / square
    # A group of zeros has no scale to fit; and a scale keeps its sign, as codes of the other sign would be others.
    usable = (square > 0) & torch.isfinite(wanted) & (wanted * scale > 0) & (wanted.abs() < 2 * scale.abs())
    change = round_scale(torch.where(usable, wanted, scale)) - scale
    change = torch.where(change * (change * square - 2 * slope) < 0, change, 0.0)
    scale += change
    error.addcmul_(steps, change, value=-1)
    pull.addcmul_(response, change, value=-1)


def _sweep(
    hessian: torch.Tensor,
    steps: torch.Tensor,
    scale: torch.Tensor,
    error: torch.Tensor,
    pull: torch.Tensor,
    target: torch.Tensor,
    *,
    low: torch.Tensor,
    high: torch.Tensor,
) -> None:
    """Every column of a group in turn at its best level, given all others; changes the tensors in place."""
    diagonal = hessian.diagonal().tolist()
    for start in range(0, len(steps), _BLOCK):
        end = min(start + _BLOCK, len(steps))
        before = error[start:end].clone()
        for column in range(start, end):
            wanted = steps[column] + pull[column] / (scale * diagonal[column])
            best = wanted.round().clamp_(low, high)
            moved = (steps[column] - best).mul_(scale)
            steps[column] = best
            error[column] += moved
            torch.mul(wanted, scale, out=target[column])
            pull[column + 1 : end].addr_(hessian[column + 1 : end, column], moved)
        pull[end:].addmm_(hessian[end:, start:end], error[start:end] - before)

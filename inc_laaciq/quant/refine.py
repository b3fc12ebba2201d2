"""Codes and scales moved, in turns, to where the output error is least while the rest stays as it is.

Error compensation goes through the columns once and never comes back.  Here each column is looked at again, with the
errors of all others known; in between, the scales of an output channel are solved for together, and taken where they
make the objective better.
Source of the cyclic descent: Behdin et al. 2023, "QuantEase" (arXiv 2309.01885).
"""

from __future__ import annotations

import torch

from inc_laaciq.quant.grid import Grid, round_scale

_BLOCK = 64
_NORMAL = 1 << 24  # numbers in the normal equations of the channels that are solved for at once: 64 MiB


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
    """Better codes and scales for the same objective.

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
        Of scales and codes.

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
    steps = codes if zero_point is None else codes - _wide(zero_point, codes)
    low, high = torch.full_like(steps, grid.qmin), torch.full_like(steps, grid.qmax)
    if zero_point is not None:
        low, high = low - _wide(zero_point, codes), high - _wide(zero_point, codes)
    target = weight
    for _ in range(rounds):
        scale = _fit_scales(weight, damped, steps, scale)
        steps, target = _sweep(weight, damped, steps, _wide(scale, steps), low, high)
    return steps if zero_point is None else steps + _wide(zero_point, codes), scale, target


def _wide(per_group: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """A number for each group as a number for each column."""
    return per_group.float().repeat_interleave(like.shape[1] // per_group.shape[1], 1)


def _fit_scales(weight: torch.Tensor, hessian: torch.Tensor, steps: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """Scales of every output channel with the least output error for these codes, rounded to fp16.

    A channel whose error that does not lower, by rounding or because a group has no scale to fit, keeps its own.
    """
    groups = scale.shape[1]
    parts = zip(*(torch.split(part, max(1, _NORMAL // groups**2)) for part in (weight, steps, scale)), strict=True)
    return torch.cat([_fit_some(each, hessian, codes, before) for each, codes, before in parts])


def _fit_some(weight: torch.Tensor, hessian: torch.Tensor, steps: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """`_fit_scales` of some of the channels, whose normal equations fit into memory."""
    rows, groups = scale.shape
    size = steps.shape[1] // groups
    wanted = (weight @ hessian).mul_(steps).view(rows, groups, size).sum(-1)
    normal = torch.empty(rows, groups, groups)
    for group in range(groups):
        members = slice(group * size, (group + 1) * size)
        normal[:, group] = (steps[:, members] @ hessian[members]).mul_(steps).view(rows, groups, size).sum(-1)
    # A group whose codes are all zero has no scale to fit.
    empty = normal.diagonal(dim1=1, dim2=2) <= 0
    normal.diagonal(dim1=1, dim2=2)[empty] = 1.0
    found, failed = torch.linalg.solve_ex(normal, wanted.unsqueeze(-1))
    found = found.squeeze(-1)
    usable = ~empty & (failed == 0)[:, None] & torch.isfinite(found) & (found.abs() < 2 * scale.abs())
    # A scale keeps its sign: codes of the other sign would be others.
    fitted = round_scale(torch.where(usable & (found * scale > 0), found, scale))
    lower = _error(normal, wanted, fitted) < _error(normal, wanted, scale)
    return torch.where(lower[:, None], fitted, scale)


def _error(normal: torch.Tensor, wanted: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """Output error of every channel, but for what no scale changes."""
    return ((normal @ scale.unsqueeze(-1)).squeeze(-1) - 2 * wanted).mul_(scale).sum(-1)


def _sweep(
    weight: torch.Tensor,
    hessian: torch.Tensor,
    steps: torch.Tensor,
    scale: torch.Tensor,
    low: torch.Tensor,
    high: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Every column in turn at its best level, given all others; and where that level was rounded from."""
    steps = steps.T.contiguous()
    scale, low, high = scale.T.contiguous(), low.T.contiguous(), high.T.contiguous()
    error = weight.T - steps * scale
    pull = hessian @ error  # half the gradient, one row for each column of the weight
    diagonal = hessian.diagonal()
    target = torch.empty_like(steps)
    for start in range(0, len(steps), _BLOCK):
        end = min(start + _BLOCK, len(steps))
        change = torch.empty(end - start, steps.shape[1])
        for column in range(start, end):
            wanted = steps[column] + pull[column] / diagonal[column] / scale[column]
            best = wanted.round().clamp_(low[column], high[column])
            moved = (steps[column] - best).mul_(scale[column])
            steps[column] = best
            target[column] = wanted * scale[column]
            change[column - start] = moved
            pull[start:end].addr_(hessian[start:end, column], moved)
        pull[:start].addmm_(hessian[:start, start:end], change)
        pull[end:].addmm_(hessian[end:, start:end], change)
    return steps.T.contiguous(), target.T.contiguous()

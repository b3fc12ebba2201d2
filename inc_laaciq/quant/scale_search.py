"""The scale of every group: absmax, ACIQ's closed form, or a short search, never worse than absmax.

In small groups the closed form is weak (a group of 64 has no distribution to speak of), so a short search
over clipping ratios takes its place; per channel the closed form is nearly as good and far cheaper.
Rows are processed in blocks that stay in the processor's cache: the work is bound by memory otherwise.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from inc_laaciq.quant.aciq import alpha_from_kurtosis, seed_alpha
from inc_laaciq.quant.clipping import Layout
from inc_laaciq.quant.grid import Grid, absmax_parameters, minmax_parameters, round_scale

# Elements of a block: 256 kB of float32, so that a block and its temporaries fit a core's L2 cache.
_BLOCK = 1 << 16
_COARSE = tuple(1.0 - 0.1 * step for step in range(8))
_FINE = (0.05, 0.025)

Parameters = tuple[torch.Tensor, torch.Tensor | None]


def rounding_error(
    groups: torch.Tensor, parameters: Parameters, grid: Grid, importance: torch.Tensor | None
) -> torch.Tensor:
    """Weighted squared rounding error of every group.

    Parameters
    ----------
    groups : tensor, shape (rows, n_groups, group_size)
    parameters : scale and zero point, each of shape (rows, n_groups, 1)
    importance : tensor, shape (n_groups, group_size), or None for equal importance

    Returns
    -------
    tensor, shape (rows, n_groups, 1)
    """
    scale, zero_point = parameters
    error = torch.div(groups, scale).round_()
    if zero_point is None:
        error.clamp_(grid.qmin, grid.qmax)
    else:
        error.add_(zero_point).clamp_(grid.qmin, grid.qmax).sub_(zero_point)
    error.mul_(scale).sub_(groups).square_()
    if importance is not None:
        error.mul_(importance)
    return error.sum(-1, keepdim=True)


def better(
    groups: torch.Tensor, first: Parameters, second: Parameters, grid: Grid, importance: torch.Tensor | None
) -> Parameters:
    """For every group, whichever parameters round it with less error; ties keep `first`."""
    wins = rounding_error(groups, second, grid, importance) < rounding_error(groups, first, grid, importance)
    return _select(wins, second, first)


def _select(condition: torch.Tensor, yes: Parameters, no: Parameters) -> Parameters:
    scale = torch.where(condition, yes[0], no[0])
    if yes[1] is None or no[1] is None:
        return scale, None
    return scale, torch.where(condition, yes[1], no[1])


def closed_form(groups: torch.Tensor, grid: Grid, importance: torch.Tensor | None) -> Parameters:
    """ACIQ's threshold from the kurtosis of each group, or absmax where that rounds better.

    With `importance` the moments are weighted, so the distribution is the one that the languages see.
    """
    layout: Layout = "full" if grid.scheme == "sym" else "asym"

    def formula(sigma: torch.Tensor, kurtosis: torch.Tensor) -> torch.Tensor:
        return alpha_from_kurtosis(sigma, kurtosis, grid.bits, layout=layout)

    return _clip(groups, grid, importance, formula)


def paper_formula(groups: torch.Tensor, grid: Grid, importance: torch.Tensor | None) -> Parameters:
    """Alpha = sigma (2.5 + 0.3 ln(1 + kurtosis)), with the same guard as every other rule."""
    return _clip(groups, grid, importance, lambda sigma, kurtosis: seed_alpha(sigma, kurtosis, grid.bits))


def _clip(
    groups: torch.Tensor,
    grid: Grid,
    importance: torch.Tensor | None,
    formula: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
) -> Parameters:
    """Parameters of the threshold that a formula gives, or of absmax where those round better."""
    blocks = _blocks(groups)
    # The formula is evaluated once for all rows: on the few rows of a block it would cost more than their moments.
    low, high, second, fourth = (
        torch.cat(part) for part in zip(*(_moments(block, importance) for block in blocks), strict=True)
    )
    absmax = torch.maximum(-low, high)
    kurtosis = fourth / second.square().clamp_min(torch.finfo(second.dtype).tiny) - 3.0
    alpha = formula(second.sqrt(), kurtosis)
    alpha = torch.where(torch.isfinite(alpha) & (alpha > 0), torch.minimum(alpha, absmax), absmax)
    plain = minmax_parameters(low, high, grid, rounded=True)
    clipped = minmax_parameters(torch.maximum(low, -alpha), torch.minimum(high, alpha), grid, rounded=True)
    best = [
        better(block, first, second_, grid, importance)
        for block, first, second_ in zip(blocks, _split(plain, blocks), _split(clipped, blocks), strict=True)
    ]
    return _join(best)


def _moments(block: torch.Tensor, importance: torch.Tensor | None) -> tuple[torch.Tensor, ...]:
    """Minimum, maximum, and second and fourth moment about zero of every group, each of shape (rows, n_groups, 1)."""
    squares = block.square()
    if importance is None:
        second = squares.mean(-1, keepdim=True)
        fourth = squares.square_().mean(-1, keepdim=True)
    else:
        share = importance / importance.sum(-1, keepdim=True).clamp_min(torch.finfo(importance.dtype).tiny)
        second = (squares * share).sum(-1, keepdim=True)
        fourth = squares.square_().mul_(share).sum(-1, keepdim=True)
    return block.amin(-1, keepdim=True), block.amax(-1, keepdim=True), second, fourth


def _blocks(groups: torch.Tensor) -> list[torch.Tensor]:
    """Rows in blocks that stay in a core's cache."""
    return list(torch.split(groups, max(1, _BLOCK // (groups.shape[1] * groups.shape[2]))))


def _split(parameters: Parameters, blocks: list[torch.Tensor]) -> list[Parameters]:
    sizes = [len(block) for block in blocks]
    scales = torch.split(parameters[0], sizes)
    zero_points = [None] * len(blocks) if parameters[1] is None else torch.split(parameters[1], sizes)
    return list(zip(scales, zero_points, strict=True))


def _join(parts: list[Parameters]) -> Parameters:
    zero_points = [part[1] for part in parts if part[1] is not None]
    return torch.cat([part[0] for part in parts]), torch.cat(zero_points) if zero_points else None


def round_groups(groups: torch.Tensor, parameters: Parameters, grid: Grid) -> torch.Tensor:
    """Codes of finite weights, a cache-sized block at a time.

    Parameters
    ----------
    groups : tensor, shape (out_features, n_groups, group_size)
    parameters : scale and zero point, each of shape (out_features, n_groups, 1)

    Returns
    -------
    tensor, shape (out_features, n_groups * group_size), int8 or uint8
    """
    codes = torch.empty(groups.shape, dtype=grid.code_dtype)
    blocks = _blocks(groups)
    for block, (scale, zero_point), target in zip(blocks, _split(parameters, blocks), _blocks(codes), strict=True):
        levels = torch.div(block, scale).round_()
        if zero_point is not None:
            levels.add_(zero_point)
        target.copy_(levels.clamp_(grid.qmin, grid.qmax))
    return codes.reshape(len(groups), -1)


def search(groups: torch.Tensor, grid: Grid, importance: torch.Tensor | None, *, signed: bool = False) -> Parameters:
    """Clipping ratio with least weighted error, for every group; absmax is among the candidates.

    A coarse pass over ratios 1.0 to 0.3, then two refinements around each group's best.  With `signed`, a
    symmetric scale may be negative, which hands the grid's extra level to the positive side.
    """
    absmax = absmax_parameters(groups, grid, rounded=True)
    best, least = absmax, rounding_error(groups, absmax, grid, importance)
    ratio = torch.ones_like(least)

    def consider(candidate: Parameters, candidate_ratio: torch.Tensor | float) -> None:
        nonlocal best, least, ratio
        error = rounding_error(groups, candidate, grid, importance)
        wins = error < least
        best = _select(wins, candidate, best)
        least = torch.where(wins, error, least)
        ratio = torch.where(wins, candidate_ratio, ratio)

    for coarse in _COARSE:
        shrunk = _shrink(absmax, coarse)
        if coarse != 1.0:
            consider(shrunk, coarse)
        if signed and grid.scheme == "sym":
            consider((-shrunk[0], None), coarse)
    for step in _FINE:
        sign = best[0].sign()
        centre = ratio
        for near in (centre - step, centre + step):
            scale, zero_point = _shrink(absmax, near)
            consider((scale * sign, zero_point), near)
    if best[1] is not None:  # clip one end only: the same step, moved by one level
        centre_zero = best[1]
        for shift in (-1, 1):
            consider((best[0], (centre_zero + shift).clamp(grid.qmin, grid.qmax)), ratio)
    return best


def _shrink(absmax: Parameters, ratio: torch.Tensor | float) -> Parameters:
    """Parameters of the range of absmax times `ratio`; the zero point stays, so both ends shrink alike."""
    return round_scale(absmax[0] * ratio), absmax[1]


def search_groups(groups: torch.Tensor, grid: Grid, importance: torch.Tensor | None, *, signed: bool) -> Parameters:
    """`search` for all rows, a cache-sized block at a time."""
    return _join([search(block, grid, importance, signed=signed) for block in _blocks(groups)])

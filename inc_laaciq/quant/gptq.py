"""Error compensation: each column's rounding error is spread over the columns not yet rounded.

Source: Frantar et al. 2022, GPTQ (arXiv 2210.17323), with the clipping search of this package inside: a group's
scale is chosen when its first column is reached, on the weights as compensated so far.
"""

from __future__ import annotations

import math

import torch

from inc_laaciq.errors import NumericError
from inc_laaciq.quant.grid import Grid
from inc_laaciq.quant.scale_search import search

_BLOCK = 128


def damped_cholesky(matrix: torch.Tensor, damping: float) -> torch.Tensor | None:
    """Lower Cholesky factor of a second moment with damping; None if the matrix is zero.

    `damping` is a share of the mean diagonal; it grows tenfold until the factorization succeeds, which a
    layer with fewer calibration tokens than features can need.

    Raises
    ------
    NumericError
        If the matrix is not finite, or no damping up to 100 times the mean diagonal helps.
    """
    mean = float(matrix.diagonal().mean())
    if not math.isfinite(mean):
        raise NumericError(f"the second moment ({len(matrix)} features) holds NaN or infinity")
    if mean <= 0:  # no language reaches this layer: there is nothing to compensate for
        return None
    share = damping
    while True:
        damped = matrix.clone()
        damped.diagonal().add_(share * mean)
        factor, failed = torch.linalg.cholesky_ex(damped)
        if not int(failed):
            return torch.as_tensor(factor)
        if share >= 100:
            raise NumericError(
                f"the second moment ({len(matrix)} features) cannot be factorized even with damping {share:g}"
            )
        share = min(10 * share, 100.0)


def inverse_factor(hessian: torch.Tensor, damping: float) -> torch.Tensor:
    """Upper Cholesky factor of the damped inverse Hessian, shape (in_features, in_features).

    Raises
    ------
    NumericError
        As `damped_cholesky`.
    """
    # Factorized from the last feature to the first, H = U U^T with U upper triangular; then H^-1 = U^-T U^-1.
    factor = damped_cholesky(hessian.flip(0, 1), damping)
    eye = torch.eye(len(hessian))
    return eye if factor is None else torch.linalg.solve_triangular(factor.flip(0, 1), eye, upper=True)


def _block_length(group_size: int) -> int:
    """Columns per block: whole groups where they are small, a divisor of the group where it is large."""
    if group_size <= _BLOCK:
        return group_size * (_BLOCK // group_size)
    return next(length for length in range(_BLOCK, 0, -1) if group_size % length == 0)


def compensate(
    weight: torch.Tensor, hessian: torch.Tensor, grid: Grid, group_size: int, *, signed: bool, damping: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None, torch.Tensor]:
    """Codes with error compensation.

    Parameters
    ----------
    weight : tensor, shape (out_features, in_features), float32; not modified
    hessian : tensor, shape (in_features, in_features)
        Second moment of the layer's input, mixed over languages.
    group_size : int
        Divides in_features.

    Returns
    -------
    codes : tensor, shape (out_features, in_features), float32 with integer values
    scale : tensor, shape (out_features, n_groups), float32
    zero_point : the same shape, or None for a symmetric grid
    target : tensor, shape (out_features, in_features), float32
        What each code was rounded from: the weight, with the errors of the columns before it made up for.
    """
    # One column of W is then one contiguous row.  A copy also where W has a single row, which is contiguous either way.
    columns = weight.T.clone(memory_format=torch.contiguous_format)
    in_features, out_features = columns.shape
    importance = hessian.diagonal().clone()
    factor = inverse_factor(hessian, damping)
    codes = torch.empty_like(columns)
    scales = torch.empty(in_features // group_size, out_features)
    zero_points = torch.empty_like(scales) if grid.scheme == "asym" else None
    length = _block_length(group_size)
    for start in range(0, in_features, length):
        end = min(start + length, in_features)
        errors = torch.empty(end - start, out_features)
        for column in range(start, end):
            group = column // group_size
            if column % group_size == 0:
                members = slice(column, column + group_size)
                found = search(
                    columns[members].T.contiguous()[:, None, :], grid, importance[None, members], signed=signed
                )
                scales[group] = found[0][:, 0, 0]
                if zero_points is not None and found[1] is not None:
                    zero_points[group] = found[1][:, 0, 0]
            scale, value = scales[group], columns[column]
            code = torch.div(value, scale).round_()
            if zero_points is None:
                code.clamp_(grid.qmin, grid.qmax)
                rounded = code * scale
            else:
                code.add_(zero_points[group]).clamp_(grid.qmin, grid.qmax)
                rounded = (code - zero_points[group]) * scale
            codes[column] = code
            error = (value - rounded) / factor[column, column]
            errors[column - start] = error
            if column + 1 < end:
                columns[column + 1 : end].addr_(factor[column, column + 1 : end], error, alpha=-1.0)
        if end < in_features:
            columns[end:].addmm_(factor[start:end, end:].T, errors, alpha=-1.0)
    zero_point = None if zero_points is None else zero_points.T.contiguous()
    # A column is not touched any more once it is rounded.
    return codes.T.contiguous(), scales.T.contiguous(), zero_point, columns.T.contiguous()

"""Codes and scales looked at again: never worse, and where brute force can tell, at the best code."""

from __future__ import annotations

import pytest
import torch

from inc_laaciq.quant.gptq import compensate
from inc_laaciq.quant.grid import Grid, dequantize
from inc_laaciq.quant.refine import _fit_scale, refine

OUT, IN, GROUP = 12, 96, 32


def problem(scheme="sym", bits=3, seed=0, n=400):
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(OUT, IN, generator=generator)
    x = torch.randn(n, IN, generator=generator) @ torch.randn(IN, IN, generator=generator)
    hessian, grid = x.T @ x / n, Grid(bits=bits, scheme=scheme)
    codes, scale, zero_point, _ = compensate(weight, hessian, grid, GROUP, signed=scheme == "sym", damping=0.01)
    return weight, hessian, grid, codes, scale, zero_point


def cost(weight, hessian, codes, scale, zero_point):
    """Output error of every channel, on the damped second moment that is minimised."""
    damped = hessian + 0.01 * hessian.diagonal().mean() * torch.eye(len(hessian))
    groups = codes.reshape(*scale.shape, -1)
    zero = None if zero_point is None else zero_point[..., None]
    error = dequantize(groups, scale[..., None], zero).reshape(weight.shape) - weight
    return ((error @ damped) * error).sum(1)


@pytest.mark.parametrize("scheme", ["sym", "asym"])
@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("seed", [0, 1])
def test_no_channel_gets_worse_and_the_layer_gets_better(scheme, bits, seed):
    weight, hessian, grid, codes, scale, zero_point = problem(scheme, bits, seed)
    before = cost(weight, hessian, codes, scale, zero_point)
    new_codes, new_scale, _ = refine(weight, hessian, grid, codes, scale, zero_point, damping=0.01, rounds=4)
    after = cost(weight, hessian, new_codes, new_scale, zero_point)
    assert bool((after <= before * (1 + 1e-3)).all())
    assert after.sum() < 0.97 * before.sum()
    assert new_codes.min() >= grid.qmin
    assert new_codes.max() <= grid.qmax
    assert torch.equal(new_codes, new_codes.round())
    assert torch.equal(new_scale, new_scale.half().float())
    assert bool((new_scale * scale > 0).all())


@pytest.mark.parametrize("rows", [1, OUT])
def test_a_channel_of_one_group_and_a_single_channel_leave_what_is_given_as_it_is(rows):
    weight, hessian, grid, *_ = problem()
    weight = weight[:rows].clone()
    codes, scale, zero_point, _ = compensate(weight, hessian, grid, IN, signed=True, damping=0.01)
    assert torch.equal(weight, problem()[0][:rows])
    given = codes.clone(), scale.clone()
    new_codes, new_scale, _ = refine(weight, hessian, grid, codes, scale, zero_point, damping=0.01, rounds=3)
    assert torch.equal(weight, problem()[0][:rows])
    assert torch.equal(codes, given[0])
    assert torch.equal(scale, given[1])
    before, after = cost(weight, hessian, codes, scale, None), cost(weight, hessian, new_codes, new_scale, None)
    assert bool((after <= before * (1 + 1e-3)).all())
    assert not torch.equal(scale, new_scale)


def test_no_single_code_could_be_better():
    """Brute force: every code of every weight, one at a time."""
    weight, hessian, grid, codes, scale, zero_point = problem(bits=2)
    found, new_scale, _ = refine(weight, hessian, grid, codes, scale, zero_point, damping=0.01, rounds=40)
    reached = cost(weight, hessian, found, new_scale, None)
    for column in range(IN):
        for level in range(grid.qmin, grid.qmax + 1):
            other = found.clone()
            other[:, column] = level
            assert bool((cost(weight, hessian, other, new_scale, None) >= reached * (1 - 1e-4)).all())


@pytest.mark.parametrize("group", range(IN // GROUP))
def test_scales_are_the_least_squares_ones_for_the_codes(group):
    """Independent oracle: linear regression, for one channel, with all its other groups as they are."""
    weight, hessian, _, codes, scale, _ = problem(n=4000)
    factor = torch.linalg.cholesky(hessian.double()).T
    members = slice(group * GROUP, (group + 1) * GROUP)
    error = (weight - codes * scale.repeat_interleave(GROUP, 1)).T
    pull, found = hessian[members] @ error, scale[:, group].clone()
    before = error[members].clone()
    _fit_scale(hessian[members, members], codes[:, members].T, found, error[members], pull)
    for row in range(OUT):
        regressor = (factor[:, members] @ codes[row, members].double()).unsqueeze(1)
        others = codes[row] * scale[row].repeat_interleave(GROUP)
        others[members] = 0
        expected = torch.linalg.lstsq(regressor, factor @ (weight[row] - others).double()).solution
        torch.testing.assert_close(found[row].double(), expected[0], rtol=2e-3, atol=1e-4)
    # What is known of the others stays true.
    torch.testing.assert_close(error[members], before + codes[:, members].T * (scale[:, group] - found))
    torch.testing.assert_close(pull, hessian[members] @ error, rtol=1e-3, atol=1e-2)


def test_what_the_codes_were_rounded_from_rounds_to_them():
    weight, hessian, grid, codes, scale, zero_point = problem()
    found, new_scale, target = refine(weight, hessian, grid, codes, scale, zero_point, damping=0.01, rounds=2)
    wide = new_scale.repeat_interleave(GROUP, 1)
    assert torch.equal((target / wide).round().clamp(grid.qmin, grid.qmax), found)


def test_a_group_of_zeros_and_a_layer_without_tokens_stay_as_they_are():
    weight, hessian, grid, codes, scale, zero_point = problem()
    weight[:, :GROUP], codes[:, :GROUP] = 0.0, 0.0
    found, new_scale, _ = refine(weight, hessian, grid, codes, scale, zero_point, damping=0.01, rounds=2)
    assert bool(torch.isfinite(new_scale).all())
    assert cost(weight, hessian, found, new_scale, None).sum() <= cost(weight, hessian, codes, scale, None).sum()
    same, same_scale, target = refine(weight, 0 * hessian, grid, codes, scale, zero_point, damping=0.01, rounds=2)
    assert torch.equal(same, codes)
    assert torch.equal(same_scale, scale)
    assert torch.equal(target, weight)

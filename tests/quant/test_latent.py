"""Codes and scales as numbers that gradients can move."""

from __future__ import annotations

import pytest
import torch

from inc_laaciq.quant.grid import Grid
from inc_laaciq.quant.latent import LatentWeight
from inc_laaciq.quant.solver import SolverSpec, solve


def start(scheme="sym", bits=3):
    weight = torch.randn(6, 16, generator=torch.Generator().manual_seed(0))
    spec = SolverSpec(bits=bits, group_size=8, scheme=scheme, mode="fast", signed=scheme == "sym")
    return weight, solve(weight, spec)


@pytest.mark.parametrize("scheme", ["sym", "asym"])
def test_it_starts_where_the_codes_are(scheme):
    weight, solved = start(scheme)
    latent = LatentWeight(solved, weight)
    assert torch.equal(latent.weight(), solved.dequantize())
    again = latent.quantized()
    assert torch.equal(again.codes, solved.codes)
    assert torch.equal(again.scale, solved.scale)
    assert again.codes.dtype == solved.codes.dtype


def test_the_nearest_other_code_is_the_one_on_the_side_of_the_target():
    weight, solved = start()
    latent = LatentWeight(solved, weight)
    wanted = weight.reshape(6, 2, 8) / solved.scale[..., None]
    ahead = latent.position - solved.codes.reshape(6, 2, 8)
    assert bool((ahead.abs() <= 0.45 + 1e-6).all())
    assert bool((ahead * (wanted - solved.codes.reshape(6, 2, 8)) >= 0).all())


@pytest.mark.parametrize("scheme", ["sym", "asym"])
def test_gradients_are_those_of_the_formula_with_both_roundings_passed_through(scheme):
    weight, solved = start(scheme)
    latent = LatentWeight(solved, weight)
    upstream = torch.randn(6, 16, generator=torch.Generator().manual_seed(1))

    position = solved.codes.float().reshape(6, 2, 8).requires_grad_()
    ratio = torch.zeros(6, 2, 1, requires_grad=True)
    zero_point = 0.0 if solved.zero_point is None else solved.zero_point.float()[..., None]
    formula = (position - zero_point) * solved.scale[..., None] * ratio.exp()
    formula.backward(upstream.reshape(6, 2, 8))

    along_position, along_ratio = latent.gradients(upstream)
    torch.testing.assert_close(along_position, position.grad)
    torch.testing.assert_close(along_ratio, ratio.grad)


@pytest.mark.parametrize("scheme", ["sym", "asym"])
def test_whatever_the_steps_the_codes_stay_on_the_grid_and_the_scales_in_fp16(scheme):
    weight, solved = start(scheme)
    latent = LatentWeight(solved, weight)
    generator = torch.Generator().manual_seed(2)
    for _ in range(20):
        latent.move(10 * torch.randn(latent.position.shape, generator=generator))
        latent.log_ratio += 0.1 * torch.randn(latent.log_ratio.shape, generator=generator)
    moved = latent.quantized()
    grid = Grid(bits=3, scheme=scheme)
    assert moved.codes.min() >= grid.qmin
    assert moved.codes.max() <= grid.qmax
    assert not torch.equal(moved.codes, solved.codes)
    assert torch.equal(moved.scale, moved.scale.half().float())
    assert torch.equal(moved.scale.sign(), solved.scale.sign())
    assert torch.equal(moved.dequantize(), latent.weight())


def test_a_weight_at_the_end_of_the_grid_comes_back_after_one_step():
    weight, solved = start()
    latent = LatentWeight(solved, weight)
    latent.move(torch.full(latent.position.shape, 100.0))
    latent.move(torch.full(latent.position.shape, -1.0))
    assert bool((latent.codes == solved.grid.qmax - 1).all())

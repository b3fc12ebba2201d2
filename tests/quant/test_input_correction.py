"""The weight that makes up for a changed input, against plain least squares."""

from __future__ import annotations

import torch

from inc_laaciq.quant.input_correction import corrected_weight


def texts(seed=0, n=400, features=12):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, features, generator=generator)
    q = x + 0.3 * torch.randn(n, features, generator=generator) + 0.1 * x.roll(1, 1)
    return x, q, torch.randn(5, features, generator=generator)


def correct(x, q, weight, damping=1e-6):
    return corrected_weight(weight, q.T @ q / len(q), (x - q).T @ q / len(q), damping)


def test_it_is_the_least_squares_solution():
    x, q, weight = texts()
    expected = torch.linalg.lstsq(q, x @ weight.T).solution.T
    torch.testing.assert_close(correct(x, q, weight), expected, rtol=1e-3, atol=1e-3)


def test_the_output_comes_closer_to_the_float_output():
    x, q, weight = texts()
    before = (q @ weight.T - x @ weight.T).square().mean()
    after = (q @ correct(x, q, weight, damping=0.01).T - x @ weight.T).square().mean()
    assert after < 0.9 * before


def test_an_input_that_did_not_change_leaves_the_weight_as_it_is():
    x, _, weight = texts()
    assert torch.equal(correct(x, x, weight), weight)


def test_a_layer_that_only_sees_zeros_is_left_as_it_is():
    x, q, weight = texts()
    assert torch.equal(correct(0 * x, 0 * q, weight), weight)

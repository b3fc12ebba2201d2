from __future__ import annotations

import pytest
import torch
from hypothesis import given
from strategies import weights

from inc_laaciq.errors import SpecError
from inc_laaciq.quant.bias_correction import bias_correction
from inc_laaciq.quant.grid import Grid, absmax_parameters, round_to_grid


def _rounded(w: torch.Tensor, bits: int = 3) -> torch.Tensor:
    grid = Grid(bits=bits, scheme="sym")
    return round_to_grid(w, *absmax_parameters(w, grid), grid)


def _weights() -> torch.Tensor:
    return torch.randn(6, 200, generator=torch.Generator().manual_seed(0)).exp() - 1  # skewed: its mean moves


def test_terms_against_a_slow_loop():
    w = _weights()
    w_quantized = _rounded(w)
    correction = bias_correction(w, w_quantized)
    for channel in range(len(w)):
        a, b = w[channel].double(), w_quantized[channel].double()
        assert correction.mu[channel].item() == pytest.approx((a.sum() - b.sum()).item() / 200, abs=1e-6)
        norm_a = sum(float(x) ** 2 for x in a - a.mean()) ** 0.5
        norm_b = sum(float(x) ** 2 for x in b - b.mean()) ** 0.5
        assert correction.xi[channel].item() == pytest.approx(norm_a / norm_b, rel=1e-5)


def test_mean_and_spread_come_back():
    w = _weights()
    correction = bias_correction(w, _rounded(w))
    corrected = correction.apply(_rounded(w))
    assert torch.allclose(corrected.std(1), w.std(1), rtol=1e-5)
    assert torch.allclose(corrected.mean(1), correction.xi[:, 0] * w.mean(1), atol=1e-6)


@given(weights(min_size=2))
def test_weights_that_were_not_rounded_stay(w):
    assert torch.allclose(bias_correction(w, w).apply(w), w)


@given(weights(min_size=2))
def test_finite_even_where_rounding_left_no_spread(w):
    w_quantized = torch.zeros_like(w)
    correction = bias_correction(w, w_quantized)
    assert torch.equal(correction.xi, torch.ones_like(correction.xi))
    assert torch.isfinite(correction.apply(w_quantized)).all()


def test_inputs_are_not_modified_and_any_number_of_dimensions_works():
    w = _weights().reshape(6, 8, 5, 5)
    w_quantized = torch.round(w)
    copies = w.clone(), w_quantized.clone()
    correction = bias_correction(w, w_quantized)
    assert correction.xi.shape == (6, 1, 1, 1)
    flat = bias_correction(w.reshape(6, -1), w_quantized.reshape(6, -1))
    assert torch.allclose(correction.xi.flatten(), flat.xi.flatten())
    correction.apply(w_quantized)
    assert torch.equal(w, copies[0])
    assert torch.equal(w_quantized, copies[1])


@pytest.mark.parametrize(("first", "second"), [((2, 3), (2, 4)), ((3,), (3,))])
def test_shapes_must_agree(first, second):
    with pytest.raises(SpecError, match="one shape"):
        bias_correction(torch.zeros(first), torch.zeros(second))

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from strategies import weights

from inc_laaciq.errors import NumericError, SpecError
from inc_laaciq.quant.aciq import optimal_alpha_gaussian, optimal_alpha_generalized, optimal_alpha_laplace
from inc_laaciq.quant.grid import Grid, minmax_parameters, round_to_grid
from inc_laaciq.quant.tensor_threshold import aciq_threshold, spread_and_kurtosis

layouts = st.sampled_from(["narrow", "full", "asym"])
bits = st.sampled_from([2, 4])
distributions = st.sampled_from(["auto", "laplace", "gaussian", "generalized"])


def _values(name: str, n: int = 5_000) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    uniform = torch.rand(1, n, generator=generator, dtype=torch.float64).clamp(1e-9, 1 - 1e-9)
    if name == "laplace":
        return -(uniform - 0.5).sign() * torch.log1p(-2 * (uniform - 0.5).abs())
    return torch.randn(1, n, generator=generator, dtype=torch.float64)


def _error(w: torch.Tensor, alpha: torch.Tensor, bits: int, layout: str) -> torch.Tensor:
    grid = Grid(bits=bits, scheme="asym" if layout == "asym" else "sym", narrow_range=layout == "narrow")
    scale, zero_point = minmax_parameters(-alpha, alpha, grid, rounded=False)
    return (round_to_grid(w, scale, zero_point, grid) - w).square().sum(-1)


def test_statistics_against_scipy():
    w = _values("laplace") * 3 + 1
    sigma, kurtosis = spread_and_kurtosis(w)
    about_zero = torch.cat([w, -w], dim=-1).numpy()  # symmetric about zero, so scipy's mean is zero too
    assert sigma.item() == pytest.approx(about_zero.std())
    assert kurtosis.item() == pytest.approx(stats.kurtosis(about_zero, axis=-1).item())


@pytest.mark.parametrize("factor", [1e-30, 1e30])
def test_statistics_neither_underflow_nor_overflow(factor):
    w = _values("gaussian").float()
    sigma, kurtosis = spread_and_kurtosis(w * factor)
    assert sigma.item() == pytest.approx(spread_and_kurtosis(w)[0].item() * factor, rel=1e-4)
    assert kurtosis.item() == pytest.approx(spread_and_kurtosis(w)[1].item(), abs=1e-4)


@pytest.mark.parametrize(
    "w", [torch.zeros(1, 8), torch.tensor([[1.0, 2.0, 3.0]])], ids=["no spread", "fewer than 4 values"]
)
def test_undefined_kurtosis_falls_back_to_absmax(w):
    assert math.isnan(spread_and_kurtosis(w)[1].item())
    for distribution in ("auto", "laplace", "gaussian", "generalized"):
        assert aciq_threshold(w, 4, distribution=distribution).item() == w.abs().max().item()


def test_each_distribution_uses_its_own_statistic():
    w = _values("laplace")
    b, sigma = w.abs().mean().item(), w.square().mean().sqrt().item()
    kurtosis = spread_and_kurtosis(w)[1].item()
    for noise in ("aciq", "integer"):
        assert aciq_threshold(w, 4, distribution="laplace", noise=noise).item() == pytest.approx(
            float(optimal_alpha_laplace(b, 4, noise=noise))
        )
        assert aciq_threshold(w, 4, distribution="gaussian", noise=noise).item() == pytest.approx(
            float(optimal_alpha_gaussian(sigma, 4, noise=noise))
        )
        assert aciq_threshold(w, 4, distribution="generalized", noise=noise).item() == pytest.approx(
            float(optimal_alpha_generalized(sigma, kurtosis, 4))
        )


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("name", ["laplace", "gaussian"])
def test_close_to_the_best_threshold_of_a_search(name, bits):
    w = _values(name)
    found = _error(w, aciq_threshold(w, bits), bits, "narrow")
    best = min(_error(w, w.abs().amax() * ratio / 60, bits, "narrow") for ratio in range(3, 61))
    # at 8 bits the best threshold hangs on the few largest of the 5000 values, which no statistic knows
    assert found.item() <= best.item() * (1.15 if bits == 8 else 1.02)


@given(weights(min_size=4), bits, layouts)
def test_auto_is_never_worse_than_absmax_or_a_single_distribution(w, bits, layout):
    auto = _error(w, aciq_threshold(w, bits, layout=layout), bits, layout)
    others = [
        aciq_threshold(w, bits, distribution=name, layout=layout) for name in ("laplace", "gaussian", "generalized")
    ]
    for alpha in (w.abs().amax(-1, keepdim=True), *others):
        other = _error(w, alpha, bits, layout)
        assert bool((auto <= other * (1 + 1e-5)).all())


@given(weights(), bits, distributions, layouts)
def test_between_zero_and_absmax_and_inputs_unmodified(w, bits, distribution, layout):
    copy = w.clone()
    alpha = aciq_threshold(w, bits, distribution=distribution, layout=layout)
    assert alpha.shape == (len(w), 1)
    assert bool(((alpha >= 0) & (alpha <= w.abs().amax(-1, keepdim=True))).all())
    assert torch.equal(w, copy)


@given(weights(min_size=4), bits, distributions, st.integers(-6, 6))
def test_powers_of_two_scale_the_threshold(w, bits, distribution, exponent):
    factor = 2.0**exponent
    alpha = aciq_threshold(w, bits, distribution=distribution)
    assert torch.allclose(aciq_threshold(w * factor, bits, distribution=distribution), alpha * factor, rtol=1e-5)


def test_every_group_is_on_its_own():
    w = torch.cat([_values("laplace"), _values("gaussian")]).reshape(2, 4, -1)
    together = aciq_threshold(w, 4)
    assert together.shape == (2, 4, 1)
    for row in range(2):
        for group in range(4):
            assert together[row, group].item() == pytest.approx(aciq_threshold(w[row, group], 4).item())


def test_half_precision_is_widened():
    w = (_values("gaussian", 64) * 300).to(torch.float16)  # fourth powers would overflow
    assert aciq_threshold(w, 4).item() == pytest.approx(aciq_threshold(w.float(), 4).item())


def test_unknown_distribution_is_refused():
    with pytest.raises(SpecError, match="auto, laplace, gaussian, generalized"):
        aciq_threshold(torch.ones(1, 8), 4, distribution="cauchy")


def test_values_that_are_not_numbers_are_refused():
    with pytest.raises(NumericError, match="1 of 8 values"):
        aciq_threshold(torch.tensor([[1.0, math.nan, 2.0, 3.0, 1.0, 1.0, 1.0, 1.0]]), 4)

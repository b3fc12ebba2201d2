from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from strategies import bits

from inc_laaciq.errors import NumericError, SpecError
from inc_laaciq.quant.clipping import (
    clipping_mse_gaussian,
    clipping_mse_generalized,
    clipping_mse_laplace,
    unit_alpha,
    unit_mse,
)
from inc_laaciq.quant.distributions import excess_kurtosis_of_shape, spread_of_shape
from inc_laaciq.quant.grid import Grid, minmax_parameters, round_to_grid

LAYOUTS = ("narrow", "full", "asym", "relu")
layouts = st.sampled_from(LAYOUTS)
noises = st.sampled_from(["aciq", "integer"])
shapes = st.floats(np.log(0.15), np.log(40.0)).map(lambda x: float(np.exp(x)))


@lru_cache
def _values(shape: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Evenly spaced values and their probabilities: expectations without the noise of random draws."""
    spread = float(spread_of_shape(shape))
    end = float(stats.gennorm.isf(1e-10, shape, scale=spread))
    x = torch.linspace(-end, end, 20_001, dtype=torch.float64)
    density = torch.from_numpy(stats.gennorm.pdf(x.numpy(), shape, scale=spread))
    return x, density / density.sum()


def _rounded_by_the_grid(shape: float, alpha: float, bits: int, layout: str) -> float:
    """Squared error that grid.py really makes with threshold `alpha`."""
    x, probability = _values(shape)
    x = x.clamp(min=0.0) if layout == "relu" else x
    scheme = "asym" if layout in ("asym", "relu") else "sym"
    grid = Grid(bits=bits, scheme=scheme, narrow_range=layout == "narrow")
    low, high = (torch.tensor(end, dtype=torch.float64) for end in (0.0 if layout == "relu" else -alpha, alpha))
    scale, zero_point = minmax_parameters(low, high, grid, rounded=False)
    return float(((round_to_grid(x, scale, zero_point, grid) - x).square() * probability).sum())


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("bits", [2, 3, 8])
@pytest.mark.parametrize("shape", [0.7, 2.0, 5.0])
def test_integer_error_is_what_the_grid_makes(shape, bits, layout):
    for ratio in (0.7, 1.3):
        alpha = ratio * unit_alpha(shape, bits, "integer", layout)
        expected = float(unit_mse(np.array(alpha), shape, bits, "integer", layout))
        assert _rounded_by_the_grid(shape, alpha, bits, layout) == pytest.approx(expected, rel=2e-3)


@given(st.floats(1e-3, 1e3), st.floats(0.5, 20.0), bits)
def test_aciq_laplace_as_published(b, ratio, bits):
    # Banner et al. 2019 (arXiv:1810.05723), Laplace case: 2 b**2 exp(-alpha / b) + alpha**2 / (3 * 4**M)
    alpha = ratio * b
    expected = 2 * b**2 * math.exp(-alpha / b) + alpha**2 / (3 * 4**bits)
    assert clipping_mse_laplace(b, alpha, bits) == pytest.approx(expected)


@given(st.floats(1e-3, 1e3), st.floats(0.5, 6.0), bits)
def test_aciq_gaussian_as_published(sigma, ratio, bits):
    # the same, Gaussian case
    alpha = ratio * sigma
    clipping = (sigma**2 + alpha**2) * (1 - math.erf(alpha / (sigma * math.sqrt(2)))) - math.sqrt(
        2 / math.pi
    ) * alpha * sigma * math.exp(-(alpha**2) / (2 * sigma**2))
    expected = clipping + alpha**2 / (3 * 4**bits)
    assert clipping_mse_gaussian(sigma, alpha, bits) == pytest.approx(expected, rel=1e-9, abs=1e-14 * sigma**2)


@given(shapes, bits, noises, layouts, st.floats(0.01, 0.3))
def test_no_other_threshold_is_better(shape, bits, noise, layout, epsilon):
    best = unit_alpha(shape, bits, noise, layout)
    alphas = best * np.array([1.0, 1 - epsilon, 1 + epsilon])
    error = unit_mse(alphas, shape, bits, noise, layout)
    assert error[0] <= error[1:].min()


@given(st.floats(0.2, 5.0), bits, layouts, st.integers(-20, 20))
def test_powers_of_two_scale_the_error(ratio, bits, layout, exponent):
    factor = 2.0**exponent
    once = clipping_mse_generalized(1.0, 4.0, ratio, bits, layout=layout)
    assert clipping_mse_generalized(factor, 4.0, ratio * factor, bits, layout=layout) == once * factor**2


def test_laplace_and_gauss_are_members_of_the_family():
    alpha = np.linspace(0.5, 8, 20)
    laplace = clipping_mse_laplace(1.0, alpha, 4, noise="integer")
    assert clipping_mse_generalized(np.sqrt(2), 3.0, alpha, 4) == pytest.approx(laplace, rel=1e-5)
    gauss = clipping_mse_gaussian(1.0, alpha, 4, noise="integer")
    assert clipping_mse_generalized(1.0, 0.0, alpha, 4) == pytest.approx(gauss, rel=1e-5)


def test_arrays_broadcast():
    sigma, kurtosis = np.array([[1.0], [2.0]]), np.array([0.0, 3.0, 10.0])
    error = clipping_mse_generalized(sigma, kurtosis, 4.0, 4)
    assert error.shape == (2, 3)
    assert error[1, 2] == pytest.approx(float(clipping_mse_generalized(2.0, 10.0, 4.0, 4)))


@pytest.mark.parametrize(
    ("bits", "noise", "layout", "message"),
    [
        (1, "aciq", "narrow", "bits=1"),
        (9, "aciq", "narrow", "bits=9"),
        (4, "none", "narrow", "noise='none' is not known. Use one of aciq, integer"),
        (4, "aciq", "wide", "layout='wide' is not known. Use one of narrow, full, asym, relu"),
    ],
)
def test_unknown_models_are_refused(bits, noise, layout, message):
    with pytest.raises(SpecError, match=message):
        clipping_mse_laplace(1.0, 1.0, bits, noise=noise, layout=layout)
    with pytest.raises(SpecError, match=message):
        unit_alpha(1.0, bits, noise, layout)


@pytest.mark.parametrize("bad", [0.0, -1.0, math.nan, math.inf])
def test_statistics_must_be_positive_and_finite(bad):
    with pytest.raises(NumericError, match="b must be positive and finite"):
        clipping_mse_laplace([1.0, bad], 1.0, 4)
    with pytest.raises(NumericError, match="alpha must be positive and finite"):
        clipping_mse_gaussian(1.0, bad, 4)


@given(shapes, bits)
def test_kurtosis_or_shape_gives_the_same_error(shape, bits):
    by_kurtosis = clipping_mse_generalized(1.0, excess_kurtosis_of_shape(shape), 3.0, bits)
    assert by_kurtosis == pytest.approx(float(unit_mse(np.array(3.0), shape, bits, "integer", "narrow")), rel=1e-3)

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize, stats
from strategies import bits

from inc_laaciq.errors import NumericError, SpecError
from inc_laaciq.quant.aciq import (
    alpha_from_kurtosis,
    optimal_alpha_gaussian,
    optimal_alpha_generalized,
    optimal_alpha_laplace,
    seed_alpha,
)
from inc_laaciq.quant.clipping import clipping_mse_gaussian, clipping_mse_generalized, clipping_mse_laplace

# Constants in the code of Banner et al. (submission2019/cnn-quantization, int_quantizer.py), bits 2 to 8.
PUBLISHED_GAUSSIAN = [1.71063519, 2.15159277, 2.55913646, 2.93620062, 3.28691474, 3.6151146, 3.92403714]
PUBLISHED_LAPLACE = [2.83068299, 3.89722946, 5.02864014, 6.20476633, 7.41312622, 8.64561995, 9.89675982]
PUBLISHED_ONE_SIDED_LAPLACE = [3.89722946, 5.02864014, 6.20476633, 7.41312622, 8.64561995, 9.89675982, 11.16268502]

# Least squared error of the true symmetric grid, by numerical integration over 60 000 points and a search.
INTEGER_GAUSSIAN = {2: 1.224, 3: 1.952, 4: 2.474, 5: 2.899, 6: 3.270, 8: 3.921}
INTEGER_LAPLACE = {2: 2.000, 3: 3.486, 4: 4.820, 5: 6.098, 6: 7.358, 8: 9.882}

# The same for generalized Gaussians, alpha / sigma by excess kurtosis.
BY_KURTOSIS = {
    4: {0: 2.47, 0.88: 2.83, 3: 3.41, 5.6: 3.89, 12.6: 4.76, 22: 5.55, 49: 6.94, 109: 8.76, 171: 10.0},
    8: {0: 3.92, 3: 6.99, 12.6: 12.4, 49: 21.6, 171: 34.4},
}


@pytest.mark.parametrize("bits", range(2, 9))
def test_published_constants(bits):
    assert optimal_alpha_gaussian(1.0, bits) == pytest.approx(PUBLISHED_GAUSSIAN[bits - 2], abs=1e-5)
    assert optimal_alpha_laplace(1.0, bits) == pytest.approx(PUBLISHED_LAPLACE[bits - 2], abs=1e-5)
    one_sided = optimal_alpha_laplace(1.0, bits, layout="relu")
    assert one_sided == pytest.approx(PUBLISHED_ONE_SIDED_LAPLACE[bits - 2], abs=1e-5)


@pytest.mark.parametrize("bits", INTEGER_GAUSSIAN)
def test_constants_of_the_integer_grid(bits):
    assert optimal_alpha_gaussian(1.0, bits, noise="integer") == pytest.approx(INTEGER_GAUSSIAN[bits], abs=1e-3)
    assert optimal_alpha_laplace(1.0, bits, noise="integer") == pytest.approx(INTEGER_LAPLACE[bits], abs=1e-3)


@pytest.mark.parametrize(
    ("bits", "kurtosis"), [(bits, kurtosis) for bits, row in BY_KURTOSIS.items() for kurtosis in row]
)
def test_constants_by_kurtosis(bits, kurtosis):
    assert optimal_alpha_generalized(1.0, kurtosis, bits) == pytest.approx(BY_KURTOSIS[bits][kurtosis], rel=3e-3)


@pytest.mark.parametrize(
    ("bits", "gaussian", "laplace"), [(2, 0.34, 0.18), (3, 0.04, 0.03), (4, 0.01, 0.01), (8, 0.01, 0.01)]
)
def test_what_the_published_constants_cost_on_the_integer_grid(bits, gaussian, laplace):
    def excess(mse, optimum, published):
        best = optimum(1.0, bits, noise="integer")
        return float(mse(1.0, published, bits, noise="integer") / mse(1.0, best, bits, noise="integer")) - 1

    measured = (
        excess(clipping_mse_gaussian, optimal_alpha_gaussian, PUBLISHED_GAUSSIAN[bits - 2]),
        excess(clipping_mse_laplace, optimal_alpha_laplace, PUBLISHED_LAPLACE[bits - 2]),
    )
    if bits < 4:
        assert measured == pytest.approx((gaussian, laplace), abs=0.006)
    else:
        assert max(measured) < gaussian


@pytest.mark.parametrize(("shape", "bits"), [(0.8, 2), (0.8, 4), (1.0, 3), (2.0, 8), (5.0, 4)])
def test_table_against_a_plain_search(shape, bits):
    """Oracle: sum over a dense grid of points with scipy's density, rounded by numpy, and a scalar minimiser."""
    unit = 1 / stats.gennorm.std(shape)
    x = (np.arange(60_000) + 0.5) * float(stats.gennorm.isf(1e-9, shape)) * unit / 60_000
    density = stats.gennorm.pdf(x / unit, shape)
    qmax = 2 ** (bits - 1) - 1

    def error(alpha):
        step = alpha / qmax
        return (density * (x - step * np.clip(np.round(x / step), -qmax, qmax)) ** 2).sum()

    expected = float(optimal_alpha_generalized(1.0, stats.gennorm.stats(shape, moments="k"), bits))
    found = optimize.minimize_scalar(error, bounds=(expected * 0.7, expected * 1.4), method="bounded").x
    assert expected == pytest.approx(found, rel=1e-3)


@given(bits, st.floats(-1.15, 1e4), st.floats(1.001, 3.0))
def test_heavier_tails_never_lower_the_threshold(bits, kurtosis, factor):
    heavier = (kurtosis + 2.2) * factor - 2.2
    assert optimal_alpha_generalized(1.0, heavier, bits) >= optimal_alpha_generalized(1.0, kurtosis, bits)


@given(bits, st.floats(-1.15, 1e4), st.sampled_from(["narrow", "asym"]), st.floats(0.03, 0.3))
def test_no_other_threshold_is_better(bits, kurtosis, layout, epsilon):
    best = float(optimal_alpha_generalized(1.0, kurtosis, bits, layout=layout))
    error = clipping_mse_generalized(1.0, kurtosis, best * np.array([1, 1 - epsilon, 1 + epsilon]), bits, layout=layout)
    assert error[0] <= error[1:].min()


@given(bits, st.floats(-3.0, 1e7), st.integers(-30, 30))
def test_powers_of_two_scale_the_threshold(bits, kurtosis, exponent):
    factor = 2.0**exponent
    alpha = optimal_alpha_generalized(3.0, kurtosis, bits)
    assert optimal_alpha_generalized(3.0 * factor, kurtosis, bits) == alpha * factor
    one = alpha_from_kurtosis(torch.tensor([3.0]), torch.tensor([kurtosis]), bits)
    assert torch.equal(alpha_from_kurtosis(torch.tensor([3.0 * factor]), torch.tensor([kurtosis]), bits), one * factor)


@given(bits, st.lists(st.floats(-3.0, 1e8, width=32), min_size=1, max_size=20), st.sampled_from(["narrow", "asym"]))
def test_torch_agrees_with_numpy(bits, kurtosis, layout):
    sigma = np.linspace(0.5, 2.0, len(kurtosis))
    expected = optimal_alpha_generalized(sigma, kurtosis, bits, layout=layout)
    for dtype, tolerance in ((torch.float32, 1e-5), (torch.float64, 1e-12)):
        found = alpha_from_kurtosis(
            torch.tensor(sigma, dtype=dtype), torch.tensor(kurtosis, dtype=dtype), bits, layout=layout
        )
        assert found.dtype == dtype
        assert found.numpy() == pytest.approx(expected, rel=tolerance)


def test_torch_has_no_answer_where_there_is_none():
    sigma = torch.tensor([0.0, 1.0, 1.0, math.nan, -1.0, math.inf, 1.0])
    kurtosis = torch.tensor([0.0, math.nan, math.inf, 0.0, 0.0, 0.0, 0.0])
    alpha = alpha_from_kurtosis(sigma, kurtosis, 4)
    assert torch.isnan(alpha).tolist() == [True] * 6 + [False]


def test_torch_widens_half_precision_and_keeps_its_inputs():
    sigma, kurtosis = (
        torch.tensor([[1.0], [2.0]], dtype=torch.float16),
        torch.tensor([[0.0], [3.0]], dtype=torch.float16),
    )
    copies = sigma.clone(), kurtosis.clone()
    alpha = alpha_from_kurtosis(sigma, kurtosis, 4)
    assert alpha.dtype == torch.float32
    assert alpha.flatten().tolist() == pytest.approx([2.4739, 6.8164], abs=1e-3)
    assert torch.equal(sigma, copies[0])
    assert torch.equal(kurtosis, copies[1])


def test_torch_broadcasts():
    assert alpha_from_kurtosis(torch.ones(4, 1), torch.zeros(3).expand(5, 1, 3), 4).shape == (5, 4, 3)


def test_numpy_passes_an_undefined_kurtosis_on():
    assert np.isnan(optimal_alpha_generalized([1.0, 1.0], [math.nan, 0.0], 4)).tolist() == [True, False]


@pytest.mark.parametrize("bad", [0.0, -1.0, math.nan, math.inf])
@pytest.mark.parametrize(
    ("function", "name"),
    [
        (lambda x: optimal_alpha_laplace(x, 4), "b"),
        (lambda x: optimal_alpha_gaussian(x, 4), "sigma"),
        (lambda x: optimal_alpha_generalized(x, 0.0, 4), "sigma"),
    ],
    ids=["laplace", "gaussian", "generalized"],
)
def test_statistics_must_be_positive_and_finite(function, name, bad):
    with pytest.raises(NumericError, match=f"^{name} must be positive and finite"):
        function(bad)


@pytest.mark.parametrize("bits", [1, 9])
def test_bits_outside_2_to_8_are_refused(bits):
    for function in (
        lambda: optimal_alpha_laplace(1.0, bits),
        lambda: optimal_alpha_gaussian(1.0, bits),
        lambda: optimal_alpha_generalized(1.0, 0.0, bits),
        lambda: alpha_from_kurtosis(torch.ones(1), torch.zeros(1), bits),
    ):
        with pytest.raises(SpecError, match=f"bits={bits}"):
            function()


# --- the rule of thumb


def test_seed_formula_to_the_letter():
    alpha = seed_alpha(torch.tensor([2.0, 2.0]), torch.tensor([0.0, 3.0]), 4)
    assert alpha.tolist() == pytest.approx([5.0, 2 * (2.5 + 0.3 * math.log(4))])
    assert seed_alpha(torch.tensor(1.0), torch.tensor(-1.5), 3).item() == 2.5
    assert math.isnan(seed_alpha(torch.tensor(1.0), torch.tensor(math.nan), 3).item())


@pytest.mark.parametrize("bits", [2, 6, 8])
def test_seed_formula_is_refused_where_it_does_not_hold(bits):
    with pytest.raises(SpecError, match=f"bits={bits}.*3 to 5 bits"):
        seed_alpha(torch.ones(1), torch.zeros(1), bits)


@pytest.mark.parametrize(("bits", "gaussian", "laplace"), [(3, 1.27, 1.08), (6, 2.7, 5.7), (8, 27, 54)])
def test_what_the_seed_formula_costs(bits, gaussian, laplace):
    for kurtosis, expected in ((0.0, gaussian), (3.0, laplace)):
        seed = 2.5 + 0.3 * math.log(1 + kurtosis)
        best = optimal_alpha_generalized(1.0, kurtosis, bits)
        cost = clipping_mse_generalized(1.0, kurtosis, seed, bits) / clipping_mse_generalized(1.0, kurtosis, best, bits)
        assert cost == pytest.approx(expected, rel=0.02)

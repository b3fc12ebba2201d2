from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import weights

from inc_laaciq.errors import NumericError, SpecError
from inc_laaciq.quant.fp8 import fp8_round

TYPES = {"fp8_e4m3": torch.float8_e4m3fn, "fp8_e5m2": torch.float8_e5m2}
LARGEST = {"fp8_e4m3": 448.0, "fp8_e5m2": 57344.0}  # OCP 8-bit floating point specification 1.0, table 1
dtypes = st.sampled_from(list(TYPES))


@pytest.mark.parametrize("dtype", TYPES)
def test_inside_the_range_it_is_torch_s_cast(dtype):
    x = torch.linspace(-LARGEST[dtype], LARGEST[dtype], 4001)
    assert torch.equal(fp8_round(x, dtype, LARGEST[dtype]), x.to(TYPES[dtype]).float())


@pytest.mark.parametrize("dtype", TYPES)
def test_the_nearest_of_all_fp8_numbers_is_taken(dtype):
    every = torch.arange(256, dtype=torch.uint8).view(TYPES[dtype]).float()
    every = every[torch.isfinite(every)].double().unique()
    x = torch.randn(500, generator=torch.Generator().manual_seed(0)).double() * LARGEST[dtype] / 4
    x = x.clamp(-LARGEST[dtype], LARGEST[dtype])
    distance = (x[:, None] - every).abs().min(dim=1).values
    assert torch.allclose((fp8_round(x, dtype, LARGEST[dtype]).double() - x).abs(), distance, atol=1e-4)


@pytest.mark.parametrize("dtype", TYPES)
def test_outside_the_range_it_saturates(dtype):
    x = torch.tensor([1e30, -1e30, LARGEST[dtype] * 1.01])
    assert fp8_round(x, dtype, LARGEST[dtype]).tolist() == [LARGEST[dtype], -LARGEST[dtype], LARGEST[dtype]]


@given(weights(), dtypes, st.floats(2.0**-10, 1e4))
def test_never_beyond_alpha_and_twice_changes_nothing(w, dtype, alpha):
    once = fp8_round(w, dtype, alpha)
    assert once.abs().max().item() <= alpha * (1 + 1e-6)
    assert torch.equal(fp8_round(once, dtype, alpha), once)


@given(weights(), dtypes, st.integers(-6, 6))
def test_powers_of_two_scale_the_result(w, dtype, exponent):
    factor = 2.0**exponent
    assert torch.equal(fp8_round(w * factor, dtype, 3.0 * factor), fp8_round(w, dtype, 3.0) * factor)


def test_alpha_may_differ_by_row():
    x = torch.tensor([[5.0, -0.5], [5.0, -0.5]])
    alpha = torch.tensor([[1.0], [0.0]])
    assert fp8_round(x, "fp8_e4m3", alpha).tolist() == [[1.0, -0.5], [0.0, 0.0]]
    assert x.tolist() == [[5.0, -0.5], [5.0, -0.5]]


def test_unknown_type_is_refused():
    with pytest.raises(SpecError, match="fp8_e4m3, fp8_e5m2"):
        fp8_round(torch.ones(2), "e4m3", 1.0)


@pytest.mark.parametrize("alpha", [math.nan, math.inf, -1.0])
def test_bad_alpha_is_refused(alpha):
    with pytest.raises(NumericError, match="clipping threshold"):
        fp8_round(torch.ones(2), "fp8_e4m3", alpha)


def test_values_that_are_not_numbers_are_refused():
    with pytest.raises(NumericError, match="1 of 2 values"):
        fp8_round(torch.tensor([1.0, math.nan]), "fp8_e4m3", 1.0)

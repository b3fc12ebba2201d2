from __future__ import annotations

import pytest
import torch

from inc_laaciq.checkpoint import find_nonfinite

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    "dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.complex64], ids=str
)
def test_nan_and_infinity_are_counted_by_tensor(dtype: torch.dtype) -> None:
    state = {
        "ok": torch.ones(3, dtype=dtype),
        "nan": torch.tensor([1.0, NAN, NAN], dtype=dtype),
        "inf": torch.tensor([[INF, 1.0], [-INF, NAN]], dtype=dtype),
    }
    assert find_nonfinite(state) == {"nan": 2, "inf": 3}


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2], ids=str)
def test_eight_bit_floats(dtype: torch.dtype) -> None:
    assert find_nonfinite({"w": torch.tensor([1.0, NAN]).to(dtype)}) == {"w": 1}


def test_integers_and_empty_tensors_are_finite() -> None:
    assert find_nonfinite({"i": torch.tensor([2**62]), "b": torch.tensor([True]), "e": torch.empty(0)}) == {}


def test_the_largest_half_is_finite_and_nothing_is_changed() -> None:
    weight = torch.tensor([65504.0, -65504.0], dtype=torch.float16)
    assert find_nonfinite({"w": weight}) == {}
    assert weight.tolist() == [65504.0, -65504.0]

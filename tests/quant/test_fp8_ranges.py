"""One FP8 range for several languages."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from inc_laaciq.errors import SpecError
from inc_laaciq.quant.fp8 import fp8_round
from inc_laaciq.quant.fp8_ranges import least_error_range, losses, reconcile_ranges, relative_error
from inc_laaciq.quant.fp8_scales import SMALLEST_NORMAL, SMALLEST_SUBNORMAL, Fp8Target
from inc_laaciq.quant.magnitudes import Magnitudes

CPU = Fp8Target(device="cpu", method="maxabs_arbitrary")
POW2 = Fp8Target(device="cpu", method="maxabs_pow2")


def column(*values):
    return np.array(values, dtype=np.float32).reshape(-1, 1, 1)


@pytest.mark.parametrize(("rule", "expected"), [("max", 16), ("mean", 4), ("minimax", 2**2.5)])
def test_rules(rule, expected):
    assert float(reconcile_ranges(column(2, 2, 16), rule)[0, 0]) == pytest.approx(expected)


@pytest.mark.parametrize("rule", ["max", "mean", "minimax"])
def test_a_language_whose_values_are_zero_has_no_say(rule):
    assert float(reconcile_ranges(column(0, 8), rule)[0, 0]) == 8
    assert float(reconcile_ranges(column(0, 0), rule)[0, 0]) == 0


def test_channels_are_reconciled_one_by_one():
    ranges = np.array([[[1.0], [8.0]], [[4.0], [2.0]]], dtype=np.float32)
    assert reconcile_ranges(ranges, "max")[:, 0].tolist() == [4, 8]
    assert reconcile_ranges(ranges, "minimax")[:, 0].tolist() == [2, 4]


@given(
    st.lists(st.floats(2.0**-10, 2.0**10, width=32), min_size=1, max_size=6),
    st.sampled_from(["max", "mean", "minimax"]),
)
def test_the_result_is_between_the_languages_and_scales_with_them(values, rule):
    found = float(reconcile_ranges(column(*values), rule)[0, 0])
    assert min(values) * (1 - 1e-6) <= found <= max(values) * (1 + 1e-6)
    assert float(reconcile_ranges(4 * column(*values), rule)[0, 0]) == pytest.approx(4 * found)


@given(st.lists(st.floats(2.0**-10, 2.0**10, width=32), min_size=2, max_size=6))
def test_minimax_is_the_least_of_the_largest_distances_in_bits(values):
    def worst(candidate):
        return max(abs(np.log2(candidate / value)) for value in values)

    found = float(reconcile_ranges(column(*values), "minimax")[0, 0])
    assert all(worst(found) <= worst(candidate) + 1e-5 for candidate in np.geomspace(min(values), max(values), 40))


@pytest.mark.parametrize("rule", ["error", "median"])
def test_rules_that_need_more_than_ranges_are_refused(rule):
    with pytest.raises(SpecError, match=f"reconcile='{rule}' is not a rule for ranges"):
        reconcile_ranges(column(1, 2), rule)


def gaussian(spread=1.0, n=200_000):
    return spread * torch.randn(n, generator=torch.Generator().manual_seed(1))


def real_and_predicted_error(scale):
    x = gaussian()
    rounded = fp8_round(x, "fp8_e4m3", 448.0 * scale)
    real = float(((rounded - x).double() ** 2).sum() / (x.double() ** 2).sum())
    return real, relative_error(Magnitudes.of(x), scale, 448.0)


@pytest.mark.parametrize("scale", [2.0**-6, 2.0**-4, 2.0**2, 2.0**6, 0.0123])
def test_predicted_error_is_that_of_real_rounding(scale):
    """From the flat middle to values that are lost in subnormal numbers."""
    real, predicted = real_and_predicted_error(scale)
    assert predicted == pytest.approx(real, rel=0.2)


@pytest.mark.parametrize("scale", [2.0**-12, 2.0**-10, 2.0**-9, 2.0**-8, 2.0**-7])
def test_the_error_of_saturation_is_taken_for_too_large_rather_than_too_small(scale):
    real, predicted = real_and_predicted_error(scale)
    assert 0.9 * real < predicted < 4 * real


def test_least_error_saturates_nobody_to_speak_of_and_is_no_worse_than_the_largest_range():
    found = {"en": Magnitudes.of(gaussian()), "sw": Magnitudes.of(gaussian(0.001))}

    def worst(maxabs):
        return max(relative_error(one, POW2.scale(maxabs), 448.0) for one in found.values())

    chosen = least_error_range(found, POW2)
    largest = found["en"].largest
    assert chosen <= largest
    assert worst(chosen) <= worst(largest)
    # Two bits of headroom are there to be used: the small language then has fewer subnormal values.
    assert chosen < largest
    assert worst(chosen) < 0.99 * worst(largest)


def test_least_error_of_nothing():
    assert least_error_range({"en": Magnitudes.of(torch.zeros(4))}, POW2) == 0
    with pytest.raises(SpecError, match="at least one language"):
        least_error_range({}, POW2)


def test_losses_are_what_rounding_shows():
    x = gaussian(0.05)
    own = np.array([[float(x.abs().max())]], dtype=np.float32)
    shared = 16 * own
    found = losses(own, shared, Magnitudes.of(x), POW2)
    assert found["bits"] == 4
    assert found["saturates"] is False
    scale = POW2.scale(float(shared.max()))
    rounded = fp8_round(x, "fp8_e4m3", 448.0 * scale)
    assert found["lost"] == pytest.approx(float((rounded == 0).double().mean()), abs=1e-5)
    assert found["subnormal"] == pytest.approx(float((x.abs() < scale * SMALLEST_NORMAL).double().mean()), abs=1e-5)
    assert found["lost_alone"] < found["lost"]
    assert found["subnormal_alone"] < found["subnormal"]
    assert float(torch.tensor(1, dtype=torch.uint8).view(torch.float8_e4m3fn).float()) == SMALLEST_SUBNORMAL


def test_values_beyond_the_headroom_saturate():
    own = np.array([[9.0]], dtype=np.float32)
    assert losses(own, own / 3.9, None, CPU)["saturates"] is False
    found = losses(own, own / 4.1, None, CPU)
    assert found["saturates"] is True
    assert found["bits"] == pytest.approx(-np.log2(4.1), abs=1e-6)
    assert found["lost"] is None


def test_a_language_of_zeros_loses_nothing():
    assert losses(np.zeros((1, 1), np.float32), np.ones((1, 1), np.float32), None, CPU)["bits"] is None

"""Counts of magnitudes by octave."""

from __future__ import annotations

import math

import pytest
import torch

from inc_laaciq.errors import NumericError, SpecError
from inc_laaciq.quant.magnitudes import LOWEST, OCTAVES, Magnitudes


def values(n=4000, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, generator=generator) * torch.exp2(torch.randint(-12, 6, (n,), generator=generator).float())
    x[::50] = 0
    return x


def test_counts_are_those_of_a_slow_loop():
    x = values(500)
    expected = [0] * OCTAVES
    for value in x.tolist():
        if value:
            expected[math.floor(math.log2(abs(value))) - LOWEST] += 1
    found = Magnitudes.of(x)
    assert list(found.counts) == expected
    assert (found.n, found.largest) == (500, float(x.abs().max()))
    assert found.squares == pytest.approx(float((x.double() ** 2).sum()))


def test_what_is_out_of_range_is_counted_at_the_ends():
    found = Magnitudes.of(torch.tensor([2.0**-60, -(2.0**40)]))
    assert found.counts[0] == found.counts[-1] == 1


def test_parts_add_up_to_the_whole():
    x = values()
    whole, parts = Magnitudes.of(x), Magnitudes.of(x[:1500]) + Magnitudes.of(x[1500:])
    assert (parts.n, parts.counts, parts.largest) == (whole.n, whole.counts, whole.largest)
    assert parts.squares == pytest.approx(whole.squares)


def test_share_below_is_exact_at_powers_of_two_and_near_between_them():
    x = values()
    found, nonzero = Magnitudes.of(x), x[x != 0].abs()
    for exponent in (-14, -6, 0, 3):
        assert found.share_below(2.0**exponent) == float((nonzero < 2.0**exponent).double().mean())
    for threshold in (0.03, 0.3, 5.0):
        assert found.share_below(threshold) == pytest.approx(float((nonzero < threshold).double().mean()), abs=0.01)
    assert Magnitudes.of(torch.zeros(3)).share_below(1.0) == 0


def test_half_precision_is_widened_before_squares_are_summed():
    assert Magnitudes.of(torch.full((4,), 60000.0, dtype=torch.float16)).squares == pytest.approx(
        4 * 60000.0**2, rel=1e-3
    )


def test_what_cannot_be_counted_is_refused():
    with pytest.raises(SpecError, match="at least one value"):
        Magnitudes.of(torch.empty(0))
    with pytest.raises(NumericError, match="2 of 3 values are NaN or infinite"):
        Magnitudes.of(torch.tensor([1.0, math.nan, math.inf]))
    with pytest.raises(SpecError, match="80 numbers"):
        Magnitudes(n=1, squares=1.0, largest=1.0, counts=(1,))

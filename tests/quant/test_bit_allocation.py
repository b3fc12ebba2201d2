from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inc_laaciq.errors import NumericError, SpecError
from inc_laaciq.quant.bit_allocation import allocate_bits

ranges = st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=40)


def _published(alpha: list[float], average_bits: int) -> list[int]:
    """Banner et al. 2019 (arXiv:1810.05723), bit allocation, one channel at a time; no clipping to 2..8."""
    quota = len(alpha) * 2**average_bits
    total = sum(value ** (2 / 3) for value in alpha)
    return [round(math.log2(value ** (2 / 3) / total * quota)) for value in alpha]


def test_the_published_formula():
    alpha = np.random.default_rng(0).lognormal(0.0, 0.8, 200).tolist()
    expected = np.clip(_published(alpha, 4), 2, 8)
    assert allocate_bits(alpha, 4, keep_average=False).tolist() == expected.tolist()


def test_it_has_the_least_noise_of_all_allocations_within_the_quota():
    alpha = np.array([1.0, 1.0, 2.0**1.5, 4.0**1.5])  # shares of the quota are powers of two: nothing is rounded
    noise = {
        allocation: float((alpha**2 / 4.0 ** np.array(allocation)).sum())
        for allocation in itertools.product(range(2, 8), repeat=4)
        if sum(2**b for b in allocation) <= 4 * 2**4
    }
    assert tuple(allocate_bits(alpha, 4, keep_average=False)) == min(noise, key=noise.get)


@given(ranges, st.integers(2, 8))
def test_the_average_is_met_from_below(alpha, average_bits):
    bits = allocate_bits(alpha, average_bits)
    assert bits.mean() <= average_bits
    assert bits.min() >= 2
    assert bits.max() <= 8
    # one bit more for the channels nearest to it would exceed the average, unless all have the maximum
    if average_bits < 8:
        distinct = len(set(alpha))
        assert bits.mean() > average_bits - 1 or distinct < len(alpha)


@given(ranges, st.floats(2.0, 8.0))
def test_wider_channels_never_get_fewer_bits(alpha, average_bits):
    bits = allocate_bits(alpha, average_bits)
    order = np.argsort(alpha, kind="stable")
    assert (np.diff(bits[order]) >= 0).all()


@given(ranges, st.integers(2, 8), st.integers(-20, 20))
def test_the_unit_does_not_matter(alpha, average_bits, exponent):
    scaled = [value * 2.0**exponent for value in alpha]
    assert allocate_bits(scaled, average_bits, keep_average=False).tolist() == pytest.approx(
        allocate_bits(alpha, average_bits, keep_average=False), abs=1
    )


@pytest.mark.parametrize("keep_average", [True, False])
def test_equal_channels_get_equal_bits(keep_average):
    assert allocate_bits([0.3] * 7, 5, keep_average=keep_average).tolist() == [5] * 7


@pytest.mark.parametrize("keep_average", [True, False])
def test_channels_of_zeros_get_the_minimum(keep_average):
    bits = allocate_bits([0.0, 1.0, 1.0], 4, minimum=3, keep_average=keep_average)
    assert bits[0] == 3
    assert bits[1] == bits[2] >= 4
    assert allocate_bits([0.0, 0.0], 4, keep_average=keep_average).tolist() == [4, 4]


def test_the_input_is_not_modified():
    alpha = np.array([1.0, 2.0, 0.0])
    allocate_bits(alpha, 4)
    assert alpha.tolist() == [1.0, 2.0, 0.0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param({"average_bits": 9}, "average_bits=9 is outside", id="average above"),
        pytest.param({"average_bits": 3, "minimum": 4}, "average_bits=3 is outside minimum=4", id="average below"),
        pytest.param({"average_bits": math.nan}, "average_bits=nan", id="average nan"),
        pytest.param({"average_bits": 4, "minimum": 1}, "bits=1", id="minimum"),
        pytest.param({"average_bits": 4, "maximum": 9}, "bits=9", id="maximum"),
        pytest.param({"average_bits": 4, "alpha": []}, "at least one", id="empty"),
        pytest.param({"average_bits": 4, "alpha": [[1.0]]}, r"shape \(1, 1\)", id="matrix"),
    ],
)
def test_contradictions_are_refused(arguments, message):
    with pytest.raises(SpecError, match=message):
        allocate_bits(**{"alpha": [1.0, 2.0], **arguments})


@pytest.mark.parametrize("bad", [-1.0, math.nan, math.inf])
def test_ranges_must_be_numbers(bad):
    with pytest.raises(NumericError, match="alpha holds"):
        allocate_bits([1.0, bad], 4)

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats

from inc_laaciq.quant.distributions import (
    FLATTEST_SHAPE,
    HEAVIEST_SHAPE,
    excess_kurtosis_of_shape,
    mean_overshoot,
    mean_squared_overshoot,
    shape_of_excess_kurtosis,
    spread_of_shape,
    tail_moment,
)

shapes = st.floats(np.log(0.15), np.log(40.0)).map(np.exp)


@given(shapes)
def test_kurtosis_and_spread_against_scipy(shape):
    assert excess_kurtosis_of_shape(shape) == pytest.approx(float(stats.gennorm.stats(shape, moments="k")), rel=1e-6)
    assert stats.gennorm.std(shape, scale=float(spread_of_shape(shape))) == pytest.approx(1.0)


@pytest.mark.parametrize("shape", [0.5, 1.0, 1.6, 2.0, 8.0])
@pytest.mark.parametrize("t", [0.0, 0.3, 1.0, 2.5])
@pytest.mark.parametrize("order", [0, 1, 2])
def test_tail_moments_against_numerical_integration(order, t, shape):
    density = stats.gennorm(shape, scale=float(spread_of_shape(shape))).pdf
    # the density of a small shape has a cusp at zero and a long tail, so the interval is cut where quad needs it
    ends = [t, t + 1.0, t + 10.0, t + 200.0]
    parts = [integrate.quad(lambda x: 2 * x**order * density(x), *pair, limit=200)[0] for pair in pairwise(ends)]
    assert tail_moment(order, t, shape) == pytest.approx(sum(parts), rel=1e-5, abs=1e-9)


def test_laplace_overshoots_in_closed_form():
    t = np.array([0.0, 0.5, 3.0])
    b = 1 / np.sqrt(2)
    assert mean_overshoot(t, 1.0) == pytest.approx(b * np.exp(-t / b))
    assert mean_squared_overshoot(t, 1.0) == pytest.approx(2 * b**2 * np.exp(-t / b))


@given(shapes)
def test_shape_and_kurtosis_are_inverse(shape):
    assert shape_of_excess_kurtosis(excess_kurtosis_of_shape(shape)) == pytest.approx(shape, rel=1e-4)


def test_kurtosis_outside_the_family_counts_as_its_end():
    assert shape_of_excess_kurtosis([-2.0, 1e9]) == pytest.approx([FLATTEST_SHAPE, HEAVIEST_SHAPE])
    assert np.isnan(shape_of_excess_kurtosis(np.nan))

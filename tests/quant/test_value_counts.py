from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from inc_laaciq.quant.grid import Grid, minmax_parameters, round_to_grid
from inc_laaciq.quant.least_error_range import LeastError, _Bins, _grid, least_error_range
from inc_laaciq.quant.moments import LanguageMoments, merge
from inc_laaciq.quant.value_counts import BINS, bin_bounds, count_values

finite = hnp.arrays(np.float32, st.integers(1, 50), elements=st.floats(allow_nan=False, allow_infinity=False, width=32))


@given(finite)
def test_every_value_lies_in_the_bin_that_it_is_counted_in(x):
    low, high = bin_bounds()
    for value in x:
        (place,) = np.flatnonzero(count_values(torch.tensor([value])).numpy())
        assert low[place] <= value <= high[place]
    assert int(count_values(torch.from_numpy(x)).sum()) == len(x)


def test_bins_are_an_eighth_of_an_octave_and_leave_nothing_out():
    low, high = bin_bounds()
    (place,) = np.flatnonzero(count_values(torch.tensor([-3.1])).numpy())
    assert (low[place], high[place]) == (-3.25, -3.0)
    positive, last = slice(0, BINS // 2), 255 * 8 - 1
    assert np.array_equal(high[positive][:last], low[positive][1 : last + 1])
    assert high[last] == np.finfo(np.float32).max
    assert not low[last + 1 : BINS // 2].any()  # what is no number


@given(finite, finite)
def test_counts_of_batches_add_up(a, b):
    parts = [LanguageMoments.of(torch.from_numpy(x)[:, None], counted=True) for x in (a, b)]
    whole = LanguageMoments.of(torch.from_numpy(np.concatenate([a, b]))[:, None], counted=True)
    assert torch.equal(merge(parts).counts, whole.counts)
    assert whole.activation.counts.tolist() == whole.counts.tolist()


def test_values_are_counted_only_where_that_is_asked_for_and_kept_only_where_all_have_them():
    x = torch.ones(2, 3)
    plain, counted = LanguageMoments.of(x), LanguageMoments.of(x, counted=True)
    assert plain.activation.counts is plain.counts is None
    assert (plain + counted).counts is None
    assert (counted + plain).counts is None
    assert int(counted.counts.sum()) == 6


def test_a_block_that_is_summed_in_double_precision_is_counted_too():
    found = LanguageMoments.of(torch.tensor([[1e9, -1e9, 1.0]]), counted=True)
    assert int(found.counts.sum()) == 3


@pytest.mark.parametrize("scheme", ["asym", "sym"])
@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize(("low", "high"), [(-3.0, 3.0), (-1.0, 2.0), (-0.2, 5.0), (-30.0, 30.0)])
def test_the_error_that_is_estimated_is_that_of_rounding(bits, scheme, low, high):
    x = torch.from_numpy(np.random.default_rng(0).laplace(0.3, 1.0, 200_000)).float()
    if scheme == "sym":
        low, high = -high, high
    grid = _grid(np.array([low]), np.array([high]), bits, scheme)
    step, start, end = (float(part[0]) for part in grid)
    levels = torch.from_numpy(np.arange(round((end - start) / step) + 1) * step + start).float()
    nearest = levels[(x[:, None] - levels).abs().argmin(1)]
    bins = _Bins(count_values(x).numpy()[None], float(x.min()), float(x.max()))
    relative = float((x - nearest).square().sum() / x.square().sum())
    assert float(bins.relative_error(*grid)[0, 0]) == pytest.approx(relative, rel=0.06)


def _found(x: torch.Tensor, bits: int, scheme: str) -> LeastError:
    ends = float(x.min()), float(x.max())
    return least_error_range(count_values(x).numpy()[None], np.ones(1), *ends, bits, scheme)


@pytest.mark.parametrize("bits", [2, 4])
def test_a_symmetric_range_is_clipped_where_that_pays(bits):
    x = torch.from_numpy(np.random.default_rng(0).laplace(size=50_000)).float()
    found, top = _found(x, bits, "sym"), (1 << (bits - 1)) - 1

    def error(reach):
        return float(((x / reach * top).round().clamp(-top, top) * reach / top - x).square().mean())

    assert found.low == -found.high
    assert error(found.high) < 1.02 * min(error(reach) for reach in np.linspace(0.5, 12, 100))


@given(finite.filter(lambda x: np.abs(x).max() < 1e30), st.sampled_from([2, 4, 8]), st.sampled_from(["asym", "sym"]))
def test_the_range_never_leaves_the_extrema(x, bits, scheme):
    found = _found(torch.from_numpy(x), bits, scheme)
    reach = float(np.abs(x).max())
    least, most = (min(x.min(), 0.0), max(x.max(), 0.0)) if scheme == "asym" else (-reach, reach)
    assert least <= found.low <= 0 <= found.high <= most


def test_values_that_all_lie_on_the_grid_are_not_clipped():
    x = torch.tensor([-1.0, 0.0, 1.0, 2.0] * 50)
    found = _found(x, 2, "asym")
    assert (found.low, found.high) == (-1.0, 2.0)
    scale, zero = minmax_parameters(torch.tensor(-1.0), torch.tensor(2.0), Grid(bits=2, scheme="asym"), rounded=False)
    assert torch.equal(round_to_grid(x, scale, zero, Grid(bits=2, scheme="asym")), x)

"""LanguageMoments: sums that merge, against plain loops and numpy in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from inc_laaciq.errors import NumericError, SpecError
from inc_laaciq.quant.moments import LanguageMoments, merge


def _tokens(seed: int, n: int, features: int = 6) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, features, generator=generator) * torch.logspace(-3, 3, features)


def test_against_numpy_in_float64():
    x = _tokens(0, 50)
    wide = x.double().numpy()
    got = LanguageMoments.of(x, full=True)
    assert got.n == 50
    np.testing.assert_allclose(got.total, wide.sum(0), rtol=1e-4)
    np.testing.assert_allclose(got.squares, (wide**2).sum(0), rtol=1e-5)
    np.testing.assert_allclose(got.fourths, (wide**4).sum(), rtol=1e-5)
    np.testing.assert_allclose(got.cubes, (wide**3).sum(), rtol=1e-3)
    np.testing.assert_allclose(got.second_moment, wide.T @ wide / 50, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(got.diagonal, np.diag(wide.T @ wide / 50), rtol=1e-5)
    np.testing.assert_array_equal(got.minimum, x.amin(0))
    np.testing.assert_array_equal(got.maximum, x.amax(0))


@given(st.integers(0, 1000), st.lists(st.integers(1, 20), min_size=2, max_size=5))
def test_merging_parts_gives_the_statistics_of_the_whole(seed, sizes):
    x = _tokens(seed, sum(sizes))
    merged = merge(LanguageMoments.of(part, full=True) for part in x.split(sizes))
    whole = LanguageMoments.of(x, full=True)
    assert merged.n == whole.n
    for name in ("total", "squares", "minimum", "maximum", "cross"):
        torch.testing.assert_close(getattr(merged, name), getattr(whole, name), rtol=1e-4, atol=1e-2)
    assert merged.fourths == pytest.approx(whole.fourths, rel=1e-5)


def test_merging_diagonal_with_full_keeps_only_the_diagonal():
    x = _tokens(1, 10)
    assert (LanguageMoments.of(x) + LanguageMoments.of(x, full=True)).cross is None
    with pytest.raises(SpecError, match="full=True"):
        _ = LanguageMoments.of(x).second_moment


def test_half_precision_beyond_its_range_is_summed_without_overflow():  # faults row 40
    x = torch.full((100, 4), 60000.0, dtype=torch.float16)
    got = LanguageMoments.of(x, full=True)
    assert float(got.squares[0]) == pytest.approx(100 * 60000.0**2)
    assert bool(torch.isfinite(got.cross).all())


def test_huge_activations_keep_a_finite_fourth_moment():  # faults row 40
    got = LanguageMoments.of(torch.full((3, 2), 1e12))
    assert got.fourths == pytest.approx(6e48)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_nonfinite_activations_are_refused_with_a_count(bad):
    x = torch.zeros(5, 3)
    x[2, 1] = bad
    with pytest.raises(NumericError, match="1 of 5 tokens"):
        LanguageMoments.of(x)


def test_no_tokens_and_nothing_to_merge_are_refused():
    with pytest.raises(SpecError, match="at least one token"):
        LanguageMoments.of(torch.zeros(0, 3))
    with pytest.raises(SpecError, match="nothing to merge"):
        merge([])
    with pytest.raises(SpecError, match="different layers"):
        _ = LanguageMoments.of(torch.zeros(1, 3)) + LanguageMoments.of(torch.zeros(1, 4))


def test_activation_view_has_all_features_together():
    x = _tokens(2, 20)
    view = LanguageMoments.of(x).activation
    assert view.n == 120
    assert view.s2 == pytest.approx(float(x.double().square().sum()), rel=1e-5)
    assert (view.minimum, view.maximum) == (float(x.min()), float(x.max()))


def test_input_is_not_modified():
    x = _tokens(3, 5)
    before = x.clone()
    LanguageMoments.of(x, full=True)
    assert torch.equal(x, before)

"""Reconciling languages: risk, capped mixtures, and the search over them."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from inc_laaciq.errors import SpecError
from inc_laaciq.quant.reconcile import cap_mixture, reconcile_languages, risk

ERRORS = torch.tensor([1.0, 5.0, 3.0, 2.0, 4.0, 0.0, 0.0, 0.0])


@pytest.mark.parametrize(("word", "expected"), [("mean", 1.875), ("natural", 1.875), ("minimax", 5.0), ("cvar", 4.5)])
def test_risk_is_the_mean_of_the_worst_share(word, expected):
    assert risk(ERRORS, word) == pytest.approx(expected)


def test_unknown_word_lists_the_known_ones():
    with pytest.raises(SpecError, match="minimax"):
        risk(ERRORS, "average")


@given(st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=12), st.floats(1.0, 10.0))
def test_capped_mixture_is_a_mixture_below_the_cap(values, slack):
    cap = slack / len(values)
    mixture = cap_mixture(torch.tensor(values), cap)
    assert float(mixture.sum()) == pytest.approx(1.0, abs=1e-4)
    assert float(mixture.max()) <= cap * (1 + 1e-4) or cap >= 1
    assert float(mixture.min()) >= 0


def _trade_off(mixture: torch.Tensor) -> tuple[float, torch.Tensor]:
    """Two languages pull a single number towards 0 and 1; each loses its squared distance."""
    x = float(mixture[1])
    return x, torch.tensor([x**2, 4 * (1 - x) ** 2])


def test_mean_takes_one_attempt():
    calls = []
    reconcile_languages(lambda m: calls.append(m) or _trade_off(m), 2, "mean", rounds=8)
    assert len(calls) == 1


def test_minimax_moves_towards_the_losing_language_and_is_never_worse_than_the_mean():
    _, mean = reconcile_languages(_trade_off, 2, "mean", rounds=1)
    x, errors = reconcile_languages(_trade_off, 2, "minimax", rounds=8)
    assert float(errors.max()) < float(mean.max())
    assert 0.5 < x < 1.0


def test_a_worse_reweighting_is_not_kept():
    attempts = iter([torch.tensor([1.0, 2.0]), torch.tensor([9.0, 9.0]), torch.tensor([8.0, 8.0])])
    _, errors = reconcile_languages(lambda m: (0, next(attempts)), 2, "minimax", rounds=3)
    assert errors.tolist() == [1.0, 2.0]

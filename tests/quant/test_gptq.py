"""Damping of what cannot be factorized, and what is refused."""

from __future__ import annotations

import pytest
import torch

from inc_laaciq.errors import NumericError
from inc_laaciq.quant.gptq import damped_cholesky


@pytest.mark.parametrize("damping", [0.01, 0.3, 100.0])
def test_the_last_damping_is_a_hundred_and_is_named(damping):
    indefinite = torch.diag(torch.tensor([1000.0, -999.0]))  # its mean diagonal is 0.5
    with pytest.raises(NumericError, match=r"\(2 features\).* even with damping 100$"):
        damped_cholesky(indefinite, damping)


def test_damping_grows_until_it_helps():
    moment = torch.diag(torch.tensor([10.0, -2.0]))  # 0.5 times the mean of 4 does not help, and 5 times does
    factor = damped_cholesky(moment, 0.05)
    assert torch.allclose(factor @ factor.T, moment + 20 * torch.eye(2))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_is_no_layer_that_nothing_reaches(value):
    with pytest.raises(NumericError, match="NaN or infinity"):
        damped_cholesky(torch.diag(torch.tensor([1.0, value])), 0.01)
    assert damped_cholesky(torch.zeros(2, 2), 0.01) is None

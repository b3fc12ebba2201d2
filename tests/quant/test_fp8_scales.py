"""Scales of FP8 tensors; that they are Neural Compressor's own is tested in tests/fp8."""

from __future__ import annotations

import pytest

from inc_laaciq.errors import SpecError
from inc_laaciq.quant.fp8_scales import Fp8Target, targets


def scale(device, method, maxabs):
    return Fp8Target(device=device, method=method).scale(maxabs)


def test_golden_values():
    """Measured with neural-compressor 3.10: an input of at most 3.886 gets 1 / 28.82, and 1 / 16 as a power of two."""
    assert 1 / scale("cpu", "maxabs_arbitrary", 3.886) == pytest.approx(28.82, abs=0.005)
    assert scale("cpu", "maxabs_pow2", 3.886) == 1 / 16
    assert 1 / scale("gaudi2", "maxabs_arbitrary", 3.886) == pytest.approx(240 / 4 / 3.886)


def test_a_gaudi_2_has_four_scales():
    """16**-2 to 16**1, by the table of exponent biases in neural-compressor 3.10."""
    found = {scale("gaudi2", "maxabs_hw", 2.0**exponent) for exponent in range(-30, 30)}
    assert found == {2.0**-8, 2.0**-4, 1.0, 2.0**4}
    assert scale("gaudi3", "maxabs_hw", 3.886) == scale("gaudi3", "maxabs_pow2", 3.886)


def test_a_range_of_zero_has_the_scale_zero():
    assert scale("gaudi2", "maxabs_hw", 0.0) == 0


def test_roundings_of_a_device():
    assert [target.method for target in targets("cpu")] == ["maxabs_arbitrary", "maxabs_pow2"]
    assert len(targets("gaudi3")) == 3


@pytest.mark.parametrize(
    ("device", "method", "why"),
    [
        ("gaudi1", "maxabs_hw", "device='gaudi1' is unknown"),
        ("gaudi2", "maxabs_hw_opt_weight", "scale_method='maxabs_hw_opt_weight' is unknown here"),
        ("cpu", "maxabs_hw", "device='cpu' is none"),
    ],
)
def test_what_is_not_known_is_refused(device, method, why):
    with pytest.raises(SpecError, match=why):
        Fp8Target(device=device, method=method)

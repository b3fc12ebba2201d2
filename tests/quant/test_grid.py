from __future__ import annotations

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import grids, weights

from inc_laaciq.errors import NumericError, SpecError
from inc_laaciq.quant.grid import (
    SMALLEST_SCALE,
    Grid,
    absmax_parameters,
    dequantize,
    from_groups,
    minmax_parameters,
    quantize,
    round_scale,
    round_to_grid,
    scale_from_alpha,
    to_groups,
)

SYM4 = Grid(bits=4, scheme="sym")
NARROW4 = Grid(bits=4, scheme="sym", narrow_range=True)
ASYM4 = Grid(bits=4, scheme="asym")


@pytest.mark.parametrize(
    ("grid", "qmin", "qmax", "n_levels", "dtype"),
    [
        pytest.param(Grid(bits=2, scheme="sym"), -2, 1, 4, torch.int8, id="sym2"),
        pytest.param(SYM4, -8, 7, 16, torch.int8, id="sym4"),
        pytest.param(Grid(bits=8, scheme="sym"), -128, 127, 256, torch.int8, id="sym8"),
        pytest.param(NARROW4, -7, 7, 15, torch.int8, id="narrow4"),
        pytest.param(ASYM4, 0, 15, 16, torch.uint8, id="asym4"),
        pytest.param(Grid(bits=8, scheme="asym"), 0, 255, 256, torch.uint8, id="asym8"),
    ],
)
def test_ends_of_the_grid(grid, qmin, qmax, n_levels, dtype):
    assert (grid.qmin, grid.qmax, grid.n_levels, grid.code_dtype) == (qmin, qmax, n_levels, dtype)


@pytest.mark.parametrize("bits", [0, 1, 9, -4, 4.0, "4", True])
def test_bits_outside_2_to_8_are_refused(bits):
    with pytest.raises(SpecError, match="bits="):
        Grid(bits=bits, scheme="sym")


def test_unknown_scheme_is_refused():
    with pytest.raises(SpecError, match=r"scheme='symmetric'.*sym, asym"):
        Grid(bits=4, scheme="symmetric")


def test_narrow_range_needs_sym():
    with pytest.raises(SpecError, match="narrow_range"):
        Grid(bits=4, scheme="asym", narrow_range=True)


def test_scale_from_alpha():
    alpha = torch.tensor([7.0, 0.0])
    assert scale_from_alpha(alpha, SYM4).tolist() == [1.0, 1.0]
    assert scale_from_alpha(alpha, ASYM4).tolist() == pytest.approx([14 / 15, 1.0])


@pytest.mark.parametrize("alpha", [math.nan, math.inf, -1.0])
def test_scale_from_bad_alpha(alpha):
    with pytest.raises(NumericError, match="clipping threshold"):
        scale_from_alpha(torch.tensor([1.0, alpha]), SYM4)


# --- absmax


def test_absmax_sym_is_largest_magnitude_over_qmax():
    scale, zero_point = absmax_parameters(torch.tensor([[-14.0, 3.0], [1.75, 0.5]]), SYM4)
    assert zero_point is None
    assert scale.tolist() == [[2.0], [0.25]]


def test_absmax_asym_spans_minimum_to_maximum():
    scale, zero_point = absmax_parameters(torch.tensor([[-1.0, 2.75]]), ASYM4)
    assert scale.tolist() == [[0.25]]
    assert zero_point.tolist() == [[4]]
    assert zero_point.dtype == torch.int32


@pytest.mark.parametrize("grid", [SYM4, NARROW4, ASYM4], ids=str)
def test_zeros_stay_exact_zeros(grid):
    w = torch.zeros(2, 8)
    scale, zero_point = absmax_parameters(w, grid)
    assert scale.tolist() == [[1.0], [1.0]]
    assert torch.equal(dequantize(quantize(w, scale, zero_point, grid), scale, zero_point), w)


@pytest.mark.parametrize("value", [5.0, -5.0])
@pytest.mark.parametrize("grid", [SYM4, NARROW4, ASYM4], ids=str)
def test_constant_group_is_reproduced(grid, value):
    w = torch.full((1, 8), value)
    scale, zero_point = absmax_parameters(w, grid, rounded=False)
    assert torch.allclose(dequantize(quantize(w, scale, zero_point, grid), scale, zero_point), w, rtol=1e-6)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("grid", [SYM4, ASYM4], ids=str)
def test_absmax_refuses_values_that_are_not_numbers(grid, value):
    w = torch.ones(3, 4)
    w[1, 2] = value
    with pytest.raises(NumericError, match="1 of 3 ranges"):
        absmax_parameters(w, grid)


def test_half_precision_range_does_not_overflow():
    w = torch.tensor([[-60000.0, 60000.0]], dtype=torch.float16)
    scale, _ = absmax_parameters(w, ASYM4)  # 120000 is above the largest fp16 number
    assert scale.item() == pytest.approx(8000.0)
    assert scale.dtype == torch.float32


def test_denormals_become_finite_zeros():
    w = torch.tensor([[1e-38, -3e-39, 1e-45]])
    for grid in (SYM4, ASYM4):
        scale, zero_point = absmax_parameters(w, grid)
        assert scale.item() == SMALLEST_SCALE
        assert dequantize(quantize(w, scale, zero_point, grid), scale, zero_point).abs().max().item() == 0.0
        unrounded, zero_point = absmax_parameters(w, grid, rounded=False)
        assert torch.isfinite(dequantize(quantize(w, unrounded, zero_point, grid), unrounded, zero_point)).all()


@given(weights(), grids(schemes=("asym",)))
def test_asym_represents_zero_exactly(w, grid):
    scale, zero_point = absmax_parameters(w, grid)
    zero = torch.zeros_like(w)
    assert torch.equal(dequantize(quantize(zero, scale, zero_point, grid), scale, zero_point), zero)


@given(weights(), grids())
def test_without_clipping_no_value_moves_further_than_half_a_step(w, grid):
    scale, zero_point = absmax_parameters(w, grid, rounded=False)
    error = (dequantize(quantize(w, scale, zero_point, grid), scale, zero_point) - w).abs()
    # asym: the zero point is rounded too, which may shift the range by half a step.
    allowed = scale * (0.5 if grid.scheme == "sym" else 1.0)
    assert bool((error <= allowed * (1 + 1e-5)).all())


# --- scales as files store them


@given(st.floats(2.0**-24, 65504.0), st.booleans())
def test_round_scale_is_the_nearest_fp16_and_keeps_the_sign(value, is_negative):
    scale = torch.tensor([-value if is_negative else value], dtype=torch.float64)
    stored = round_scale(scale)
    assert stored.dtype == torch.float32
    assert stored.item() == scale.to(torch.float16).item()
    assert torch.equal(round_scale(stored), stored)


@pytest.mark.parametrize("value", [0.0, 1e-38, 1e-45, 1e-9])
def test_round_scale_has_a_floor(value):
    assert round_scale(torch.tensor([value, -1e-38])).tolist() == [SMALLEST_SCALE, -SMALLEST_SCALE]


@pytest.mark.parametrize("value", [65505.0, -1e6, math.inf, math.nan])
def test_round_scale_refuses_what_fp16_cannot_hold(value):
    with pytest.raises(NumericError, match="1 of 2 scales"):
        round_scale(torch.tensor([1.0, value]))


def test_zero_point_belongs_to_the_rounded_scale():
    low, high = torch.tensor([-99.93]), torch.tensor([100.0])
    grid = Grid(bits=8, scheme="asym")
    scale, zero_point = minmax_parameters(low, high, grid)
    assert scale.item() == round_scale(scale).item()
    assert zero_point.item() == round(99.93 / scale.item())


# --- quantize


def _slow_codes(values: list[float], scale: float, zero_point: int, grid: Grid) -> list[int]:
    """Oracle: exact rational arithmetic; Python's round is half to even."""
    return [min(max(round(Fraction(value) / Fraction(scale)) + zero_point, grid.qmin), grid.qmax) for value in values]


@given(weights(), grids(), st.sampled_from([2.0**-6, 0.5, 1.0, 16.0, -0.5]), st.integers(0, 3))
def test_quantize_against_exact_arithmetic(w, grid, scale, zero_point):
    if grid.scheme == "sym":
        zero_point = 0
    else:
        scale = abs(scale)
    codes = quantize(w, torch.tensor(scale), torch.tensor(zero_point) if zero_point else None, grid)
    assert codes.dtype == grid.code_dtype
    assert codes.flatten().tolist() == _slow_codes(w.flatten().tolist(), scale, zero_point, grid)


def test_halves_go_to_the_even_code():
    x = torch.tensor([0.5, 1.5, 2.5, -0.5, -1.5])
    assert quantize(x, torch.tensor(1.0), None, SYM4).tolist() == [0, 2, 2, 0, -2]


def test_negative_scale_gives_the_extra_level_to_the_positive_side():
    x = torch.tensor([8.0, -8.0])
    codes = quantize(x, torch.tensor(-1.0), None, SYM4)
    assert codes.tolist() == [-8, 7]
    assert dequantize(codes, torch.tensor(-1.0), None).tolist() == [8.0, -7.0]


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("scheme", ["sym", "asym"])
def test_agrees_with_torch(bits, scheme):
    grid = Grid(bits=bits, scheme=scheme)
    w = torch.randn(16, 257, generator=torch.Generator().manual_seed(0)) * 3
    scale, zero_point = absmax_parameters(w, grid)
    scale = scale * 0.7  # so that some values saturate
    zeros = torch.zeros(16, dtype=torch.int32) if zero_point is None else zero_point.flatten()
    theirs = torch.fake_quantize_per_channel_affine(w, scale.flatten(), zeros, 0, grid.qmin, grid.qmax)
    ours = dequantize(quantize(w, scale, zero_point, grid), scale, zero_point)
    # torch multiplies by 1 / scale, so a value within rounding of a half may go the other way
    quotient = (w / scale).double()
    is_tie = ((quotient - quotient.floor()) - 0.5).abs() < 1e-4
    assert is_tie.float().mean() < 0.01
    assert torch.allclose(theirs[~is_tie], ours[~is_tie], rtol=1e-6, atol=0.0)


@given(weights(), grids())
def test_never_more_levels_than_bits_allow(w, grid):
    scale, zero_point = absmax_parameters(w, grid)
    for row in dequantize(quantize(w, scale / 3, zero_point, grid), scale / 3, zero_point):
        assert len(row.unique()) <= 2**grid.bits


@given(weights(), grids(schemes=("sym",), narrow=True), st.floats(2.0**-10, 1e4))
def test_narrow_grids_stay_within_alpha(w, grid, alpha):
    scale = scale_from_alpha(torch.tensor(alpha), grid)
    assert dequantize(quantize(w, scale, None, grid), scale, None).abs().max().item() <= alpha * (1 + 1e-6)


@given(weights(), grids())
def test_quantizing_twice_changes_nothing(w, grid):
    scale, zero_point = absmax_parameters(w, grid)
    scale = round_scale(scale * 0.6)
    codes = quantize(w, scale, zero_point, grid)
    assert torch.equal(quantize(dequantize(codes, scale, zero_point), scale, zero_point, grid), codes)


@given(weights(), grids(), st.integers(-8, 8))
def test_powers_of_two_scale_the_result(w, grid, exponent):
    factor = 2.0**exponent
    scale, zero_point = absmax_parameters(w, grid, rounded=False)
    codes = quantize(w, scale, zero_point, grid)
    assert torch.equal(quantize(w * factor, scale * factor, zero_point, grid), codes)
    assert torch.equal(dequantize(codes, scale * factor, zero_point), dequantize(codes, scale, zero_point) * factor)
    if bool((w != 0).any(-1).all()):
        scaled, scaled_zero_point = absmax_parameters(w * factor, grid, rounded=False)
        assert torch.equal(scaled, scale * factor)
        assert scaled_zero_point is None or torch.equal(scaled_zero_point, zero_point)


@given(weights(), grids())
def test_inputs_are_never_modified(w, grid):
    scale, zero_point = absmax_parameters(w, grid)
    codes = quantize(w, scale, zero_point, grid)
    inputs = [w, scale, codes] + ([] if zero_point is None else [zero_point])
    copies = [tensor.clone() for tensor in inputs]
    absmax_parameters(w, grid)
    round_scale(scale)
    quantize(w, scale, zero_point, grid)
    dequantize(codes, scale, zero_point)
    round_to_grid(w, scale, zero_point, grid)
    from_groups(to_groups(w, -1))
    for tensor, copy in zip(inputs, copies, strict=True):
        assert torch.equal(tensor, copy)


@given(weights(), grids())
def test_round_to_grid_is_quantize_then_dequantize(w, grid):
    scale, zero_point = absmax_parameters(w, grid)
    expected = dequantize(quantize(w, scale, zero_point, grid), scale, zero_point)
    assert torch.equal(round_to_grid(w, scale, zero_point, grid), expected)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_quantize_refuses_values_that_are_not_numbers(value):
    with pytest.raises(NumericError, match="1 of 3 values"):
        quantize(torch.tensor([1.0, value, 2.0]), torch.tensor(1.0), None, SYM4)


def test_half_precision_is_widened():
    w = torch.tensor([[0.1, -0.3]], dtype=torch.bfloat16)
    scale, _ = absmax_parameters(w, SYM4)
    assert torch.equal(quantize(w, scale, None, SYM4), quantize(w.float(), scale, None, SYM4))


# --- groups


def test_groups_are_consecutive_inputs_of_one_output():
    w = torch.arange(12.0).reshape(2, 6)
    groups = to_groups(w, 3)
    assert groups.tolist() == [[[0, 1, 2], [3, 4, 5]], [[6, 7, 8], [9, 10, 11]]]
    assert torch.equal(from_groups(groups), w)
    assert to_groups(w, -1).shape == (2, 1, 6)


@pytest.mark.parametrize("group_size", [48, 0, 7, -2, 200])
def test_group_size_must_divide(group_size):
    with pytest.raises(SpecError, match=rf"group_size={group_size} does not divide in_features=100\. Use a divisor"):
        to_groups(torch.zeros(4, 100), group_size)


def test_the_suggested_divisor_divides():
    with pytest.raises(SpecError, match="such as 64,"):
        to_groups(torch.zeros(4, 192), 100)


def test_only_matrices_have_groups():
    with pytest.raises(SpecError, match=r"shape \(4,\)"):
        to_groups(torch.zeros(4), 2)

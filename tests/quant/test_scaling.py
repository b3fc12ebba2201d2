"""Powers of two for the columns of layers that share their input: found where there are outliers, and only there."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from inc_laaciq.errors import SpecError
from inc_laaciq.quant import scaling
from inc_laaciq.quant.moments import LanguageMoments
from inc_laaciq.quant.scale_search import search_groups
from inc_laaciq.quant.scaling import GAIN, column_scale
from inc_laaciq.quant.solver import SolverSpec, solve

COLUMNS, OUTLIERS, LOUD = 64, [3, 17, 40, 41], 23
SPEC = SolverSpec(bits=3, group_size=32, mode="fast")


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def inputs(factor=1.0, *, columns=OUTLIERS, seed=1, full=False):
    x = normal(256, COLUMNS, seed=seed)
    x[:, columns] *= factor
    return LanguageMoments.of(x, full=full)


def weight(factor=1.0, *, rows=96, seed=0):
    w = normal(rows, COLUMNS, seed=seed)
    w[:, OUTLIERS] *= factor
    return w


def solved_error(w, scale, x, spec):
    """Relative output error of the real solver on a scaled layer, by plain matrix products on the inputs."""
    rounded = solve(w * scale, spec, {"en": LanguageMoments.of(x / scale)}).dequantize() / scale
    return float((x @ (rounded - w).T).square().sum() / (x @ w.T).square().sum())


@pytest.mark.parametrize("full", [False, True], ids=["diagonal", "full"])
@pytest.mark.parametrize("bits", [3, 4])
@pytest.mark.parametrize("factor", [8.0, 32.0])
def test_outlier_columns_of_small_inputs_get_what_they_were_multiplied_by(factor, bits, full):
    spec = SolverSpec(bits=bits, group_size=32)
    scale = column_scale([weight(factor)], spec, {"en": inputs(1 / factor, full=full)})
    expected = torch.ones(COLUMNS)
    expected[OUTLIERS] = 1 / factor
    assert torch.equal(scale, expected)


@pytest.mark.parametrize("case", ["weights", "inputs"])
def test_the_real_solver_loses_less_with_the_scale(case):
    spec = SolverSpec(bits=3, group_size=64, mode="fast")
    w, x = weight(), normal(256, COLUMNS, seed=1)
    if case == "weights":
        w[:, OUTLIERS] *= 32
        x[:, OUTLIERS] /= 32
    else:
        x[:, LOUD] *= 128
    scale = column_scale([w], spec, {"en": LanguageMoments.of(x)})
    assert (scale[OUTLIERS] < 1).all() if case == "weights" else scale[LOUD] == 2
    assert solved_error(w, scale, x, spec) < (1 - GAIN) * solved_error(w, torch.ones(COLUMNS), x, spec)


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("reconcile", ["mean", "natural", "minimax", "cvar"])
def test_no_outliers_no_scale(bits, reconcile):
    moments = {"en": inputs(seed=1), "sw": inputs(seed=2)}
    assert column_scale([weight()], SolverSpec(bits=bits, reconcile=reconcile), moments) is None


def test_a_gain_that_is_too_small_changes_nothing(monkeypatch):
    moments = {"en": inputs(32.0)}
    assert column_scale([weight()], SPEC, moments) is None
    monkeypatch.setattr(scaling, "GAIN", 0.0)
    assert column_scale([weight()], SPEC, moments) is not None


def test_where_many_columns_stand_out_the_others_share_the_change():
    many = list(range(28))
    w, moments = weight(), {"en": inputs(1 / 256, columns=many)}
    w[:, many] *= 256
    exponent = column_scale([w], SolverSpec(bits=3, group_size=16), moments).log2()
    assert exponent[0] < 0 < exponent[-1]
    assert abs(float(exponent.mean())) <= 0.5


def test_the_scale_answers_to_the_languages_by_their_weight():
    """A column that is loud in one language only is scaled only if that language counts."""
    moments = {"en": inputs(), "sw": inputs(128.0, columns=[LOUD])}

    def scale_of(**weights):
        return column_scale([weight()], SolverSpec(bits=3, group_size=64, weights=weights), moments)

    assert scale_of(sw=0.0) is None
    assert scale_of(en=0.0)[LOUD] == 2


def test_a_loud_language_has_no_more_say_than_a_quiet_one():
    quiet, loud = inputs(1 / 16), LanguageMoments.of(1000 * normal(256, COLUMNS, seed=1))
    same = LanguageMoments.of(normal(256, COLUMNS, seed=1))
    found = [column_scale([weight(16.0)], SPEC, {"en": quiet, "sw": other}) for other in (loud, same)]
    assert found[0] is not None
    assert torch.equal(found[0], found[1])


def test_layers_are_judged_together_and_each_by_its_own_spec():
    plain, wild = weight(seed=4), weight(16.0, seed=5)
    fine, coarse = SolverSpec(bits=8, group_size=32), SolverSpec(bits=3, group_size=8)
    moments = {"en": inputs(1 / 16)}
    assert (column_scale([plain, wild], [fine, coarse], moments)[OUTLIERS] < 1).all()
    # With bits to spare for the wild layer as well, a scale that suits it would cost the plain one, which has not.
    assert column_scale([plain, wild], [coarse, fine], {"en": inputs()}) is None
    assert column_scale([wild], fine, {"en": inputs()}) is not None
    both = column_scale([plain, wild], SPEC, moments)
    assert torch.equal(both, column_scale([plain, wild], [SPEC, SPEC], moments))


def test_only_some_channels_are_looked_at_of_a_tall_layer():
    scale = column_scale([weight(16.0, rows=4096)], SPEC, {"en": inputs(1 / 16)})
    assert (scale[OUTLIERS] == 1 / 16).all()


def test_inputs_stay_as_they_are():
    w, moments = weight(16.0), {"en": inputs(1 / 16, full=True)}
    before = w.clone(), moments["en"].squares.clone(), moments["en"].cross.clone()
    column_scale([w], SPEC, moments)
    for now, then in zip((w, moments["en"].squares, moments["en"].cross), before, strict=True):
        assert torch.equal(now, then)


@given(
    seed=st.integers(0, 99),
    dead=st.integers(0, COLUMNS),
    empty=st.integers(0, COLUMNS),
    spread=st.floats(0, 12),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
    scheme=st.sampled_from(["sym", "asym"]),
)
def test_any_scale_is_powers_of_two_about_one_and_the_same_each_time(seed, dead, empty, spread, dtype, scheme):
    x, w = normal(32, COLUMNS, seed=seed), normal(16, COLUMNS, seed=seed + 1)
    x *= torch.exp(spread * torch.rand(COLUMNS, generator=torch.Generator().manual_seed(seed)))
    x[:, :dead] = 0.0
    w[:, COLUMNS - empty :] = 0.0
    spec = SolverSpec(bits=3, group_size=16, scheme=scheme)
    moments = {"en": LanguageMoments.of(x)}
    scale = column_scale([w.to(dtype)], spec, moments)
    if scale is None:
        return
    assert scale.dtype == torch.float32
    exponent = scale.log2()
    assert torch.equal(torch.exp2(exponent.round()), scale)
    assert abs(float(exponent.mean())) <= 0.5
    assert exponent.abs().max() <= 21
    assert torch.equal(scale, column_scale([w.to(dtype)], spec, moments))


@pytest.mark.parametrize(
    ("weights", "specs"), [([], SPEC), ([weight()], [SPEC, SPEC])], ids=["no weight", "too many specs"]
)
def test_a_spec_for_each_weight_is_needed(weights, specs):
    with pytest.raises(SpecError, match="a column scale needs a spec for each weight"):
        column_scale(weights, specs, {"en": inputs()})


def test_statistics_are_needed():
    with pytest.raises(SpecError, match="statistics of at least one language"):
        column_scale([weight()], SPEC, {})


def test_inputs_get_smaller_as_their_columns_get_larger(monkeypatch):
    """The importance of a scaled column is that of its input divided by the scale."""
    powers = []

    def spy(groups, grid, importance, *, signed):
        powers.append(importance.flatten())
        return search_groups(groups, grid, importance, signed=signed)

    monkeypatch.setattr(scaling, "search_groups", spy)
    layer = scaling._Layer(weight(), SPEC, {"en": inputs()})
    scale = torch.exp2(torch.arange(COLUMNS).float() % 3)
    layer.risk(scale)
    assert torch.allclose(powers[0] * scale.square(), layer.power)

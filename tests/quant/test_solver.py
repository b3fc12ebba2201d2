"""The solver: its invariants, its reductions, and what it does to languages."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from inc_laaciq.errors import NumericError, SpecError
from inc_laaciq.quant.aciq import alpha_from_kurtosis
from inc_laaciq.quant.grid import Grid, absmax_parameters, dequantize, quantize, round_scale, to_groups
from inc_laaciq.quant.language_clip import language_aware_alpha, language_aware_clip
from inc_laaciq.quant.moments import LanguageMoments
from inc_laaciq.quant.objective import LayerObjective
from inc_laaciq.quant.reconcile import risk
from inc_laaciq.quant.solver import SolverSpec, solve

OUT, IN = 16, 128


def _weight(seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(OUT, IN, generator=generator) * torch.rand(OUT, 1, generator=generator)


def _languages(seed: int = 0, n: int = 3, tokens: int = 300) -> dict[str, LanguageMoments]:
    generator = torch.Generator().manual_seed(seed + 1)
    shared = torch.randn(IN, IN, generator=generator) / IN**0.5
    found = {}
    for tag in ("en", "sw", "hi", "km")[:n]:
        own = shared + 0.5 * torch.randn(IN, IN, generator=generator) / IN**0.5
        x = torch.randn(tokens, IN, generator=generator) @ own * (0.1 + torch.rand(IN, generator=generator))
        found[tag] = LanguageMoments.of(x, full=True)
    return found


def _absmax(weight: torch.Tensor, spec: SolverSpec) -> torch.Tensor:
    groups = to_groups(weight, spec.group_size)
    scale, zero_point = absmax_parameters(groups, spec.grid, rounded=True)
    return dequantize(quantize(groups, scale, zero_point, spec.grid), scale, zero_point).reshape(weight.shape)


@pytest.mark.parametrize("reconcile", ["mean", "natural", "minimax", "cvar"])
@pytest.mark.parametrize("scheme", ["sym", "asym"])
@pytest.mark.parametrize("mode", ["paper", "fast", "balanced"])
def test_never_worse_than_absmax_on_the_objective_that_was_solved(mode, scheme, reconcile):
    weight, moments = _weight(), _languages()
    spec = SolverSpec(bits=3, group_size=32, scheme=scheme, mode=mode, reconcile=reconcile)
    shares = {tag: float(m.n) for tag, m in moments.items()} if reconcile == "natural" else None
    objective = LayerObjective(weight, moments, shares=shares)
    solved = objective.errors(solve(weight, spec, moments).dequantize() - weight)
    absmax = objective.errors(_absmax(weight, spec) - weight)
    assert risk(solved, reconcile) <= risk(absmax, reconcile) * (1 + 1e-5)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    bits=st.integers(2, 8),
    group_size=st.sampled_from([8, 32, -1]),
    outlier=st.sampled_from([1.0, 1e2, 1e4]),
    scheme=st.sampled_from(["sym", "asym"]),
)
def test_data_free_is_never_worse_than_absmax_in_any_group(seed, bits, group_size, outlier, scheme):  # faults row 42
    weight = _weight(seed)
    weight[seed % OUT, seed % IN] *= outlier
    weight[(seed + 1) % OUT] = 0.0
    spec = SolverSpec(bits=bits, group_size=group_size, scheme=scheme, mode="fast")
    before = to_groups(weight, group_size)
    ours = (to_groups(solve(weight, spec).dequantize(), group_size) - before).square().sum(-1)
    theirs = (to_groups(_absmax(weight, spec), group_size) - before).square().sum(-1)
    assert bool((ours <= theirs * (1 + 1e-5) + 1e-12).all())


def test_codes_and_scales_are_what_files_store():
    solved = solve(_weight(), SolverSpec(bits=4, group_size=32), _languages())
    assert solved.codes.dtype == torch.int8
    assert int(solved.codes.min()) >= -8
    assert int(solved.codes.max()) <= 7
    assert torch.equal(solved.scale, solved.scale.half().float())
    asym = solve(_weight(), SolverSpec(bits=4, group_size=32, scheme="asym"), _languages())
    assert asym.codes.dtype == asym.zero_point.dtype == torch.uint8
    assert int(asym.codes.max()) <= 15
    by_hand = (asym.codes.float().reshape(OUT, -1, 32) - asym.zero_point[..., None].float()) * asym.scale[..., None]
    assert torch.equal(asym.dequantize(), by_hand.reshape(OUT, IN))


def test_signed_scales_help_and_unsigned_stay_positive():
    weight, moments = _weight(), _languages()
    errors = {
        signed: solve(weight, SolverSpec(bits=3, group_size=32, signed=signed), moments) for signed in (True, False)
    }
    assert bool((errors[True].scale < 0).any())
    assert bool((errors[False].scale > 0).all())
    assert sum(errors[True].errors.values()) < sum(errors[False].errors.values())


def test_error_compensation_beats_the_search_which_beats_absmax():
    weight, moments = _weight(), _languages()
    mean = {}
    for mode in ("fast", "balanced"):
        found = solve(weight, SolverSpec(bits=3, group_size=32, mode=mode, signed=False), moments)
        mean[mode] = sum(found.errors.values()) / 3
    absmax = float(
        LayerObjective(weight, moments).errors(_absmax(weight, SolverSpec(bits=3, group_size=32)) - weight).mean()
    )
    assert mean["balanced"] < 0.85 * mean["fast"] < 0.85 * absmax


def test_a_layer_of_one_channel_is_solved_without_a_trace_on_its_weight():
    weight = _weight()[:1].clone()
    before, moments = weight.clone(), _languages()
    spec = SolverSpec(bits=3, group_size=16)
    solved = solve(weight, spec, moments)
    assert torch.equal(weight, before)
    objective = LayerObjective(before, moments)
    found = objective.errors(solved.dequantize() - before)
    assert list(solved.errors.values()) == pytest.approx(found.tolist(), rel=1e-4)


def test_an_error_that_is_no_number_never_wins():
    moments = {"en": LanguageMoments.of(_weight()[:, :32] * (torch.arange(32) > 0), full=True)}  # a dead column
    weight = _weight(1)[:8, :32]
    solved = solve(weight, SolverSpec(bits=4, group_size=16, damping=1e-44), moments)  # as good as none
    assert all(0 < error < 0.1 for error in solved.errors.values())


def test_minimax_lowers_the_worst_language_against_the_mean():
    weight, moments = _weight(), _languages(n=4)
    worst = {
        word: max(solve(weight, SolverSpec(bits=2, group_size=32, reconcile=word), moments).errors.values())
        for word in ("mean", "minimax")
    }
    assert worst["minimax"] < worst["mean"]


@pytest.mark.parametrize("mode", ["paper", "fast", "balanced"])
def test_order_of_languages_changes_nothing(mode):
    weight, moments = _weight(), _languages()
    spec = SolverSpec(bits=4, group_size=32, mode=mode)
    first = solve(weight, spec, moments)
    for order in itertools.permutations(moments):
        other = solve(weight, spec, {tag: moments[tag] for tag in order})
        torch.testing.assert_close(other.dequantize(), first.dequantize(), rtol=0, atol=0)
        assert other.errors == pytest.approx(first.errors)


def test_duplicating_a_language_under_mean_doubles_its_weight():
    weight, moments = _weight(), _languages()
    twice = solve(weight, SolverSpec(bits=3, group_size=32), {**moments, "en-GB": moments["en"]})
    weighted = solve(weight, SolverSpec(bits=3, group_size=32, weights={"en": 2.0}), moments)
    plain = solve(weight, SolverSpec(bits=3, group_size=32), moments)
    assert torch.equal(twice.codes, weighted.codes)
    assert not torch.equal(twice.codes, plain.codes)


def test_weights_favour_the_language_that_they_name():
    weight, moments = _weight(), _languages()
    plain = solve(weight, SolverSpec(bits=2, group_size=32), moments).errors["hi"]
    favoured = solve(weight, SolverSpec(bits=2, group_size=32, weights={"hi": 50.0}), moments)
    objective = LayerObjective(weight, {"hi": moments["hi"]})
    assert float(objective.errors(favoured.dequantize() - weight)) < plain


def test_one_language_with_uniform_use_is_plain_aciq():
    weight = _weight(3)
    uniform = LanguageMoments.of(torch.eye(IN) * IN**0.5)
    alpha = language_aware_alpha(weight, uniform, bits=4)
    sigma = weight.square().mean(1).sqrt()
    kurtosis = weight.pow(4).mean(1) / sigma.pow(4) - 3
    plain = torch.minimum(alpha_from_kurtosis(sigma, kurtosis, 4), weight.abs().amax(1))
    torch.testing.assert_close(alpha, plain)
    clipped = language_aware_clip(weight, {"en": uniform}, bits=4)
    assert torch.equal(clipped, language_aware_clip(weight, uniform, bits=4))
    torch.testing.assert_close(clipped, weight.clamp(-plain[:, None], plain[:, None]))


def test_several_languages_keep_the_widest_threshold():
    weight, moments = _weight(), _languages()
    both = language_aware_clip(weight, moments, bits=4).abs().amax(1)
    for one in moments.values():
        assert bool((both >= language_aware_clip(weight, one, bits=4).abs().amax(1)).all())


def test_per_channel_data_free_uses_the_closed_form_where_it_wins():
    weight = torch.distributions.Laplace(0.0, 1.0).sample((4, 1024))
    solved = solve(weight, SolverSpec(bits=4, group_size=-1, mode="fast"))
    sigma = weight.square().mean(1).sqrt()
    kurtosis = weight.pow(4).mean(1) / sigma.pow(4) - 3
    alpha = torch.minimum(alpha_from_kurtosis(sigma, kurtosis, 4, layout="full"), weight.abs().amax(1))
    torch.testing.assert_close(solved.scale[:, 0], round_scale(alpha / 7))


def test_zero_groups_and_constant_weights_come_out_exactly():  # faults row 37
    weight = torch.zeros(4, 64)
    weight[1] = 0.25
    for mode in ("paper", "fast"):
        solved = solve(weight, SolverSpec(bits=4, group_size=32, mode=mode)).dequantize()
        assert torch.equal(solved[0], torch.zeros(64))
        assert bool(torch.isfinite(solved).all())
        torch.testing.assert_close(solved[1], weight[1], rtol=1e-3, atol=0)
    moments = {"en": LanguageMoments.of(torch.randn(10, 64, generator=torch.Generator().manual_seed(0)), full=True)}
    solved = solve(weight, SolverSpec(bits=4, group_size=32), moments).dequantize()
    assert torch.equal(solved[[0, 2, 3]], torch.zeros(3, 64))


def test_denormal_weights_become_zeros_not_nan():  # faults row 41
    weight = torch.full((2, 64), 1e-38)
    solved = solve(weight, SolverSpec(bits=4, group_size=32, mode="fast")).dequantize()
    assert bool(torch.isfinite(solved).all())
    assert float(solved.abs().max()) <= 2.0**-24


def test_short_groups_without_kurtosis_fall_back_to_absmax():  # faults row 43
    weight = torch.tensor([[1.0, -1.0, 1.0, -1.0]])
    solved = solve(weight, SolverSpec(bits=4, group_size=-1, mode="paper")).dequantize()
    torch.testing.assert_close(solved, weight, rtol=1e-3, atol=0)
    assert torch.equal(language_aware_clip(torch.tensor([[3.0, -2.0]]), None, 4), torch.tensor([[3.0, -2.0]]))


@pytest.mark.parametrize("unit", [2.0**-40, 2.0**40])
def test_the_threshold_is_in_the_units_of_the_weights(unit):
    weight = torch.randn(4, 64, generator=torch.Generator().manual_seed(0))
    assert torch.equal(language_aware_clip(weight * unit, None, 4), language_aware_clip(weight, None, 4) * unit)


def test_a_language_beyond_float32_is_refused_and_not_perfect():
    tokens = torch.ones(8, 4)
    weight, moments = 10 * torch.ones(2, 4), {"en": LanguageMoments.of(tokens), "fi": LanguageMoments.of(1e18 * tokens)}
    with pytest.raises(NumericError, match="no finite energy on fi"):
        LayerObjective(weight, moments)


@pytest.mark.parametrize(("bad", "message"), [(float("nan"), "1 NaN and 0 inf"), (float("inf"), "0 NaN and 1 inf")])
def test_nonfinite_weights_are_refused_with_counts(bad, message):  # faults rows 38 and 39
    weight = _weight()
    weight[3, 5] = bad
    with pytest.raises(NumericError, match=message):
        solve(weight, SolverSpec(mode="fast"))


def test_wrong_settings_are_refused():
    with pytest.raises(SpecError, match="does not divide in_features=128"):
        solve(_weight(), SolverSpec(group_size=48, mode="fast"))
    with pytest.raises(SpecError, match="needs calibration text"):
        solve(_weight(), SolverSpec())
    with pytest.raises(SpecError, match="full second moments"):
        solve(_weight(), SolverSpec(group_size=32), {"en": LanguageMoments.of(torch.randn(9, IN))})
    with pytest.raises(SpecError, match="mode 'paper' at 8 bits"):
        SolverSpec(bits=8, mode="paper")
    with pytest.raises(SpecError, match="balanced"):
        SolverSpec(mode="best")
    with pytest.raises(SpecError, match="cvar"):
        SolverSpec(reconcile="worst")
    with pytest.raises(SpecError, match="damping"):
        SolverSpec(damping=0.0)
    spec = SolverSpec(group_size=32, reconcile="natural", shares={"en": 1.0, "hi": 0.5})
    with pytest.raises(SpecError, match="training share for sw"):
        solve(_weight(), spec, _languages())
    with pytest.raises(SpecError, match="not all zero"):
        LayerObjective(_weight(), _languages(), weights={"en": 0.0, "sw": 0.0, "hi": 0.0})


def test_natural_follows_the_shares():
    weight, moments = _weight(), _languages()
    by_share = {
        tag: solve(
            weight,
            SolverSpec(
                bits=2, group_size=32, reconcile="natural", shares={t: 1.0 if t == tag else 0.01 for t in moments}
            ),
            moments,
        )
        for tag in ("en", "sw")
    }
    objective = LayerObjective(weight, moments)
    errors = {tag: objective.errors(q.dequantize() - weight) for tag, q in by_share.items()}
    assert float(errors["en"][0]) < float(errors["sw"][0])
    assert float(errors["sw"][1]) < float(errors["en"][1])


def test_fewer_tokens_than_features_still_solve():
    moments = {"en": LanguageMoments.of(torch.randn(5, IN, generator=torch.Generator().manual_seed(1)), full=True)}
    solved = solve(_weight(), SolverSpec(bits=4, group_size=32), moments)
    assert bool(torch.isfinite(solved.dequantize()).all())


def test_a_language_that_the_layer_answers_with_zeros_takes_no_part():
    moments = _languages()
    silent = {**moments, "km": LanguageMoments.of(torch.zeros(10, IN), full=True)}
    solved = solve(_weight(), SolverSpec(bits=4, group_size=32), silent)
    assert solved.errors["km"] == 0.0
    assert bool(torch.isfinite(solved.dequantize()).all())


def test_input_is_not_modified():
    weight = _weight()
    before = weight.clone()
    solve(weight, SolverSpec(group_size=32), _languages())
    assert torch.equal(weight, before)


def test_gptq_on_a_diagonal_hessian_is_plain_rounding():
    """Independent oracle: without correlations there is nothing to compensate."""
    from inc_laaciq.quant.gptq import compensate
    from inc_laaciq.quant.scale_search import search

    weight, grid = _weight(), Grid(bits=4, scheme="sym")
    importance = torch.rand(IN, generator=torch.Generator().manual_seed(2)) + 0.1
    codes, scale, _, _ = compensate(weight, importance.diag(), grid, 32, signed=False, damping=0.01)
    groups = to_groups(weight, 32)
    expected = search(groups, grid, importance.reshape(-1, 32))[0]
    torch.testing.assert_close(scale, expected.squeeze(-1))
    assert torch.equal(codes.reshape(groups.shape), quantize(groups, expected, None, grid).float())


@pytest.mark.parametrize("group_size", [16, 64, 128, 256, 192])
def test_gptq_matches_a_slow_column_by_column_loop(group_size):
    """Independent oracle: the textbook update with an explicit inverse, scales given."""
    from inc_laaciq.quant.gptq import compensate

    generator = torch.Generator().manual_seed(4)
    n = {192: 384}.get(group_size, 256)
    weight = torch.randn(5, n, generator=generator)
    x = torch.randn(600, n, generator=generator) @ torch.randn(n, n, generator=generator)
    hessian, grid = x.T @ x / 600, Grid(bits=4, scheme="sym")
    codes, scale, _, _ = compensate(weight, hessian, grid, group_size, signed=False, damping=0.01)
    damped = hessian.double() + 0.01 * hessian.diagonal().mean() * torch.eye(n, dtype=torch.float64)
    inverse, w = torch.linalg.inv(damped), weight.double().clone()
    differ = 0
    for j in range(n):
        s = scale[:, j // group_size].double()
        q = (w[:, j] / s).round().clamp(-8, 7)
        differ += int((q != codes[:, j].double()).sum())
        error = (w[:, j] - codes[:, j].double() * s) / inverse[0, 0]
        w[:, j:] -= error[:, None] * inverse[0]
        inverse = (inverse - torch.outer(inverse[:, 0], inverse[0]) / inverse[0, 0])[1:, 1:]
    assert differ <= 0.01 * codes.numel()  # ties and rounding only


def test_loud_languages_do_not_outvote_quiet_ones():
    """Each language's error is divided by its output energy, so the size of its activations does not matter."""
    weight, moments = _weight(), _languages()
    generator = torch.Generator().manual_seed(7)
    quiet = torch.randn(200, IN, generator=generator)
    plain, loud = (LanguageMoments.of(quiet * factor, full=True) for factor in (1.0, 1024.0))
    spec = SolverSpec(bits=3, group_size=32)
    first, second = (solve(weight, spec, {**moments, "km": km}) for km in (plain, loud))
    assert torch.equal(first.codes, second.codes)
    assert first.errors == pytest.approx(second.errors, rel=1e-4)


@pytest.mark.parametrize("seed", range(12))
def test_no_channel_is_worse_than_absmax_where_compensation_goes_wrong(seed):
    """Few tokens, strong correlations and outliers: errors pile up in the last columns and are clipped there."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(OUT, IN, generator=generator)
    weight[:, -1] *= 30
    base = torch.randn(8, 1, generator=generator) + 0.02 * torch.randn(8, IN, generator=generator)
    moments = {"en": LanguageMoments.of(base, full=True)}
    spec = SolverSpec(bits=2, group_size=-1, scheme="sym", signed=False, damping=1e-4)
    hessian = moments["en"].second_moment.double()

    def cost(error):
        return ((error.double() @ hessian) * error.double()).sum(1)

    ours = cost(solve(weight, spec, moments).dequantize() - weight)
    theirs = cost(_absmax(weight, spec) - weight)
    assert bool((ours <= theirs * (1 + 1e-3) + 1e-9).all())


def test_a_search_that_loses_to_absmax_is_not_kept(monkeypatch):
    from inc_laaciq.quant import solver

    weight, moments = _weight(), _languages()
    spec = SolverSpec(bits=4, group_size=32, mode="fast", reconcile="minimax")
    monkeypatch.setattr(solver, "_round", lambda groups, spec, importance: _doubled(solver._absmax(groups, spec)))
    assert torch.equal(solve(weight, spec, moments).dequantize(), _absmax(weight, spec))


def _doubled(rounded):
    return rounded._replace(scale=2 * rounded.scale)

"""The tuning itself, on problems whose answer is known."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from inc_laaciq.fair.tuning import Tuner, TuneSpec
from inc_laaciq.quant.latent import LatentWeight
from inc_laaciq.quant.solver import SolverSpec, solve

SPEC = TuneSpec(steps=60, tilt=4.0, check_every=10, position_rate=0.05, scale_rate=0.02)


def problem(seed=0, distances=(0.4, 0.4)):
    """One layer, and two languages that want its weight to be different things."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(4, 16, generator=generator)
    solved = solve(weight, SolverSpec(bits=3, group_size=8, mode="fast"))
    wanted = {
        tag: weight + far * torch.randn(4, 16, generator=generator)
        for tag, far in zip(("en", "sw"), distances, strict=True)
    }
    rows = {
        tag: [target + 0.01 * torch.randn(4, 16, generator=generator) for _ in range(10)]
        for tag, target in wanted.items()
    }

    def loss(weights, row):
        return (weights["layer"] - row).square().mean()

    return {"layer": LatentWeight(solved, weight)}, loss, rows


def tuned(spec=SPEC, emphasis=None, **how):
    latents, loss, rows = problem(**how)
    return Tuner(latents, loss, rows, emphasis or {"en": 1.0, "sw": 1.0}, spec).run()


def losses(result):
    return next(look["losses"] for look in result.history if look["step"] == result.step)


def test_the_worst_language_gains_on_rows_that_were_not_used():
    result = tuned()
    assert max(losses(result).values()) < 0.9 * max(result.history[0]["losses"].values())
    assert result.step > 0


def test_the_kept_step_is_the_best_one_that_was_looked_at():
    result = tuned()
    assert max(losses(result).values()) == min(max(look["losses"].values()) for look in result.history)
    assert [look["step"] for look in result.history] == list(range(0, 61, 10))


def test_steps_that_only_harm_are_thrown_away():
    result = tuned(replace(SPEC, position_rate=5.0, scale_rate=1.0, steps=10, check_every=1))
    assert max(losses(result).values()) <= max(result.history[0]["losses"].values())


def test_a_tilt_evens_out_the_languages():
    gap = {}
    for tilt in (0.0, 20.0):
        found = tuned(replace(SPEC, tilt=tilt, steps=120), distances=(0.3, 0.6)).history[-1]["losses"]
        gap[tilt] = found["sw"] - found["en"]
    assert gap[20.0] < 0.8 * gap[0.0]


def test_a_language_of_more_weight_gets_more():
    even, shifted = (
        losses(tuned(replace(SPEC, tilt=0.0), emphasis=e)) for e in ({"en": 1.0, "sw": 1.0}, {"en": 9.0, "sw": 1.0})
    )
    assert shifted["en"] < even["en"]


def test_a_language_of_no_weight_takes_no_part():
    result = tuned(emphasis={"en": 1.0, "sw": 0.0})
    assert set(losses(result)) == {"en"}


def test_the_same_seed_gives_the_same_codes():
    first, again, other = tuned(), tuned(), tuned(replace(SPEC, seed=1))
    assert torch.equal(first.weights["layer"].codes, again.weights["layer"].codes)
    assert torch.equal(first.weights["layer"].scale, again.weights["layer"].scale)
    assert not torch.equal(first.weights["layer"].scale, other.weights["layer"].scale)


@pytest.mark.parametrize("rows", [1, 3, 20])
def test_every_row_is_drawn_before_any_comes_again(rows):
    latents, loss, text = problem()
    tuner = Tuner(latents, loss, text, {"en": 1.0, "sw": 1.0}, replace(SPEC, rows=rows))
    drawn = [id(row) for _ in range(8) for row in tuner._draw("en")]
    assert len(drawn) == 8 * rows
    if rows == 1:  # 8 of the 10 rows are for training
        assert len(set(drawn)) == 8


def test_two_rows_are_one_to_tune_on_and_one_to_look_at():
    latents, loss, text = problem()
    result = Tuner(latents, loss, {tag: rows[:2] for tag, rows in text.items()}, {"en": 1.0, "sw": 1.0}, SPEC).run()
    assert result.is_held_out


def test_one_row_serves_for_both_and_is_told():
    latents, loss, text = problem()
    result = Tuner(latents, loss, {tag: rows[:1] for tag, rows in text.items()}, {"en": 1.0, "sw": 1.0}, SPEC).run()
    assert max(losses(result).values()) < max(result.history[0]["losses"].values())
    assert not result.is_held_out

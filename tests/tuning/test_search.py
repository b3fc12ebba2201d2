"""What is tried after a configuration fails: no framework, a made verdict for every trial."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from inc_laaciq.calibration.folding import Fold
from inc_laaciq.calibration.layers import Layer
from inc_laaciq.config import LaaciqSpec, WeightSpec
from inc_laaciq.config.bounds import parse_bound
from inc_laaciq.config.policy import Policy, Rule
from inc_laaciq.layerwise import Solution
from inc_laaciq.quant.grid import Grid
from inc_laaciq.quant.solver import QuantizedWeight
from inc_laaciq.tuning.criterion import LanguageCriterion
from inc_laaciq.tuning.search import alternatives, failing_languages, search

NAMES = ("a", "b", "c", "d")
POLICY = Policy(default=Rule(max_degradation=parse_bound("5%")))


def layers(bits=3, scheme="sym", names=NAMES):
    weight = WeightSpec(bits=bits, group_size=8, scheme=scheme)
    found = [Layer(name=name, in_features=8, out_features=8, weight=weight, reason="") for name in names]
    return [*found, Layer(name="head", in_features=8, out_features=80, weight=None, reason="output layer")]


FOLDS = (Fold(norm="norm", layers=("a", "b"), scale=torch.full((8,), 2.0)),)


def solve(chosen, settings, folds):
    """Codes that only tell which bits they have; folds of its own where none are given."""
    weights = {
        layer.name: QuantizedWeight(
            codes=torch.zeros(8, 8, dtype=torch.int8),
            scale=torch.ones(8, 1),
            zero_point=None,
            grid=Grid(bits=layer.weight.bits, scheme="sym"),
            group_size=8,
            errors={settings.mode: 0.0},
        )
        for layer in chosen
        if layer.weight is not None
    }
    own = (replace(FOLDS[0], norm=f"{settings.mode} {settings.reconcile}"),)
    return Solution(weights=weights, layers=tuple(chosen), folds=own if folds is None else folds)


class Loop:
    """Drives a search as Neural Compressor does: each trial is judged before the next one is asked for."""

    def __init__(self, harm_of, *, policy=POLICY, limit=60):
        self.trials = []
        self._harm_of = harm_of
        self.criterion = LanguageCriterion(self._evaluate, policy, measure="perplexity")
        self.criterion("float")
        self._limit = limit

    def _evaluate(self, model):
        if model == "float":
            return {"en": 10.0, "sw": 10.0}
        return {"en": 10.0, "sw": 10.0 * (1 + self._harm_of(self.bits(model), model))}

    @staticmethod
    def bits(trial):
        return {layer.name: 16 if layer.weight is None else layer.weight.bits for layer in trial.solution.layers}

    def run(self, chosen, settings=None, measure=None, bits_can_rise=True, solver=solve):
        settings = settings or LaaciqSpec(mode="fast")
        for trial in search(chosen, settings, solver, self.criterion, measure, bits_can_rise=bits_can_rise):
            assert trial.number == len(self.trials)
            assert set(trial.solution.weights) == {name for name, bits in self.bits(trial).items() if bits < 16}
            assert all(self.bits(trial)[name] == weight.grid.bits for name, weight in trial.solution.weights.items())
            self.trials.append(trial)
            self.criterion(trial)
            assert len(self.trials) < self._limit
        return self.trials


def by_layer(**harm):
    """Harm that a layer does at 3 bits; a quarter for every further bit, none in float."""

    def total(bits, _trial):
        return sum(value * 4.0 ** (3 - bits[name]) for name, value in harm.items() if bits[name] < 16)

    return total


def measured(harm):
    return lambda solution, languages: {
        name: dict.fromkeys(languages, harm.get(name, 0.0)) for name in solution.weights
    }


def test_a_pass_at_once_is_the_end():
    assert len(Loop(lambda bits, trial: 0.0).run(layers())) == 1


def test_modes_come_before_bits_and_in_their_order():
    loop = Loop(lambda bits, trial: 0.0 if "cvar" in trial.description else 0.1)
    found = [trial.description for trial in loop.run(layers(), measure=measured({}))]
    assert found == [
        "mode fast, reconciled by mean",
        "mode balanced, reconciled by mean",
        "mode balanced, reconciled by cvar",
    ]
    assert all(set(loop.bits(trial).values()) == {3, 16} for trial in loop.trials)


def test_nothing_is_tried_twice():
    assert [
        (s.mode, s.reconcile) for s in alternatives(LaaciqSpec(mode="balanced", reconcile="cvar"), has_text=True)
    ] == [
        ("balanced", "cvar"),
        ("balanced", "minimax"),
    ]
    for asked in (LaaciqSpec(mode=mode, reconcile="minimax") for mode in ("balanced", "fast")):
        found = alternatives(asked, has_text=True)
        assert found[0] == asked
        assert len({(spec.mode, spec.reconcile) for spec in found}) == len(found)
    assert alternatives(LaaciqSpec(mode="fast"), has_text=False) == [LaaciqSpec(mode="fast")]


def test_nothing_is_tried_instead_of_fair_and_single_layers_are_solved_as_in_balanced():
    """Tuned alone, they would be tuned in a model whose other layers are in float, for minutes a trial."""
    asked = LaaciqSpec(mode="fair")
    assert alternatives(asked, has_text=True) == [asked]
    modes = []

    def solver(chosen, settings, folds):
        modes.append(settings.mode)
        return solve(chosen, settings, folds)

    harm = {"a": 0.001, "b": 0.08, "c": 0.002}
    trials = Loop(by_layer(**harm)).run(layers(), asked, measure=measured(harm), solver=solver)
    assert modes == ["fair"] + ["balanced"] * (len(trials) - 1)
    assert len(trials) > 1
    assert all(trial.settings.mode == "fair" for trial in trials)


def test_shares_do_not_reach_rules_that_have_no_shares():
    asked = LaaciqSpec(mode="balanced", reconcile="natural", shares={"en": 0.9, "sw": 0.1})
    assert [spec.shares for spec in alternatives(asked, has_text=True)[1:]] == [None, None]


def test_the_layer_that_hurts_most_is_raised_first_and_alone():
    harm = {"a": 0.001, "b": 0.08, "c": 0.002}
    loop = Loop(by_layer(**harm))
    last = loop.run(layers(), measure=measured(harm))[-1]
    assert loop.bits(last) == {"a": 3, "b": 4, "c": 3, "d": 3, "head": 16}
    assert last.description == "1 layers to 4 bits: b"


def test_as_many_layers_as_are_needed_are_raised_at_once():
    harm = {"a": 0.05, "b": 0.05, "c": 0.05, "d": 0.001}
    loop = Loop(by_layer(**harm))
    found = loop.run(layers(), measure=measured(harm))
    assert loop.bits(found[-1]) == {"a": 4, "b": 4, "c": 4, "d": 3, "head": 16}
    assert len(found) == 5  # four modes, then one trial


def test_a_small_layer_comes_before_a_large_one_with_the_same_harm():
    chosen = [replace(layer, out_features=8 if layer.name == "c" else 800) for layer in layers()]
    harm = dict.fromkeys(NAMES, 0.013)
    loop = Loop(by_layer(**harm))
    first_raised = loop.run(chosen, measure=measured(harm))[4]
    assert loop.bits(first_raised)["c"] == 4


def test_bits_go_up_the_ladder_and_then_half_of_the_weights_to_float():
    loop = Loop(lambda bits, trial: 0.5)
    found = [loop.bits(trial) for trial in loop.run(layers())]
    assert [sorted(bits.values()) for bits in found] == [
        [3] * 4 + [16],
        [4] * 4 + [16],
        [8] * 4 + [16],
        [8] * 2 + [16] * 3,
    ]
    assert not loop.criterion.is_passed


def test_a_lone_layer_never_goes_to_float_because_nothing_would_be_quantized():
    loop = Loop(lambda bits, trial: 0.0 if bits["a"] == 16 else 0.5)
    assert [loop.bits(trial)["a"] for trial in loop.run(layers(names=("a",)))] == [3, 4, 8]


def test_asymmetric_four_bits_go_to_float_because_eight_cannot_be_carried():
    loop = Loop(lambda bits, trial: 0.5)
    found = [loop.bits(trial) for trial in loop.run(layers(bits=4, scheme="asym", names=("a", "b")))]
    assert [(bits["a"], bits["b"]) for bits in found] == [(4, 4), (16, 4)]


def test_static_layers_go_to_float():
    harm = {"b": 0.3}
    loop = Loop(by_layer(**harm))
    last = loop.run(layers(bits=8), measure=measured(harm), bits_can_rise=False)[0]
    assert loop.bits(last)["b"] == 8  # at 8 bits the harm is gone
    loop = Loop(lambda bits, trial: 0.0 if bits["b"] == 16 else 0.3)
    found = loop.run(layers(bits=8), measure=measured(harm), bits_can_rise=False)
    assert loop.bits(found[-1]) == {"a": 8, "b": 16, "c": 8, "d": 8, "head": 16}
    assert found[-1].solution.layers[1].reason == "raised to float for the gate"


def test_without_text_all_layers_rise_together():
    loop = Loop(lambda bits, trial: 0.0 if bits["a"] == 4 else 0.3)
    found = loop.run(layers())
    assert [loop.bits(trial) for trial in found] == [
        {**dict.fromkeys(NAMES, 3), "head": 16},
        {**dict.fromkeys(NAMES, 4), "head": 16},
    ]


def test_what_was_raised_stays_raised_in_the_next_round():
    harm = {"a": 0.3, "b": 0.3, "c": 0.3, "d": 0.3}
    loop = Loop(by_layer(**harm))
    found = loop.run(layers(), measure=measured(harm))
    bits = [loop.bits(trial) for trial in found]
    after = next(number for number, each in enumerate(bits) if all(each[name] >= 4 for name in NAMES))
    assert all(each[name] >= 4 for each in bits[after:] for name in NAMES)
    assert loop.criterion.is_passed


def test_layers_that_are_raised_are_solved_with_the_scales_of_the_solution_that_they_go_into():
    given = []

    def solved(chosen, settings, folds):
        given.append(folds)
        return solve(chosen, settings, folds)

    loop = Loop(lambda bits, trial: 0.1 if "cvar" in trial.description else 0.5)
    trials = list(loop.run(layers(), measure=measured({"a": 0.5}), solver=solved))
    assert given[:4] == [None] * 4  # modes find their own
    assert len(given) > 4
    assert all(folds is not None for folds in given[4:])
    assert len({trial.solution.folds for trial in trials[4:]}) == 1
    assert trials[-1].solution.folds == given[-1] == trials[loop.criterion.best()].solution.folds


def test_harm_is_measured_for_the_languages_that_fail():
    asked = []

    def measure(solution, languages):
        asked.append(list(languages))
        return {name: dict.fromkeys(languages, 0.1) for name in solution.weights}

    loop = Loop(lambda bits, trial: 0.0 if bits["a"] > 3 else 0.3)
    loop.run(layers(), measure=measure)
    assert asked == [["sw"]]


def test_only_a_disparity_that_fails_points_at_the_worst_language():
    document = {
        "worst_language": "sw",
        "checks": [
            {"verdict": "PASS", "severity": "error", "language": "en"},
            {"verdict": "FAIL", "severity": "error", "language": None},
            {"verdict": "FAIL", "severity": "warn", "language": "tr"},
        ],
    }
    assert failing_languages(document) == ["sw"]
    assert failing_languages({"worst_language": None, "checks": document["checks"][1:2]}) == []


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_every_search_ends(bits):
    loop = Loop(lambda bits, trial: 0.9)
    harm = {"a": 0.01, "b": 0.02, "c": -0.01, "d": 0.0}
    found = loop.run(layers(bits=bits), measure=measured(harm))
    quantized = [bits for name, bits in loop.bits(found[-1]).items() if name != "head"]
    assert sorted(quantized) == [8, 8, 16, 16]

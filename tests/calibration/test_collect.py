"""Statistics by hooks: against recorded inputs, with shared inputs, experts that are never reached, and NaN."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from inc_laaciq.calibration.collect import collect
from inc_laaciq.calibration.layers import find_layers, linearize
from inc_laaciq.config import ActivationSpec, LaaciqSpec, OpRule, WeightSpec
from inc_laaciq.errors import EvaluationError, ModelError, NumericError, SpecError
from inc_laaciq.layerwise import passes, quantize_layers, statistics_bytes
from inc_laaciq.quant.moments import LanguageMoments
from inc_laaciq.quant.value_counts import BINS
from inc_laaciq.run_report import solution_notes


class Toy(nn.Module):
    """Two layers share an input; a third, an expert, sees only tokens above 50."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(100, 16)
        self.query, self.key = nn.Linear(16, 16), nn.Linear(16, 16)
        self.expert = nn.Linear(16, 8)

    def forward(self, input_ids):
        x = self.embed(input_ids)
        y = self.query(x) + self.key(x)
        return self.expert(y[input_ids > 50])


@pytest.fixture
def toy():
    torch.manual_seed(0)
    return Toy().eval()


BATCHES = {
    "en": [torch.arange(0, 40).reshape(4, 10), torch.arange(10, 50).reshape(4, 10)],
    "sw": [torch.arange(40, 80).reshape(4, 10)],
}
LAYERS = ["query", "key", "expert"]


def test_sums_are_those_of_the_recorded_inputs(toy):
    moments = collect(toy, BATCHES, LAYERS, full=True).moments
    inputs = torch.cat([toy.embed(batch).reshape(-1, 16) for batch in BATCHES["en"]])
    expected = LanguageMoments.of(inputs, full=True)
    for name in ("query", "key"):
        got = moments[name]["en"]
        assert got.n == 80
        torch.testing.assert_close(got.second_moment, expected.second_moment)
        torch.testing.assert_close(got.squares, expected.squares, rtol=1e-6, atol=0)


def test_a_shared_input_is_measured_once(toy, monkeypatch):
    calls = []
    original = LanguageMoments.of.__func__
    monkeypatch.setattr(
        LanguageMoments, "of", classmethod(lambda cls, x, **k: calls.append(1) or original(cls, x, **k))
    )
    collect(toy, {"sw": BATCHES["sw"]}, LAYERS, full=False)
    assert len(calls) == 2  # query and key together, and the expert


def test_an_expert_that_a_language_never_reaches_has_no_statistics_for_it(toy):  # faults row 46
    moments = collect(toy, BATCHES, LAYERS, full=True).moments
    assert set(moments["expert"]) == {"sw"}
    layers = find_layers(toy, WeightSpec(group_size=8))
    only_english = {"en": BATCHES["en"]}
    solution = quantize_layers(toy, layers, only_english, LaaciqSpec())
    assert solution.weights["expert"].errors == {}  # solved without data
    assert set(solution.weights["query"].errors) == {"en"}


def test_no_hooks_are_left_even_after_an_error(toy):
    with pytest.raises(IndexError):
        collect(toy, {"en": [torch.tensor([[1000]])]}, LAYERS, full=False)
    assert not any(module._forward_pre_hooks for module in toy.modules())


def test_a_language_on_which_the_float_model_breaks_is_named_and_the_others_go_on(toy):  # faults row 44
    with torch.no_grad():
        toy.embed.weight[60] = float("nan")
    collected = collect(toy, BATCHES, LAYERS, full=True)
    assert set(collected.moments["query"]) == {"en"}
    assert "query" in collected.invalid["sw"]
    with pytest.raises(EvaluationError, match="every language"):
        quantize_layers(toy, find_layers(toy, WeightSpec(group_size=8)), {"sw": BATCHES["sw"]}, LaaciqSpec())


def test_less_memory_costs_more_passes_and_changes_nothing(toy):
    layers = find_layers(toy, WeightSpec(group_size=8))
    one = quantize_layers(toy, layers, BATCHES, LaaciqSpec())
    many = quantize_layers(toy, layers, BATCHES, LaaciqSpec(), memory=1)
    for name, weight in one.weights.items():
        assert torch.equal(weight.codes, many.weights[name].codes)
    assert len(passes(layers, 2, full=True, memory=1)) == 3
    assert len(passes(layers, 2, full=True, memory=1 << 30)) == 1
    assert statistics_bytes(layers[0], 2, full=True) > 2 * 4 * 16 * 16
    counts = 2 * 8 * BINS
    plain, counted = (statistics_bytes(layers[0], 2, full=True, counted=counted) for counted in (False, True))
    assert counted == plain + counts
    assert len(passes(layers, 2, full=True, memory=3 * plain)) == 1
    assert len(passes(layers, 2, full=True, memory=3 * plain, counted=True)) == 3


class Late(Toy):
    """Tokens from 50 on are NaN in the second layer, those from 80 on only in the third."""

    def forward(self, input_ids):
        x = self.embed(input_ids)
        swahili, finnish = (input_ids >= 50) & (input_ids < 80), input_ids >= 80
        self.query(x), self.key(x.masked_fill(swahili.unsqueeze(-1), float("nan")))
        return self.expert(x.masked_fill(finnish.unsqueeze(-1), float("nan")))


def test_a_language_that_breaks_in_a_late_layer_counts_in_no_layer_whatever_the_memory():  # faults row 44
    torch.manual_seed(0)
    model = Late().eval()
    batches = {tag: [torch.arange(first, first + 20)[None]] for tag, first in (("en", 0), ("sw", 55), ("fi", 80))}
    layers = find_layers(model, WeightSpec(group_size=8))
    one, many = (quantize_layers(model, layers, batches, LaaciqSpec(), memory=memory) for memory in (1 << 30, 1))
    assert one.invalid.keys() == many.invalid.keys() == {"sw", "fi"}
    for name, weight in one.weights.items():
        assert weight.errors.keys() == many.weights[name].errors.keys() == {"en"}
        assert torch.equal(weight.codes, many.weights[name].codes)


def test_a_layer_that_only_languages_of_weight_0_reach_has_no_say_of_theirs(toy):
    settings = LaaciqSpec(weights={"sw": 0.0, "en": 1.0}, signed=False)
    layers = find_layers(toy, WeightSpec(bits=8, group_size=-1))
    solution = quantize_layers(toy, layers, BATCHES, settings, activation=ActivationSpec())
    assert set(solution.weights) == set(LAYERS)
    assert set(solution.ranges) == {"query", "key"}  # of the expert's input only `sw` could tell


def test_splitting_batches_changes_statistics_only_by_rounding(toy):
    whole = collect(toy, {"en": [torch.cat(BATCHES["en"])]}, ["query"], full=True).moments["query"]["en"]
    parts = collect(toy, {"en": BATCHES["en"]}, ["query"], full=True).moments["query"]["en"]
    torch.testing.assert_close(whole.second_moment, parts.second_moment)


@pytest.mark.parametrize(("bad", "seen"), [(float("nan"), "1 NaN"), (float("inf"), "1 infinite")])
def test_nonfinite_weights_are_an_error_or_kept_in_float(toy, bad, seen):  # faults rows 38 and 39
    with torch.no_grad():
        toy.key.weight[0, 0] = bad
    layers = find_layers(toy, WeightSpec(group_size=8))
    with pytest.raises(NumericError, match=f"'key'.*{seen}.*keep-fp"):
        quantize_layers(toy, layers, BATCHES, LaaciqSpec())
    solution = quantize_layers(toy, layers, BATCHES, LaaciqSpec(nan="keep-fp"))
    assert set(solution.weights) == {"query", "expert"}
    assert seen in next(layer.reason for layer in solution.layers if layer.weight is None)


def test_rules_choose_layers_and_bits(toy):
    rules = [OpRule(pattern=".*", weight=WeightSpec(bits=8, group_size=16)), OpRule(pattern="key", weight=None)]
    found = {layer.name: layer for layer in find_layers(toy, WeightSpec(group_size=8), rules)}
    assert found["query"].weight.bits == 8
    assert found["key"].weight is None
    assert "op_wise" in found["key"].reason


def test_layers_that_cannot_be_are_refused(toy):
    with pytest.raises(SpecError, match="group_size=10 does not divide in_features=16 of layer 'query'"):
        find_layers(toy, WeightSpec(group_size=10))
    with pytest.raises(SpecError, match="op_wise names no linear layer: layer7"):
        find_layers(toy, WeightSpec(group_size=8), [OpRule(pattern="layer7", weight=None)])
    with pytest.raises(ModelError, match="no linear layer"):
        find_layers(nn.Sequential(nn.ReLU()), WeightSpec())  # faults row 49
    with pytest.raises(ModelError, match="all of them are kept in float"):
        find_layers(toy, WeightSpec(group_size=8), [OpRule(pattern=".*", weight=None)])


def test_layers_of_other_kinds_stay_as_they_are(toy):  # faults row 47
    toy.mixer = nn.Conv1d(16, 16, 3)
    found = {layer.name: layer for layer in find_layers(toy, WeightSpec(group_size=8))}
    assert {name for name, layer in found.items() if layer.weight} == set(LAYERS)
    assert "Conv1d" in found["mixer.weight"].reason
    assert linearize(toy) is toy


def test_progress_is_told(toy):
    seen = []
    quantize_layers(
        toy, find_layers(toy, WeightSpec(group_size=8)), BATCHES, LaaciqSpec(), progress=lambda *told: seen.append(told)
    )
    assert ("calibrating", 3, 3) in seen
    assert ("solving", 3, 3) in seen


def test_dropout_is_off_while_statistics_are_taken_and_comes_back(toy):
    toy.embed = nn.Sequential(toy.embed, nn.Dropout(0.5))
    quiet = collect(toy, BATCHES, ["query"], full=False).moments["query"]["en"]
    toy.train()
    toy.key.eval()
    trained = collect(toy, BATCHES, ["query"], full=False).moments["query"]["en"]
    assert torch.equal(trained.squares, quiet.squares)
    assert toy.training
    assert not toy.key.training


def test_a_language_that_one_static_range_cannot_serve_is_named(toy, caplog):
    toy.embed.weight.data[:50] *= 1e-6
    toy.embed.weight.data[50:] *= 10
    batches = {"en": [torch.arange(40)[None]], "sw": [torch.arange(50, 90)[None]]}
    for rule, said in (("max", False), ("error", True)):
        caplog.clear()
        layers = [layer for layer in find_layers(toy, WeightSpec(bits=8, group_size=-1)) if layer.name == "query"]
        found = quantize_layers(toy, layers, batches, LaaciqSpec(), activation=ActivationSpec(reconcile=rule))
        assert ("in query en loses 100 % of its input" in caplog.text) is said
        assert any("in query en loses 100 % of its input" in note for note in solution_notes(found)) is said


def test_values_are_counted_only_for_ranges_that_are_solved_from_counts(toy, monkeypatch):
    asked = []
    monkeypatch.setattr(
        "inc_laaciq.layerwise.collect",
        lambda *a, counted, **k: asked.append(counted) or collect(*a, counted=counted, **k),
    )
    layers = find_layers(toy, WeightSpec(bits=8, group_size=-1))
    for activation in (
        None,
        ActivationSpec(),
        ActivationSpec(reconcile="mean"),
        ActivationSpec(algorithm="minmax"),
    ):
        found = quantize_layers(toy, layers, BATCHES, LaaciqSpec(), activation=activation)
        assert bool(found.ranges) == (activation is not None and activation.algorithm == "la_aciq")
    assert asked == [False, True, False, False]

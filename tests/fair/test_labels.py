"""Labels in mode `fair`: what the calibration text itself says comes next."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch

from inc_laaciq.calibration.layers import linear_layer
from inc_laaciq.config import FairSpec
from inc_laaciq.errors import SpecError
from inc_laaciq.fair import solve
from inc_laaciq.fair.distance import ModelDistance, Row
from inc_laaciq.fair.tuning import Tuner, TuneSpec
from inc_laaciq.layerwise import quantize_layers
from inc_laaciq.quant.latent import LatentWeight
from inc_laaciq.quant.solver import SolverSpec
from inc_laaciq.quant.solver import solve as solve_weight
from inc_laaciq.run_report import tuning_note


@pytest.fixture
def labelled(settings):
    def make(labels, *, tune="model", steps=60, sampled=0):
        how = settings(tune, steps=steps, sampled=sampled)
        return replace(how, fair=replace(how.fair, labels=labels))

    return make


def test_the_text_itself_becomes_likelier(model, layers_of, batches):
    distance = ModelDistance(model, {"use_cache": False})
    loss = {}
    for share in (0.0, 0.3):
        rows = {tag: [Row(ids=ids[None], labels=share) for ids in group[0]] for tag, group in batches.items()}
        latents = {}
        for layer in layers_of(model):
            weight = linear_layer(model, layer.name).weight.detach()
            latents[layer.name] = LatentWeight(
                solve_weight(weight, SolverSpec(bits=3, group_size=16, mode="fast")), weight
            )
        spec = TuneSpec(steps=30)
        Tuner(latents, distance, rows, {"en": 1.0, "sw": 1.0}, spec, objective=distance.with_labels).run()
        changed = copy.deepcopy(model)
        with torch.no_grad():
            for name, latent in latents.items():
                linear_layer(changed, name).weight.copy_(latent.weight())
            loss[share] = sum(float(changed(input_ids=group[0], labels=group[0]).loss) for group in batches.values())
    assert loss[0.3] < loss[0.0] - 0.1


def test_labels_are_recorded_and_the_report_says_so(bloom, layers_of, batches, labelled):
    none, some = (quantize_layers(bloom, layers_of(bloom), batches, labelled(share, steps=2)) for share in (0.0, 0.3))
    assert [solution.tuning["labels"] for solution in (none, some)] == [0.0, 0.3]
    assert "labels" not in tuning_note(none)[0]
    assert "tuned to predict the text itself (labels 0.3), which this does not show" in tuning_note(some)[0]


def test_held_out_rows_are_looked_at_without_labels(bloom, layers_of, batches, labelled):
    layers = layers_of(bloom)
    plain, some = (quantize_layers(bloom, layers, batches, labelled(share, steps=20)) for share in (0.0, 0.9))
    assert plain.tuning["history"][0] == some.tuning["history"][0]
    assert plain.tuning["history"][1] != some.tuning["history"][1]


def test_what_the_model_wrote_itself_has_no_labels(bloom, layers_of, batches, labelled, monkeypatch):
    seen = []

    class Spy(ModelDistance):
        def with_labels(self, weights, row):
            seen.append(row)
            return super().with_labels(weights, row)

    monkeypatch.setattr(solve, "ModelDistance", Spy)
    quantize_layers(bloom, layers_of(bloom), batches, labelled(0.2, steps=12, sampled=6))
    text = [row[None] for group in batches.values() for batch in group for row in batch]
    written = [any(torch.equal(row.ids, known) for known in text) for row in seen]
    assert [row.labels for row in seen] == [0.2 if is_text else 0.0 for is_text in written]
    assert 0 < sum(written) < len(written)


def test_no_labels_change_nothing(bloom, layers_of, batches, settings, labelled):
    layers = layers_of(bloom)
    first, again = (quantize_layers(bloom, layers, batches, how) for how in (settings(steps=5), labelled(0.0, steps=5)))
    assert all(torch.equal(first.weights[name].codes, again.weights[name].codes) for name in first.weights)


@pytest.mark.parametrize("tune", ["blocks", "none"])
def test_labels_are_refused_where_no_predictions_are_looked_at(tune):
    with pytest.raises(SpecError, match=rf"FairSpec\.labels=0\.1 needs .* tune: {tune} does not look at them"):
        FairSpec(tune=tune, labels=0.1)


def test_a_model_too_large_to_be_tuned_as_a_whole_is_told_that_labels_have_no_effect(
    bloom, layers_of, batches, labelled, monkeypatch, caplog
):
    monkeypatch.setattr(solve, "_WHOLE", 1)
    solution = quantize_layers(bloom, layers_of(bloom), batches, labelled(0.1, tune="auto", steps=2))
    assert solution.tuning["tuned"] == "blocks"
    assert "la_aciq.fair.labels has no effect" in caplog.text

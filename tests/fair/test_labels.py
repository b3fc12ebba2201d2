"""Labels in mode `fair`: what the calibration text itself says comes next."""

from __future__ import annotations

import copy
import itertools
from dataclasses import replace

import pytest
import torch

from inc_laaciq.calibration.layers import linear_layer
from inc_laaciq.config import FairSpec
from inc_laaciq.errors import SpecError
from inc_laaciq.fair import solve
from inc_laaciq.fair.distance import ModelDistance
from inc_laaciq.fair.tuning import Tuner
from inc_laaciq.layerwise import quantize_layers
from inc_laaciq.run_report import tuning_note


@pytest.fixture
def labelled(settings):
    def make(labels, *, tune="model", steps=60, sampled=0):
        how = settings(tune, steps=steps, sampled=sampled)
        return replace(how, fair=replace(how.fair, labels=labels))

    return make


@pytest.fixture
def last_step_is_kept(monkeypatch):
    """Random weights are no better for being tuned, so the first step would be kept, whatever is tuned for."""
    looks = itertools.count()
    monkeypatch.setattr(Tuner, "_check", lambda tuner: dict.fromkeys(tuner._held_out, 1 / (1 + next(looks))))


def loss(model, weights, batches):
    """Sum over the languages of the loss of the calibration text, nats per token."""
    changed = copy.deepcopy(model)
    with torch.no_grad():
        for name, weight in weights.items():
            linear_layer(changed, name).weight.copy_(weight.dequantize())
        return sum(float(changed(input_ids=group[0], labels=group[0]).loss) for group in batches.values())


@pytest.mark.usefixtures("last_step_is_kept")
def test_the_text_itself_becomes_likelier(model, layers_of, batches, labelled):
    plain, some = (quantize_layers(model, layers_of(model), batches, labelled(share, steps=30)) for share in (0.0, 0.3))
    assert loss(model, some.weights, batches) < loss(model, plain.weights, batches) - 0.04


@pytest.mark.usefixtures("last_step_is_kept")
def test_labels_are_recorded_and_the_report_says_so(bloom, layers_of, batches, labelled):
    none, some, default = (
        quantize_layers(bloom, layers_of(bloom), batches, labelled(share, steps=2)) for share in (0.0, 0.3, None)
    )
    assert [solution.tuning["labels"] for solution in (none, some, default)] == [0.0, 0.3, 0.1]
    assert "labels" not in tuning_note(none)[0]
    assert "tuned to predict the text itself (labels 0.3), which this does not show" in tuning_note(some)[0]


def test_the_report_says_if_nothing_that_was_tuned_was_kept(bloom, layers_of, batches, labelled):
    solution = quantize_layers(bloom, layers_of(bloom), batches, labelled(0.3, steps=20))
    assert solution.tuning["kept"] == 0
    assert tuning_note(solution)[0].endswith(
        "labels 0.3 had no effect: every later step was further from the float model"
    )


def test_what_a_language_counts_goes_by_its_divergence_alone(bloom, layers_of, batches, labelled, monkeypatch):
    divergences, running = [], []

    class Spy(ModelDistance):
        def with_labels(self, weights, row):
            objective, divergence = super().with_labels(weights, row)
            divergences.append(divergence.item())
            return objective, divergence

    shares = Tuner._shares

    def seen(tuner):
        running.append(None if tuner._running is None else tuner._running.clone())
        return shares(tuner)

    monkeypatch.setattr(solve, "ModelDistance", Spy)
    monkeypatch.setattr(Tuner, "_shares", seen)
    quantize_layers(bloom, layers_of(bloom), batches, labelled(0.9, steps=2))
    assert running[0] is None
    torch.testing.assert_close(running[1], torch.tensor(divergences[:2]))


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


def test_without_labels_it_is_the_divergence_alone_that_is_tuned(bloom, layers_of, batches, labelled, monkeypatch):
    layers = layers_of(bloom)
    first = quantize_layers(bloom, layers, batches, labelled(0.0, steps=20, sampled=5))
    monkeypatch.setattr(ModelDistance, "with_labels", lambda self, weights, row: 2 * (self(weights, row),))
    again = quantize_layers(bloom, layers, batches, labelled(0.0, steps=20, sampled=5))
    assert first.tuning == again.tuning
    for name, weight in first.weights.items():
        assert torch.equal(weight.codes, again.weights[name].codes)
        assert torch.equal(weight.scale, again.weights[name].scale)


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
    assert "Set la_aciq.fair.tune to model, or labels to 0" in caplog.text

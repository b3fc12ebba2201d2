"""One static input range from those of all languages, by each rule, as `quantize_layers` solves it for a model."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from inc_laaciq.calibration.layers import find_layers
from inc_laaciq.config import ActivationSpec, LaaciqSpec, WeightSpec
from inc_laaciq.layerwise import quantize_layers

WIDE, NARROW = "en", "sw"


class Toy(nn.Module):
    """One layer, whose input is heavy-tailed for tokens below 50 and four times narrower, and shifted, above."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.layer = nn.Embedding(100, 32), nn.Linear(32, 8)
        with torch.no_grad():
            self.embed.weight.copy_(torch.distributions.Laplace(0.0, 1.0).sample((100, 32)))
            self.embed.weight[50:] = self.embed.weight[50:] / 4 + 0.5

    def forward(self, input_ids):
        return self.layer(self.embed(input_ids))


# The narrow language has less text, so that all text together is not the mean of both.
BATCHES = {WIDE: [torch.arange(50).reshape(5, 10)], NARROW: [torch.arange(50, 80).reshape(3, 10)]}


def ends(rule, batches=BATCHES, **weights):
    torch.manual_seed(0)
    model = Toy().eval()
    settings = LaaciqSpec(mode="fast", signed=False, weights=weights)
    layers = find_layers(model, WeightSpec(bits=8, group_size=-1))
    solution = quantize_layers(model, layers, batches, settings, activation=ActivationSpec(reconcile=rule))
    limits = solution.ranges["layer"]
    return torch.tensor([limits.minimum, limits.maximum])


@pytest.fixture(scope="module")
def alone():
    """Ends of the range of each language by itself."""
    return {tag: ends("max", {tag: rows}) for tag, rows in BATCHES.items()}


def test_max_is_the_union_whatever_the_weights(alone):
    union = torch.stack([torch.minimum(*alone.values())[0], torch.maximum(*alone.values())[1]])
    torch.testing.assert_close(ends("max"), union)
    torch.testing.assert_close(ends("max", en=1.0, sw=3.0), union)
    assert not torch.equal(alone[WIDE], alone[NARROW])


def test_mean_is_between_by_the_weights(alone):
    torch.testing.assert_close(ends("mean"), (alone[WIDE] + alone[NARROW]) / 2)
    torch.testing.assert_close(ends("mean", sw=3.0), (alone[WIDE] + 3 * alone[NARROW]) / 4)


def test_pooled_is_the_range_of_all_text_as_one(alone):
    together = {WIDE: [rows for part in BATCHES.values() for rows in part]}
    torch.testing.assert_close(ends("pooled"), ends("max", together))
    assert not torch.allclose(ends("pooled"), ends("mean"), rtol=0.01)


@pytest.mark.parametrize("rule", ["max", "mean", "pooled"])
def test_language_of_weight_0_has_no_say(alone, rule):
    torch.testing.assert_close(ends(rule, en=0.0, sw=1.0), alone[NARROW])

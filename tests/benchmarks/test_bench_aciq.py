"""The reproduction of ACIQ: made values follow the formulas, the network is rounded as stated."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

ROOT = Path(__file__).parents[2]

sys.path.insert(0, str(ROOT / "benchmarks"))
import bench_aciq  # noqa: E402
from aciq import digits, report, synthetic  # noqa: E402

NAIVE, CLIPPED, CORRECTED, ALLOCATED = digits.METHODS


@pytest.fixture(scope="module")
def errors():
    return synthetic.error_table()


@pytest.fixture(scope="module")
def trained():
    return digits.train(0, epochs=2)


def test_measured_errors_are_those_of_the_exact_formula(errors):
    assert len(errors) == 8
    for row in errors:
        for grid in ("integer", "integer_best"):
            found = row[grid]
            assert found["measured"] == pytest.approx(found["expected"], abs=5 * found["standard_error"])
            assert found["standard_error"] < 0.05 * found["measured"]


# Banner et al. 2019: their model of the error; clipping wins at every width, more at fewer bits.
@pytest.mark.parametrize(
    ("distribution", "bits", "alpha", "error"),
    [("laplace", 4, 5.0286, 2 * math.exp(-5.0286) + 5.0286**2 / 768), ("gaussian", 4, 2.5591, 0.01049)],
)
def test_the_published_model(errors, distribution, bits, alpha, error):
    row = next(row for row in errors if (row["distribution"], row["bits"]) == (distribution, bits))
    assert row["alpha"] == pytest.approx(alpha, abs=1e-4)
    assert row["bins"]["expected"] == pytest.approx(error, rel=1e-3)


def test_clipping_wins_and_the_model_is_close_from_four_bits(errors):
    for row in errors:
        assert row["unclipped"]["measured"] > 1.15 * row["integer"]["measured"]
        assert row["integer_best"]["expected"] <= row["integer"]["expected"]
        ratio = row["bins"]["measured"] / row["bins"]["expected"]
        assert ratio > 1.2 if row["bits"] < 4 else 0.95 < ratio < 1.15


def test_the_papers_bins_by_a_loop():
    x, alpha, bits = np.array([-3.0, -0.9, -0.1, 0.0, 0.4, 0.6, 5.0]), 1.0, 2
    middles = [-0.75, -0.75, -0.25, 0.25, 0.25, 0.75, 0.75]
    assert synthetic.binned(x, alpha, bits) == pytest.approx(np.square(x - middles).mean())


def test_bias_correction_restores_mean_and_norm():
    for row in synthetic.bias_table():
        assert row["after"]["norm_ratio"] == pytest.approx(1.0, abs=1e-9)
        assert row["after"]["mean_shift"] < 0.6 * row["before"]["mean_shift"]


def test_allocated_bits_leave_less_error_at_no_more_bits():
    for row in synthetic.allocation_table():
        for name in ("published", "published, bits kept"):
            assert row["methods"][name]["ratio"] < 0.65
            assert row["methods"][name]["bits"] <= row["bits"]


def test_folding_batch_normalization_changes_nothing():
    torch.manual_seed(0)
    network = nn.Sequential(*digits.convolution(1, 3), nn.Flatten())
    network(torch.randn(8, 1, 4, 4))
    network.eval()
    x = torch.randn(5, 1, 4, 4)
    folded = digits.folded(network)
    assert [type(layer) for layer in folded] == [nn.Conv2d, nn.ReLU, nn.Flatten]
    assert torch.allclose(folded(x), network(x), atol=1e-6)


def test_rounding_by_channel_and_by_tensor(trained):
    w = trained.network[0].weight
    by_channel, bits = digits.rounded_weight(w, 3, NAIVE, "per channel")
    assert bits == 3
    for one, other in zip(by_channel, w, strict=True):
        step = (max(float(other.max()), 0) - min(float(other.min()), 0)) / 7
        levels = one / step
        assert torch.allclose(levels, levels.round(), atol=1e-3)
        assert float((one - other).abs().max()) <= 0.51 * step
    by_tensor, _ = digits.rounded_weight(w, 3, NAIVE, "per tensor")
    assert len(by_tensor.unique()) <= 8
    assert len(by_channel.unique()) > 8


def test_corrected_weights_have_their_mean_and_norm():
    torch.manual_seed(1)
    w = torch.randn(4, 2, 3, 3)
    found, _ = digits.rounded_weight(w, 2, CORRECTED, "per channel")
    plain, _ = digits.rounded_weight(w, 2, CLIPPED, "per channel")
    spread = [v.flatten(1).std(1) for v in (found, w, plain)]
    assert torch.allclose(spread[0], spread[1], atol=1e-5)
    assert not torch.allclose(spread[2], spread[1], atol=1e-2)


def test_activations_are_clipped_at_the_published_threshold():
    torch.manual_seed(0)
    received = torch.distributions.Laplace(0.0, 1.0).sample((4000, 2, 3, 3)) * torch.tensor([1.0, 3.0])[:, None, None]
    naive = digits.RoundedReLU(received, 4, NAIVE, "per channel")
    assert torch.equal(naive.high, received.amax(dim=(0, 2, 3)))
    clipped = digits.RoundedReLU(received, 4, CLIPPED, "per channel")
    assert clipped.high.tolist() == pytest.approx([6.2048, 3 * 6.2048], rel=0.03)  # one-sided: the constant of 5 bits
    x = torch.tensor([-1.0, 2.0, 7.0]).expand(2, 2, 3, 3)
    found = clipped(x)
    assert found.shape == x.shape
    assert float(found[..., 0].abs().max()) == 0
    assert torch.allclose(found[:, 0, :, 2], clipped.high[0].expand(2, 3))
    assert torch.allclose(found[:, 1, :, 2], torch.tensor(7.0).expand(2, 3), atol=float(clipped.high[1]) / 15)
    allocated = digits.RoundedReLU(received, 4, ALLOCATED, "per channel")
    assert allocated.bits[1] > allocated.bits[0]


def test_by_channel_and_by_tensor_agree_on_equal_channels():
    one = torch.randn(6, 1, 4, 4, generator=torch.Generator().manual_seed(3))
    received = one.expand(6, 3, 4, 4)
    outputs = [digits.RoundedReLU(received, 3, CLIPPED, each)(received) for each in digits.GRANULARITIES]
    assert torch.allclose(*outputs, atol=1e-6)


def test_many_bits_are_the_float_network(trained):
    """Scores of `score` come from the network given; at 8 bits rounding hardly moves them."""
    plain = digits.score(trained.network, trained)
    network, used = digits.quantized(trained, 8, NAIVE, "per channel")
    assert used == {"weights": 8.0, "activations": 8.0}
    assert digits.score(network, trained) == pytest.approx(plain, rel=0.02)
    coarse, _ = digits.quantized(trained, 2, NAIVE, "per tensor")
    for new, old in zip(coarse, trained.network, strict=True):
        if isinstance(old, nn.Conv2d | nn.Linear):
            assert len(new.weight.unique()) <= 4 < len(old.weight.unique())
            assert torch.equal(new.bias, old.bias)
    assert digits.score(coarse, trained)[1] > 1.2 * plain[1]


def test_a_small_run_end_to_end(tmp_path, capsys):
    file = tmp_path / "aciq.json"
    bench_aciq.main(["-o", str(file), "--seeds", "2", "--epochs", "1"])
    content = json.loads(file.read_text(encoding="utf-8"))
    assert content["meta"]["versions"]["torch"]
    rows = content["digits"]["rows"]
    assert len(rows) == 3 * (4 + 3)
    row = next(r for r in rows if (r["granularity"], r["bits"], r["method"]) == ("per tensor", 2, CORRECTED))
    naive = next(r for r in rows if (r["granularity"], r["bits"], r["method"]) == ("per tensor", 2, NAIVE))
    differences = np.subtract(row["accuracy"]["values"], naive["accuracy"]["values"])
    assert row["accuracy_minus_naive"]["mean"] == pytest.approx(differences.mean())
    reach = 12.7062 * differences.std(ddof=1) / math.sqrt(2)  # Student's t with one degree of freedom
    assert row["accuracy_minus_naive"]["high"] == pytest.approx(differences.mean() + reach, rel=1e-4)
    assert report.readme(content) in capsys.readouterr().out


def test_training_is_repeatable_and_leaves_the_global_generator_alone(trained):
    state = torch.random.get_rng_state()
    again = digits.train(0, epochs=2)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(again.network[0].weight, trained.network[0].weight)
    assert not torch.equal(digits.train(1, epochs=0).images, trained.images)


@pytest.mark.parametrize(
    ("low", "high", "said"), [(-0.2, -0.1, "lower"), (0.1, 0.2, "higher"), (-0.1, 0.1, "not resolved")]
)
def test_directions_are_told_only_beyond_noise(low, high, said):
    assert report.direction({"low": low, "high": high}) == said

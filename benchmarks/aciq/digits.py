"""A small convolutional network on scikit-learn's digits, W4A4 as the paper does it, simulated in float.

Weights of all layers, and the outputs of all ReLUs, are rounded; the images (17 grey levels), biases and the network's
output are not.  "per channel": every output channel of a weight and every channel of a feature map has a range of its
own, as in the authors' experiments; integer kernels cannot do that for activations, hence "per tensor" beside it.

Methods, each with what the former has:
    naive               from least to largest value, of the weight or of the calibration images
    + clipping          activations are clipped at ACIQ's threshold for a Laplace distribution cut by ReLU (the weights
                        are not clipped: the authors saw no gain from that)
    + bias correction   weights get back mean and norm of each output channel
    + bit allocation    bits by channel, the published formula, of weights and feature maps; only "per channel"
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy import stats
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from inc_laaciq.quant.aciq import optimal_alpha_laplace
from inc_laaciq.quant.bias_correction import bias_correction
from inc_laaciq.quant.bit_allocation import allocate_bits
from inc_laaciq.quant.grid import MAX_BITS, MIN_BITS, Grid, minmax_parameters, round_to_grid

METHODS = ("naive", "+ clipping", "+ bias correction", "+ bit allocation")
GRANULARITIES = ("per channel", "per tensor")
BITS = (4, 3, 2)
TEST_IMAGES = 597
CALIBRATION_IMAGES = 256


@dataclass(frozen=True)
class Trained:
    """A trained network with its images."""

    network: nn.Sequential
    calibration: Tensor
    images: Tensor
    labels: Tensor


def train(seed: int, epochs: int = 12) -> Trained:
    """Train from random weights on a random two thirds of the images; the rest is the test."""
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 16
    labels = torch.tensor(digits.target)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        order = torch.randperm(len(images))
        test, rest = order[:TEST_IMAGES], order[TEST_IMAGES:]
        network = nn.Sequential(
            *convolution(1, 16), *convolution(16, 16), *convolution(16, 16), nn.MaxPool2d(2),
            *convolution(16, 32), *convolution(32, 32), nn.MaxPool2d(2),
            *convolution(32, 32), nn.Flatten(), nn.Linear(128, 10),
        )  # fmt: skip
        optimizer = torch.optim.Adam(network.parameters(), 3e-3)
        for _ in range(epochs):
            for batch in rest[torch.randperm(len(rest))].split(64):
                optimizer.zero_grad()
                nn.functional.cross_entropy(network(images[batch]), labels[batch]).backward()
                optimizer.step()
    return Trained(folded(network.eval()), images[rest[:CALIBRATION_IMAGES]], images[test], labels[test])


def convolution(inputs: int, outputs: int) -> tuple[nn.Module, ...]:
    """A convolution that keeps the size, batch normalization and ReLU."""
    return nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU()


def folded(network: nn.Sequential) -> nn.Sequential:
    """The network with its batch normalization in the convolutions, as the authors do before they quantize."""
    layers: list[nn.Module] = []
    for layer in network:
        if isinstance(layer, nn.BatchNorm2d):
            layers[-1] = fuse_conv_bn_eval(layers[-1], layer)
        else:
            layers.append(layer)
    return nn.Sequential(*layers).requires_grad_(False).eval()


def channels(x: Tensor, axis: int, granularity: str) -> Tensor:
    """Values by channel, shape [channels, n]; one row where the tensor has one range."""
    if granularity == "per tensor":
        return x.reshape(1, -1)
    return x.transpose(0, axis).flatten(1)


def rounded(x: Tensor, low: Tensor, high: Tensor, bits: np.ndarray[Any, Any]) -> Tensor:
    """Rows of `x` on grids of `bits[row]` bits from `low[row]` to `high[row]`."""
    found = torch.empty_like(x)
    for width in sorted(set(bits.tolist())):
        rows = torch.from_numpy(bits == width)
        grid = Grid(bits=width, scheme="asym")
        scale, zero_point = minmax_parameters(low[rows, None], high[rows, None], grid, rounded=False)
        found[rows] = round_to_grid(x[rows], scale, zero_point, grid)
    return found


def allocated(ranges: Tensor, bits: int, is_allocated: bool) -> np.ndarray[Any, Any]:
    """Bits of each channel."""
    if not is_allocated or len(ranges) == 1:
        return np.full(len(ranges), bits)
    return allocate_bits(ranges.numpy(), bits, minimum=MIN_BITS, maximum=MAX_BITS, keep_average=False)


def rounded_weight(w: Tensor, bits: int, method: str, granularity: str) -> tuple[Tensor, float]:
    """Weights after rounding, and their bits on average."""
    rows = channels(w, 0, granularity)
    low, high = rows.amin(1), rows.amax(1)
    widths = allocated(torch.maximum(-low, high), bits, method == METHODS[3])
    found = rounded(rows, low, high, widths).reshape(w.shape)
    if METHODS.index(method) >= 2:
        found = bias_correction(w, found).apply(found)
    return found, float(widths.mean())


class RoundedReLU(nn.Module):
    """ReLU whose output is rounded; its range comes from what the ReLU was given for the calibration images."""

    def __init__(self, received: Tensor, bits: int, method: str, granularity: str) -> None:
        super().__init__()
        self.granularity = granularity
        rows = channels(received, 1, granularity)
        mean = rows.mean(1, keepdim=True)
        b = (rows - mean).abs().mean(1)
        self.bits = allocated(b, bits, method == METHODS[3])
        self.high = rows.amax(1).clamp(min=0)
        if method != METHODS[0]:
            reach = [
                float(optimal_alpha_laplace(max(float(one), 1e-12), int(width), layout="relu"))
                for one, width in zip(b, self.bits, strict=True)
            ]
            self.high = torch.minimum(self.high, mean[:, 0].clamp(min=0) + torch.tensor(reach))

    def forward(self, x: Tensor) -> Tensor:
        """Rounded output of the ReLU."""
        x = x.relu()
        rows = channels(x, 1, self.granularity)
        found = rounded(rows, torch.zeros_like(self.high), self.high, self.bits)
        if len(rows) == 1:
            return found.reshape(x.shape)
        return found.reshape(x.shape[1], x.shape[0], *x.shape[2:]).transpose(0, 1)


def quantized(trained: Trained, bits: int, method: str, granularity: str) -> tuple[nn.Sequential, dict[str, float]]:
    """The network with rounded weights and activations, and its bits on average over weights and over feature maps."""
    layers: list[nn.Module] = []
    x = trained.calibration
    sizes: dict[str, list[tuple[float, int]]] = {"weights": [], "activations": []}
    for layer in trained.network:
        new: nn.Module = layer
        if isinstance(layer, nn.Conv2d | nn.Linear):
            w, width = rounded_weight(layer.weight, bits, method, granularity)
            sizes["weights"].append((width, w.numel()))
            new = nn.utils.skip_init(type(layer), **arguments(layer))
            new.weight, new.bias = nn.Parameter(w, requires_grad=False), layer.bias
        elif isinstance(layer, nn.ReLU):
            new = RoundedReLU(x, bits, method, granularity)
            sizes["activations"].append((float(new.bits.mean()), x[0].numel()))
        x = layer(x)  # statistics are those of the float network
        layers.append(new)
    mean = {name: sum(b * n for b, n in each) / sum(n for _, n in each) for name, each in sizes.items()}
    return nn.Sequential(*layers), mean


def arguments(layer: nn.Module) -> dict[str, Any]:
    """What a layer is made from."""
    if isinstance(layer, nn.Conv2d):
        return {
            "in_channels": layer.in_channels,
            "out_channels": layer.out_channels,
            "kernel_size": layer.kernel_size,
            "padding": layer.padding,
        }
    return {"in_features": layer.in_features, "out_features": layer.out_features}


def score(network: nn.Module, trained: Trained) -> tuple[float, float]:
    """Accuracy in percent and mean loss in nats on the test images."""
    logits = network(trained.images)
    return (
        100 * float((logits.argmax(1) == trained.labels).double().mean()),
        float(nn.functional.cross_entropy(logits, trained.labels)),
    )


def study(seeds: int, epochs: int = 12) -> dict[str, Any]:
    """Scores of all methods on all seeds, their differences to naive and to float, and intervals over seeds."""
    scores: dict[tuple[str, int, str], list[tuple[float, float]]] = {}
    bits_used: dict[tuple[str, int, str], dict[str, float]] = {}
    plain = []
    for seed in range(seeds):
        trained = train(seed, epochs)
        plain.append(score(trained.network, trained))
        for granularity in GRANULARITIES:
            for bits in BITS:
                for method in METHODS[: 4 if granularity == GRANULARITIES[0] else 3]:
                    key = granularity, bits, method
                    network, used = quantized(trained, bits, method, granularity)
                    scores.setdefault(key, []).append(score(network, trained))
                    bits_used[key] = used
    rows: list[dict[str, Any]] = []
    for (granularity, bits, method), found in scores.items():
        naive, values = np.array(scores[granularity, bits, METHODS[0]]), np.array(found)
        row: dict[str, Any] = {"granularity": granularity, "bits": bits, "method": method}
        row["mean_bits"] = bits_used[granularity, bits, method]
        for place, measure in enumerate(("accuracy", "loss")):
            row[measure] = over_seeds(values[:, place])
            row[f"{measure}_minus_float"] = over_seeds(values[:, place] - np.array(plain)[:, place])
            if method != METHODS[0]:
                row[f"{measure}_minus_naive"] = over_seeds(values[:, place] - naive[:, place])
        rows.append(row)
    accuracy, loss = (over_seeds(column) for column in np.array(plain).T)
    return {"seeds": seeds, "epochs": epochs, "float": {"accuracy": accuracy, "loss": loss}, "rows": rows}


def over_seeds(values: np.ndarray[Any, Any]) -> dict[str, Any]:
    """Mean with a 95 % interval by Student's t: each seed has its own split, first weights and order.

    Seeds share images, so the interval is a little too short for other images, and right for other trainings.
    """
    mean, n = float(values.mean()), len(values)
    reach = float(stats.t.ppf(0.975, n - 1) * values.std(ddof=1) / np.sqrt(n)) if n > 1 else float("nan")
    known = bool(np.isfinite(reach))
    return {
        "mean": mean,
        "low": mean - reach if known else None,
        "high": mean + reach if known else None,
        "values": values.tolist(),
    }

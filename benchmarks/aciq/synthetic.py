"""ACIQ on values that are drawn from the distributions that it assumes: is the error what the formulas say?"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from inc_laaciq.quant.aciq import optimal_alpha_gaussian, optimal_alpha_laplace
from inc_laaciq.quant.bias_correction import bias_correction
from inc_laaciq.quant.bit_allocation import allocate_bits
from inc_laaciq.quant.clipping import clipping_mse_gaussian, clipping_mse_laplace
from inc_laaciq.quant.grid import Grid, round_to_grid, scale_from_alpha

BITS = (2, 3, 4, 8)
VALUES = 100_000
DRAWS = 8
DISTRIBUTIONS = {
    "laplace": (optimal_alpha_laplace, clipping_mse_laplace, np.random.Generator.laplace),
    "gaussian": (optimal_alpha_gaussian, clipping_mse_gaussian, np.random.Generator.normal),
}
"""By name: threshold, expected error, and what draws values of scale 1."""


def error_table(draws: int = DRAWS, values: int = VALUES) -> list[dict[str, Any]]:
    """Expected and measured squared error, by distribution and bits.

    "bins" is the grid of the paper, 2**bits bins over [-alpha, alpha] that round to their middle; "integer" is the
    symmetric integer grid, which has a level at 0 and so one level less.  Both have the published threshold, and the
    last also the best one for it.  Unclipped means that the integer grid covers the largest of the values drawn.
    """
    rows = []
    for name, (threshold, expected, draw) in DISTRIBUTIONS.items():
        samples = [draw(np.random.default_rng(seed), size=values) for seed in range(draws)]
        for bits in BITS:
            alpha, best = (float(threshold(1.0, bits, noise=noise)) for noise in ("aciq", "integer"))
            rows.append(
                {
                    "distribution": name,
                    "bits": bits,
                    "alpha": alpha,
                    "best_integer_alpha": best,
                    "bins": {
                        "expected": float(expected(1.0, alpha, bits)),
                        **measured([binned(x, alpha, bits) for x in samples]),
                    },
                    "integer": {
                        "expected": float(expected(1.0, alpha, bits, noise="integer")),
                        **measured([rounded(x, alpha, bits) for x in samples]),
                    },
                    "integer_best": {
                        "expected": float(expected(1.0, best, bits, noise="integer")),
                        **measured([rounded(x, best, bits) for x in samples]),
                    },
                    "unclipped": measured([rounded(x, float(np.abs(x).max()), bits) for x in samples]),
                }
            )
    return rows


def measured(errors: list[float]) -> dict[str, float]:
    """Mean of the draws, with its standard error."""
    return {
        "measured": float(np.mean(errors)),
        "standard_error": float(np.std(errors, ddof=1) / np.sqrt(len(errors))) if len(errors) > 1 else float("inf"),
    }


def binned(x: np.ndarray[Any, Any], alpha: float, bits: int) -> float:
    """Squared error of the paper's bins."""
    step = 2 * alpha / 2**bits
    place = np.clip(np.floor(x / step), -(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    return float(np.square(x - (place + 0.5) * step).mean())


def rounded(x: np.ndarray[Any, Any], alpha: float, bits: int) -> float:
    """Squared error of this package's symmetric grid."""
    values = torch.from_numpy(x)
    return float((on_grid(values, torch.tensor(alpha, dtype=torch.float64), bits) - values).square().mean())


def on_grid(x: Tensor, alpha: Tensor, bits: int) -> Tensor:
    """Values clipped at alpha and rounded to the symmetric integer grid."""
    grid = Grid(bits=bits, scheme="sym", narrow_range=True)
    return round_to_grid(x, scale_from_alpha(alpha, grid), None, grid)


def bias_table(channels: int = 256, size: int = 288) -> list[dict[str, Any]]:
    """What bias correction does to the mean, the norm and the squared error of channels of weights.

    Channels are small, as those of a convolution, and not quite centred, so that a shift of the mean can show; they
    are clipped at the published threshold.
    """
    rows = []
    for name, (threshold, _, draw) in DISTRIBUTIONS.items():
        rng = np.random.default_rng(0)
        w = torch.from_numpy(draw(rng, size=(channels, size)) + 0.2 * rng.normal(size=(channels, 1)))
        for bits in BITS:
            quantized = on_grid(w, torch.tensor(float(threshold(1.0, bits)), dtype=torch.float64), bits)
            corrected = bias_correction(w, quantized).apply(quantized)
            rows.append(
                {
                    "distribution": name,
                    "bits": bits,
                    **{
                        label: {
                            "mean_shift": float((q.mean(1) - w.mean(1)).square().mean().sqrt()),
                            "norm_ratio": float((spread(q) / spread(w)).mean()),
                            "mse": float((q - w).square().mean()),
                        }
                        for label, q in (("before", quantized), ("after", corrected))
                    },
                }
            )
    return rows


def spread(w: Tensor) -> Tensor:
    """Norm of each channel about its mean."""
    return (w - w.mean(1, keepdim=True)).norm(dim=1)


def allocation_table(channels: int = 128, size: int = 4096) -> list[dict[str, Any]]:
    """Squared error of channels of different width: bits the same for all, allocated as published, at equal bits."""
    rows = []
    for name, (threshold, _, draw) in DISTRIBUTIONS.items():
        rng = np.random.default_rng(1)
        width = rng.lognormal(0.0, 0.8, channels)
        x = torch.from_numpy(draw(rng, size=(channels, size)) * width[:, None])
        for bits in (3, 4):
            allocations = {
                "uniform": np.full(channels, bits),
                "published": allocate_bits(width, bits, keep_average=False),
                "published, bits kept": allocate_bits(width, bits),
            }
            errors = {}
            for label, each in allocations.items():
                errors[label] = float(
                    np.mean(
                        [
                            float((on_grid(x[i], torch.tensor(float(threshold(width[i], int(b)))), int(b)) - x[i])
                                  .square().mean())
                            for i, b in enumerate(each)
                        ]
                    )
                )  # fmt: skip
            rows.append(
                {
                    "distribution": name,
                    "bits": bits,
                    "methods": {
                        label: {
                            "bits": float(each.mean()),
                            "bins": float((2.0**each).mean()),
                            "mse": errors[label],
                            "ratio": errors[label] / errors["uniform"],
                        }
                        for label, each in allocations.items()
                    },
                }
            )
    return rows

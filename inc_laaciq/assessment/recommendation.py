"""What to do about a predicted harm: a mode, then single layers with more bits, then more bits for all."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inc_laaciq.assessment.rounding import error_ratio
from inc_laaciq.calibration.layers import Layer
from inc_laaciq.config import WeightSpec

MODES = {"balanced": 0.4, "fair": 0.25}
"""What is left of the degradation of plain rounding, cheapest mode first: by the worst language's divergence from the
float model, on the shipped model at 4 bits, rounded up. benchmarks/results/methods_*.json have what was measured."""

MOST_RAISED = 0.25
"""Share of the weights beyond which more bits for all are better than more bits for some."""

# Neural Compressor unpacks asymmetric 8-bit weights wrongly, so they are refused.
_MOST_BITS = {"sym": 8, "asym": 7}
_WIDTHS = (2, 3, 4, 5, 6, 8)  # 7 bits take the place of 8 wherever they are stored


@dataclass(frozen=True, kw_only=True)
class Recommendation:
    """A way to keep every language within its limit, by prediction.

    Parameters
    ----------
    weight : WeightSpec
        For all layers but those that are raised.
    mode : str
    raised : tuple of str
        Layers that get `raised_bits`.
    raised_bits : int
        The most that every backend carries.
    is_enough : bool
        False: even this is predicted to harm a language, and a gate will say so.
    predicted : mapping of language -> float
        Degradation that is then expected, nats per byte.
    """

    weight: WeightSpec
    mode: str
    raised: tuple[str, ...]
    raised_bits: int
    is_enough: bool
    predicted: Mapping[str, float]


def recommend(
    layers: Sequence[Layer],
    by_layer: Mapping[str, NDArray[np.float64]],
    allowed: Mapping[str, float],
    weight: WeightSpec,
) -> Recommendation:
    """The least that keeps every language within what is allowed.

    Parameters
    ----------
    layers : sequence of Layer
        That are quantized.
    by_layer : mapping of language -> float64 array, shape (n_layers,)
        Degradation by plain rounding with `weight`, nats per byte.
    allowed : mapping of language -> float
        Nats per byte.
    """
    wider = (width for width in _WIDTHS if weight.bits < width <= _MOST_BITS[weight.scheme])
    widths = sorted({weight.bits, *wider})
    most = widths[-1]
    predicted: dict[str, float] = {}
    for bits in widths:
        spec = replace(weight, bits=bits)
        at = {tag: values * error_ratio(weight, bits) for tag, values in by_layer.items()}
        for mode, left in MODES.items():
            predicted = {tag: left * float(values.sum()) for tag, values in at.items()}
            if all(predicted[tag] <= allowed[tag] for tag in predicted):
                return _made(spec, mode, (), most, predicted, is_enough=True)
        if bits < most:
            left = MODES["fair"]
            raised, lower = _raise(layers, {tag: left * values for tag, values in at.items()}, allowed, spec, most)
            if raised:
                return _made(spec, "fair", raised, most, lower, is_enough=True)
    return _made(replace(weight, bits=most), "fair", (), most, predicted, is_enough=False)


def _made(
    weight: WeightSpec,
    mode: str,
    raised: tuple[str, ...],
    raised_bits: int,
    predicted: Mapping[str, float],
    *,
    is_enough: bool,
) -> Recommendation:
    if weight.bits > _MOST_BITS[weight.scheme]:
        weight = replace(weight, scheme="sym")  # which costs about the same
    return Recommendation(
        weight=weight,
        mode=mode,
        raised=raised,
        raised_bits=raised_bits,
        is_enough=is_enough,
        predicted=dict(predicted),
    )


def _raise(
    layers: Sequence[Layer],
    by_layer: Mapping[str, NDArray[np.float64]],
    allowed: Mapping[str, float],
    weight: WeightSpec,
    bits: int,
) -> tuple[tuple[str, ...], dict[str, float]]:
    """Layers that win the harmed languages most for their size, until none is harmed; none if that takes too many."""
    sizes = np.array([layer.n_weights for layer in layers], dtype=np.float64)
    rest = error_ratio(weight, bits)
    left = {tag: values.copy() for tag, values in by_layer.items()}
    raised: list[int] = []
    while harmed := [tag for tag, values in left.items() if values.sum() > allowed[tag]]:
        gain = np.sum([left[tag] / allowed[tag] for tag in harmed], axis=0) / sizes
        gain[raised] = -1.0
        best = int(np.argmax(gain))
        raised.append(best)
        if sizes[raised].sum() > MOST_RAISED * sizes.sum():
            return (), {}
        for values in left.values():
            values[best] *= rest
    return tuple(layers[place].name for place in sorted(raised)), {tag: float(v.sum()) for tag, v in left.items()}


def configuration(recommendation: Recommendation, texts: str) -> dict[str, Any]:
    """A configuration that `inc-laaciq quantize` takes, with text to calibrate on."""
    weight = recommendation.weight
    op_wise = {re.escape(name): {"weight": {"bits": recommendation.raised_bits}} for name in recommendation.raised}
    quantization: dict[str, Any] = {
        "approach": "post_training_weight_only",
        "model_wise": {"weight": {"bits": weight.bits, "group_size": weight.group_size, "scheme": weight.scheme}},
    }
    return {
        "quantization": quantization | ({"op_wise": op_wise} if op_wise else {}),
        "tuning": {"strategy": {"name": "la_aciq"}},
        "la_aciq": {"mode": recommendation.mode, "calibration": {"texts": texts}},
    }

"""How much each quantized layer costs a language, measured: the layer is put back to float and the loss taken again."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import torch
from torch import nn
from torch.nn import functional

from inc_laaciq.calibration.collect import Progress
from inc_laaciq.calibration.folding import Fold, apply_folds
from inc_laaciq.calibration.layers import linear_layer
from inc_laaciq.quant.solver import QuantizedWeight

TOKENS = 1024
"""Calibration tokens of each language that a layer is measured on."""


def layer_harm(
    model: nn.Module,
    weights: Mapping[str, QuantizedWeight],
    batches: Mapping[str, Sequence[torch.Tensor]],
    *,
    folds: Sequence[Fold] = (),
    progress: Progress | None = None,
) -> dict[str, dict[str, float]]:
    """Loss that each language would win back if one layer were in float, nats per token.

    Parameters
    ----------
    model : nn.Module
        The float model; not modified.
    weights : mapping of layer name -> QuantizedWeight
        All quantized layers.
    batches : mapping of language -> token batches
        Calibration text of the languages to look at; about the first 1024 tokens of each are used.
    folds : sequence of Fold
        Scales of columns that the weights were solved with.
    progress : callable(stage, done, total), optional

    Returns
    -------
    dict of layer -> dict of language -> float
        Negative where a layer's error makes up for that of others.

    Notes
    -----
    Evaluation text is not used: choosing layers by it would make the verdict on it too good.
    """
    quantized = copy.deepcopy(model).eval()
    scale_of = {name: fold.scale for fold in apply_folds(quantized, folds) for name in fold.layers}
    parts = {tag: _first(rows) for tag, rows in batches.items()}
    harm: dict[str, dict[str, float]] = {}
    with torch.inference_mode(False), torch.no_grad():
        for name, weight in weights.items():
            linear_layer(quantized, name).weight.copy_(weight.dequantize())
        everything = {tag: _loss(quantized, rows) for tag, rows in parts.items()}
        for number, (name, weight) in enumerate(weights.items(), start=1):
            target = linear_layer(quantized, name).weight
            target.copy_(linear_layer(model, name).weight)
            if name in scale_of:
                target.mul_(scale_of[name].to(target.device, target.dtype))
            harm[name] = {tag: everything[tag] - _loss(quantized, rows) for tag, rows in parts.items()}
            target.copy_(weight.dequantize())
            if progress is not None:
                progress("measuring layers", number, len(weights))
    return harm


def _first(rows: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    chosen: list[torch.Tensor] = []
    for row in rows:
        if sum(batch.numel() for batch in chosen) >= TOKENS:
            break
        chosen.append(row)
    return chosen


def _loss(model: nn.Module, rows: Sequence[torch.Tensor]) -> float:
    """Mean loss of predicting each next token, nats."""
    total, n = 0.0, 0
    for ids in rows:
        if ids.shape[-1] < 2:
            continue
        logits = model(input_ids=ids).logits[:, :-1].float()
        total += float(functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="sum"))
        n += ids[:, 1:].numel()
    return total / n if n else 0.0

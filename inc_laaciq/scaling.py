"""Scales of outlier columns for a whole model: where they fold, what the text says, and which are worth it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import nn

from inc_laaciq.calibration.collect import Progress, collect
from inc_laaciq.calibration.folding import Fold, find_fold_sites
from inc_laaciq.calibration.layers import Layer, linear_layer
from inc_laaciq.errors import LaaciqError
from inc_laaciq.quant.scaling import column_scale
from inc_laaciq.quant.solver import SolverSpec

logger = logging.getLogger(__name__)

# Rows of text and tokens of each on which it is seen that a norm can be scaled: their logits are held twice.
_ROWS, _TOKENS = 8, 16
# Calibration tokens of each language from which columns are scaled: how loud an input is needs no more.
_STATISTICS_TOKENS = 1024


def find_folds(
    model: nn.Module,
    layers: Sequence[Layer],
    batches: Mapping[str, Sequence[torch.Tensor]],
    spec_of: Callable[[Layer], SolverSpec],
    *,
    progress: Progress | None = None,
) -> tuple[Fold, ...]:
    """Scales of columns that make a model easier to quantize and leave its float outputs as they are.

    Parameters
    ----------
    model : nn.Module
        Left as it is.
    layers : sequence of Layer
        Those to be quantized.
    batches : mapping of language -> token batches
    spec_of : callable
        The solver's settings for a layer; layers that share a norm are each judged by their own.
    progress : callable(stage, done, total), optional

    Returns
    -------
    tuple of Fold
        Empty for a model without outlier columns.
    """
    wanted = {layer.name: layer for layer in layers}
    rows = _short_rows(batches)
    sites = find_fold_sites(model, tuple(wanted), rows) if rows is not None else ()
    if not sites:
        return ()
    text = {tag: _beginning(group) for tag, group in batches.items()}
    moments = collect(model, text, [site.layers[0] for site in sites], full=False, progress=progress).moments
    folds = []
    for site in sites:
        specs = [spec_of(wanted[name]) for name in site.layers]
        seen = {tag: m for tag, m in moments[site.layers[0]].items() if specs[0].weights.get(tag, 1.0) > 0}
        if not seen:
            continue
        weights = [linear_layer(model, name).weight for name in site.layers]
        try:
            scale = column_scale(weights, specs, seen)
        except LaaciqError as error:
            raise type(error)(f"norm {site.norm!r}: {error}") from error
        if scale is None:
            continue
        logger.info("norm %s takes a scale for %d layers", site.norm, len(site.layers))
        folds.append(Fold(norm=site.norm, layers=site.layers, scale=scale.cpu()))
    return tuple(folds)


def _beginning(group: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """The first rows of a language, of as many tokens as are needed."""
    chosen, left = [], _STATISTICS_TOKENS
    for batch in group:
        if left <= 0:
            break
        chosen.append(batch[: -(-left // max(1, batch.shape[-1]))])
        left -= chosen[-1].numel()
    return chosen


def _short_rows(batches: Mapping[str, Sequence[torch.Tensor]]) -> torch.Tensor | None:
    """The beginning of a row of some languages, as one batch; None where there is no text."""
    rows = [batch[0] for group in batches.values() for batch in group[:1] if batch.numel()][:_ROWS]
    if not rows:
        return None
    length = min(_TOKENS, *(len(row) for row in rows))
    return torch.stack([row[:length] for row in rows])

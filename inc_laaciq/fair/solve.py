"""Mode `fair` for a whole model: in sequence through its blocks, then tuned end to end or block by block."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from inc_laaciq.calibration.collect import Progress
from inc_laaciq.calibration.layers import Layer
from inc_laaciq.config import LaaciqSpec
from inc_laaciq.errors import EvaluationError
from inc_laaciq.fair.blocks import Stack, find_stack, without_cache
from inc_laaciq.fair.distance import BlockDistance, BlockRow, ModelDistance
from inc_laaciq.fair.sequential import Pieces, Solved, advance, enter_text, solve_block
from inc_laaciq.fair.tuning import Tuned, Tuner, TuneSpec
from inc_laaciq.memory import available_memory
from inc_laaciq.quant.latent import LatentWeight
from inc_laaciq.quant.solver import QuantizedWeight, SolverSpec

logger = logging.getLogger(__name__)

# For each weight that is tuned end to end: position, weight and gradient in float32, and the step along it.
_TUNING_BYTES = 16
_SHARE = 0.5


@dataclass(frozen=True, kw_only=True)
class Fair:
    """What mode `fair` found.

    Parameters
    ----------
    weights : mapping of layer -> QuantizedWeight
        Of the layers in the stack of blocks that some token reached.
    invalid : mapping of language -> str
        Languages that the float model itself fails on.
    tuning : mapping
        `tuned` ("model", "blocks" or "none") and `steps`; for the model also `kept`, the step that was kept, and
        `history`: for each look at the held-out rows, the step and every language's divergence in nats per token.
    """

    weights: Mapping[str, QuantizedWeight]
    invalid: Mapping[str, str]
    tuning: Mapping[str, Any]


@dataclass(kw_only=True)
class _Run:
    model: nn.Module
    stack: Stack
    settings: LaaciqSpec
    spec_of: Callable[[Layer], SolverSpec]
    emphasis: Mapping[str, float]
    progress: Progress | None
    solved: dict[str, Solved] = field(default_factory=dict)

    def tuner_spec(self) -> TuneSpec:
        fair = self.settings.fair
        seed = self.settings.calibration.seed if self.settings.calibration is not None else 0
        return TuneSpec(steps=fair.steps, tilt=fair.tilt, seed=seed)


def solve_fair(
    model: nn.Module,
    layers: Sequence[Layer],
    batches: Mapping[str, Sequence[torch.Tensor]],
    settings: LaaciqSpec,
    spec_of: Callable[[Layer], SolverSpec],
    *,
    progress: Progress | None = None,
) -> Fair:
    """Solve the layers that lie in the model's stack of blocks.

    Parameters
    ----------
    model : nn.Module
        The float model; not modified.
    layers : sequence of Layer
        To be quantized.
    batches : mapping of language -> token tensors, shape (rows, tokens)
    settings : LaaciqSpec
    spec_of : callable
        The solver's settings for a layer.

    Raises
    ------
    ModelError
        If the model has no stack of blocks that can be run one by one.
    EvaluationError
        If the float model fails on every language.
    """
    stack = find_stack(model, [layer.name for layer in layers])
    mine = [layer for layer in layers if stack.index(layer.name) is not None]
    kind = settings.fair.tune if settings.fair.tune != "auto" else _what_fits(mine)
    pieces = {tag: list(rows) for tag, rows in batches.items()}
    if kind == "blocks":  # whose rows are drawn one by one
        pieces = {tag: [row[None] for batch in group for row in batch] for tag, group in pieces.items()}
    with torch.no_grad():
        entered = enter_text(model, stack, pieces, progress)
    if not entered.pieces:
        first = next(iter(entered.invalid.items()))
        raise EvaluationError(
            f"the float model gives NaN or infinity on every language, for example {first[0]}: {first[1]}. "
            "Check the model, or load it in float32"
        )
    shares = settings.shares if settings.reconcile == "natural" else None
    emphasis = {
        tag: settings.weights.get(tag, 1.0) * (shares[tag] if shares is not None else 1.0) for tag in entered.pieces
    }
    run = _Run(model=model, stack=stack, settings=settings, spec_of=spec_of, emphasis=emphasis, progress=progress)
    weights = _in_sequence(run, mine, entered.pieces, tune=kind == "blocks")
    if kind != "model":
        steps = 0 if kind == "none" else settings.fair.steps
        return Fair(weights=weights, invalid=entered.invalid, tuning={"tuned": kind, "steps": steps})
    del entered.pieces
    rows = {tag: [row[None] for batch in batches[tag] for row in batch if row.numel() > 1] for tag in emphasis}
    latents = {name: LatentWeight(solved.weight, solved.target) for name, solved in run.solved.items()}
    run.solved.clear()
    tuner = Tuner(latents, ModelDistance(model, without_cache(model)), rows, emphasis, run.tuner_spec())
    tuned = tuner.run(progress)
    tuning = {"tuned": kind, "steps": settings.fair.steps, "kept": tuned.step, "history": list(tuned.history)}
    return Fair(weights=tuned.weights, invalid=entered.invalid, tuning=tuning)


def _what_fits(layers: Sequence[Layer]) -> str:
    available = available_memory()
    needed = _TUNING_BYTES * sum(layer.n_weights for layer in layers)
    return "model" if available is None or needed <= _SHARE * available else "blocks"


def _in_sequence(run: _Run, layers: Sequence[Layer], pieces: Pieces, *, tune: bool) -> dict[str, QuantizedWeight]:
    weights: dict[str, QuantizedWeight] = {}
    for number, name in enumerate(run.stack.blocks):
        block = run.model.get_submodule(name)
        inside = {layer.name[len(name) + 1 :]: layer for layer in layers if run.stack.index(layer.name) == number}
        found: dict[str, Solved] = {}
        if inside:
            with torch.no_grad():
                for layer, solved in solve_block(block, number, inside, pieces, run.spec_of):
                    found[layer] = solved
                    if run.progress is not None:
                        run.progress("solving", len(weights) + len(found), len(layers))
        quantized = {layer: solved.weight for layer, solved in found.items()}
        if tune and quantized:
            quantized = dict(_tune_block(run, block, number, found, pieces).weights)
        else:
            run.solved |= {f"{name}.{layer}": solved for layer, solved in found.items()}
        weights |= {f"{name}.{layer}": weight for layer, weight in quantized.items()}
        with torch.no_grad():
            advance(block, number, pieces, {layer: weight.dequantize() for layer, weight in quantized.items()})
    return weights


def _tune_block(run: _Run, block: nn.Module, number: int, found: Mapping[str, Solved], pieces: Pieces) -> Tuned:
    rows: dict[str, list[BlockRow]] = {}
    with torch.no_grad():
        for tag, group in pieces.items():
            rows[tag] = []
            for piece in group:
                wanted = piece.calls[number].run(block, piece.hidden)
                rows[tag].append((piece.calls[number], piece.changed, wanted - piece.hidden, wanted))
    latents = {name: LatentWeight(solved.weight, solved.target) for name, solved in found.items()}
    return Tuner(latents, BlockDistance(block), rows, run.emphasis, run.tuner_spec()).run()

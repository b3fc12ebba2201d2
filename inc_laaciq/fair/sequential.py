"""Layers solved one after another, each on what it receives behind the layers that are already quantized.

A layer's target is not the float weight but the weight that gives the float output on the changed input, so each
layer takes back some of the error that the earlier ones made.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import nn

from inc_laaciq.calibration.collect import Progress
from inc_laaciq.calibration.layers import Layer, linear_layer
from inc_laaciq.errors import LaaciqError, NumericError
from inc_laaciq.fair.blocks import Call, Entry, Stack, enter, inputs_of
from inc_laaciq.quant.input_correction import corrected_weight
from inc_laaciq.quant.moments import LanguageMoments
from inc_laaciq.quant.objective import LayerObjective
from inc_laaciq.quant.solver import QuantizedWeight, SolverSpec, solve_from

logger = logging.getLogger(__name__)


@dataclass(kw_only=True)
class Piece:
    """Some rows of calibration text on their way through the stack.

    Parameters
    ----------
    calls : list of Call
        How the model calls each block for these rows.
    hidden : tensor, shape (rows, tokens, hidden_size)
        In the float model.
    changed : tensor, same shape
        In the model whose earlier blocks are quantized.
    """

    calls: list[Call]
    hidden: torch.Tensor
    changed: torch.Tensor


@dataclass(frozen=True, kw_only=True)
class Solved:
    """A layer as it was solved.

    Parameters
    ----------
    weight : QuantizedWeight
    target : tensor, shape (out_features, in_features)
        What it was rounded from.
    """

    weight: QuantizedWeight
    target: torch.Tensor


Pieces = Mapping[str, Sequence[Piece]]


@dataclass(kw_only=True)
class Entered:
    """Text of every language at the entry of the stack, and the languages that the float model itself fails on."""

    pieces: dict[str, list[Piece]] = field(default_factory=dict)
    invalid: dict[str, str] = field(default_factory=dict)


def enter_text(
    model: nn.Module, stack: Stack, batches: Mapping[str, Sequence[torch.Tensor]], progress: Progress | None = None
) -> Entered:
    """Run all calibration text through the float model once.

    Parameters
    ----------
    batches : mapping of language -> token tensors, shape (rows, tokens)
    """
    entered = Entered()
    total = sum(len(group) for group in batches.values())
    done = 0
    for tag, group in batches.items():
        pieces: list[Piece] = []
        try:
            for ids in group:
                entry: Entry = enter(model, stack, ids, is_checked=not entered.pieces and not pieces)
                pieces.append(Piece(calls=entry.calls, hidden=entry.hidden, changed=entry.hidden))
                done += 1
                if progress is not None:
                    progress("calibrating", done, total)
        except NumericError as error:
            entered.invalid[tag] = str(error)
            logger.warning("%s: the float model itself is broken on this language: %s", tag, error)
            continue
        entered.pieces[tag] = pieces
    return entered


def solve_block(
    block: nn.Module,
    number: int,
    layers: Mapping[str, Layer],
    pieces: Pieces,
    spec_of: Callable[[Layer], SolverSpec],
) -> Iterator[tuple[str, Solved]]:
    """Solve the layers of one block, in the order in which they run.

    Parameters
    ----------
    block : nn.Module
        In float; not modified.
    number : int
        Of the block in the stack.
    layers : mapping of name within the block -> Layer
    pieces : mapping of language -> text at the entry of this block
    spec_of : callable
        The solver's settings for a layer.

    Yields
    ------
    Name within the block, and the layer as solved. A layer that no token of a language that counts reaches is not among
    them.
    """
    changed = copy.deepcopy(block)
    for stage in _stages(block, number, tuple(layers), pieces):
        try:
            moments, differences = _statistics(block, changed, number, stage[0], pieces)
        except NumericError as error:
            raise NumericError(f"input of layer {layers[stage[0]].name!r}: {error}") from error
        for name in stage:
            weight = linear_layer(block, name).weight.detach().float()
            spec = spec_of(layers[name])
            if not any(spec.weights.get(tag, 1.0) > 0 for tag in moments):
                continue  # only languages of weight 0 reach it
            try:
                solved = _solve(weight, spec, moments, differences)
            except LaaciqError as error:
                raise type(error)(f"layer {layers[name].name!r}: {error}") from error
            linear_layer(changed, name).weight.data.copy_(solved.weight.dequantize())
            yield name, solved


def advance(block: nn.Module, number: int, pieces: Pieces, weights: Mapping[str, torch.Tensor]) -> None:
    """Take all text through a block: as it is in float, and with quantized weights."""
    changed = copy.deepcopy(block)
    for name, weight in weights.items():
        linear_layer(changed, name).weight.data.copy_(weight)
    for group in pieces.values():
        for piece in group:
            piece.hidden = piece.calls[number].run(block, piece.hidden)
            piece.changed = piece.calls[number].run(changed, piece.changed)


def _stages(block: nn.Module, number: int, names: Sequence[str], pieces: Pieces) -> list[list[str]]:
    """Layers that share their input, in the order in which they run."""
    order: dict[str, int] = {}
    stages: list[list[str]] = []
    for group in pieces.values():
        for piece in group:
            if len(order) == len(names):
                return stages
            seen = inputs_of(block, piece.calls[number], piece.hidden, names)
            by_input: dict[int, list[str]] = {}
            for name, x in seen.items():
                by_input.setdefault(id(x), []).append(name)
            for shared in by_input.values():
                new = [name for name in shared if name not in order]
                if new:
                    order.update(dict.fromkeys(new, len(stages)))
                    stages.append(new)
    return stages


def _statistics(
    block: nn.Module, changed: nn.Module, number: int, name: str, pieces: Pieces
) -> tuple[dict[str, LanguageMoments], dict[str, torch.Tensor]]:
    """Per language: statistics of the input as it is now, and sum of (float input - input) input^T."""
    moments: dict[str, LanguageMoments] = {}
    differences: dict[str, torch.Tensor] = {}
    for tag, group in pieces.items():
        for piece in group:
            now = inputs_of(changed, piece.calls[number], piece.changed, [name], last=name).get(name)
            before = inputs_of(block, piece.calls[number], piece.hidden, [name], last=name).get(name)
            if now is None:
                continue
            part = LanguageMoments.of(now, full=True)
            moments[tag] = moments[tag] + part if tag in moments else part
            difference = torch.zeros(2 * (now.shape[1],)) if tag not in differences else differences[tag]
            # An expert is given some tokens only, and not the same ones as before: there is nothing to compare.
            if before is not None and len(before) == len(now) == piece.hidden.shape[:-1].numel():
                difference.addmm_((before.float() - now.float()).T, now.float())
            differences[tag] = difference
    return moments, differences


def _solve(
    weight: torch.Tensor,
    spec: SolverSpec,
    moments: Mapping[str, LanguageMoments],
    differences: Mapping[str, torch.Tensor],
) -> Solved:
    objective = LayerObjective(weight, moments, weights=spec.weights, shares=spec.shares_of(moments))
    uniform = torch.full((len(objective.languages),), 1.0 / len(objective.languages))
    wanted = corrected_weight(weight, objective.hessian(uniform), objective.mixed(uniform, differences), spec.damping)
    solved, target = solve_from(wanted, spec, moments)
    return Solved(weight=solved, target=target)

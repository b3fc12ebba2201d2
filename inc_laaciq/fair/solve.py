"""Mode `fair` for a whole model: in sequence through its blocks, then tuned end to end or block by block."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn

from inc_laaciq.calibration.collect import Progress, evaluating
from inc_laaciq.calibration.layers import Layer
from inc_laaciq.config import LaaciqSpec
from inc_laaciq.config.specs import Tune
from inc_laaciq.errors import EvaluationError, ModelError, NumericError, ResourceError, SpecError
from inc_laaciq.fair.blocks import Stack, find_stack, without_cache
from inc_laaciq.fair.distance import BlockDistance, BlockRow, ModelDistance, Row
from inc_laaciq.fair.fisher import hidden_fisher
from inc_laaciq.fair.sampling import sample_rows
from inc_laaciq.fair.sequential import Entered, Pieces, Solved, advance, enter_text, solve_block
from inc_laaciq.fair.tuning import Tuned, Tuner, TuneSpec
from inc_laaciq.memory import available_memory
from inc_laaciq.quant.latent import LatentWeight
from inc_laaciq.quant.solver import QuantizedWeight, SolverSpec

logger = logging.getLogger(__name__)

Rows = Mapping[str, list[Row]]
"""Text to tune on, by language."""

# With `auto`, models up to this many weights are tuned as a whole.  It goes by size and not by the memory that is free:
# the same configuration must give the same codes on every machine.
_WHOLE = 1_000_000_000
# For each weight that is tuned: position, weight, gradient and what it was rounded from in float32, and the step.
_TUNING_BYTES = 20


def what_is_tuned(settings: LaaciqSpec, n_weights: int) -> Tune:
    """What is tuned, "model", "blocks" or "none", in a model with so many weights to quantize."""
    kind = settings.fair.tune
    if kind != "auto":
        return kind
    return "model" if n_weights <= _WHOLE else "blocks"


def unused_labels(settings: LaaciqSpec, n_weights: int) -> str | None:
    """Why labels that were asked for have no effect on a model with so many weights to quantize; None if they have."""
    if settings.mode != "fair" or not settings.fair.labels or what_is_tuned(settings, n_weights) == "model":
        return None
    return (
        f"la_aciq.fair.labels has no effect: {n_weights / 1e6:.0f} million weights are tuned block by block, and a "
        "block predicts no text. Set la_aciq.fair.tune to model, or labels to 0"
    )


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
        `tuned` ("model", "blocks" or "none") and `steps`; for the model also `sampled`, `labels`, `kept`, the step that
        was kept, `is_held_out`, whether every language had rows to hold out, and `history`: for each look at the
        held-out rows, the step, every language's divergence in nats per token, and the worst of them.
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
    rows: Mapping[str, list[torch.Tensor]] | None = None
    """Text by language, for a model that is tuned block by block."""
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
        If the model has no stack of blocks that can be run one by one, or is to be tuned and comes from inference mode.
    EvaluationError
        If the float model fails on every language.
    ResourceError
        If the tuning does not fit into memory.
    """
    # A caller's inference mode would leave the tuning without gradients, and dropout would be taken for a difference.
    with torch.inference_mode(False), torch.enable_grad(), evaluating(model):
        return _solve(model, layers, batches, settings, spec_of, progress)


def _solve(
    model: nn.Module,
    layers: Sequence[Layer],
    batches: Mapping[str, Sequence[torch.Tensor]],
    settings: LaaciqSpec,
    spec_of: Callable[[Layer], SolverSpec],
    progress: Progress | None,
) -> Fair:
    stack = find_stack(model, [layer.name for layer in layers])
    if stack is None:
        return Fair(weights={}, invalid={}, tuning={})
    mine = [layer for layer in layers if stack.index(layer.name) is not None]
    n_weights = sum(layer.n_weights for layer in mine)
    kind = what_is_tuned(settings, n_weights)
    if kind == "model":
        _check_memory(
            _TUNING_BYTES * n_weights,
            f"tuning {n_weights / 1e6:.0f} million weights at once",
            "Set la_aciq.fair.tune to blocks, or use a larger machine",
        )
    if kind != "none":
        _check_gradients(model)
    if unused := unused_labels(settings, n_weights):
        logger.warning(unused)
    pieces = {tag: list(rows) for tag, rows in batches.items()}
    if kind == "blocks":  # whose rows are drawn one by one
        pieces = {tag: [row[None] for batch in group for row in batch] for tag, group in batches.items()}
    distance = ModelDistance(model, without_cache(model))
    with torch.no_grad():
        entered = enter_text(model, stack, pieces, progress)
        if kind != "none":
            _leave_out_broken(entered, distance, batches, progress)
    if not entered.pieces:
        first = next(iter(entered.invalid.items()))
        raise EvaluationError(
            f"the float model gives NaN or infinity on every language, for example {first[0]}: {first[1]}. "
            "Check the model, or load it in float32"
        )
    emphasis = _emphasis(settings, batches, entered.pieces)
    if not any(emphasis.values()):  # the languages that count are those that the float model fails on
        return Fair(weights={}, invalid=entered.invalid, tuning={})
    run = _Run(model=model, stack=stack, settings=settings, spec_of=spec_of, emphasis=emphasis, progress=progress)
    _check_memory(
        _block_bytes(stack, mine, entered.pieces, is_tuned=kind == "blocks"),
        "mode 'fair' for the largest block",
        "Calibrate on fewer languages or tokens, use mode 'fast', or a larger machine",
    )
    if kind == "blocks":
        run.rows = pieces
    weights = _in_sequence(run, mine, entered.pieces)
    if kind != "model" or not run.solved:
        steps = 0 if kind == "none" or not weights else settings.fair.steps
        return Fair(weights=_without_errors(weights), invalid=entered.invalid, tuning={"tuned": kind, "steps": steps})
    del entered.pieces
    labels = settings.fair.label_share
    rows = {tag: [Row(ids=row[None], labels=labels) for batch in batches[tag] for row in batch] for tag in emphasis}
    latents = {name: LatentWeight(solved.weight, solved.target) for name, solved in run.solved.items()}
    run.solved.clear()
    objective = distance.with_labels
    tuner = Tuner(latents, distance, rows, emphasis, run.tuner_spec(), more=_sampler(run), objective=objective)
    tuned = tuner.run(progress)
    tuning = {
        "tuned": kind,
        "steps": settings.fair.steps,
        "sampled": settings.fair.sampled,
        "labels": labels,
        "kept": tuned.step,
        "is_held_out": tuned.is_held_out,
        "history": list(tuned.history),
    }
    return Fair(weights=_without_errors(tuned.weights), invalid=entered.invalid, tuning=tuning)


def _sampler(run: _Run) -> Callable[[Rows], Rows] | None:
    spec = run.tuner_spec()
    n, seed = min(run.settings.fair.sampled, spec.rows * spec.steps), spec.seed
    if not n:
        return None

    def more(rows: Rows) -> Rows:
        ids = {tag: [row.ids for row in group] for tag, group in rows.items()}
        sampled = sample_rows(run.model, ids, n, seed=seed, progress=run.progress)
        return {tag: [Row(ids=row) for row in group] for tag, group in sampled.items()}

    return more


def _without_errors(weights: Mapping[str, QuantizedWeight]) -> dict[str, QuantizedWeight]:
    """The solver's errors are those against a corrected weight, before the tuning: of the result they say nothing."""
    return {name: replace(weight, errors={}) for name, weight in weights.items()}


def _leave_out_broken(
    entered: Entered,
    distance: ModelDistance,
    batches: Mapping[str, Sequence[torch.Tensor]],
    progress: Progress | None,
) -> None:
    """A model whose blocks give numbers may still fail behind them: nothing can be tuned on such predictions."""
    languages = list(entered.pieces)
    for done, tag in enumerate(languages, start=1):
        is_whole = all(distance.is_finite(row[None]) for batch in batches[tag] for row in batch)
        if progress is not None:
            progress("checking", done, len(languages))
        if not is_whole:
            entered.invalid[tag] = "the model's predictions are NaN or infinite"
            logger.warning("%s: the float model itself is broken on this language: %s", tag, entered.invalid[tag])
            del entered.pieces[tag]


def _check_gradients(model: nn.Module) -> None:
    if (name := next((name for name, value in model.named_parameters() if value.is_inference()), None)) is not None:
        raise ModelError(
            f"{name} was made inside torch.inference_mode(), and nothing can be tuned through such a tensor. Load the "
            "model outside of it, or set la_aciq.fair.tune to none"
        )


def _check_memory(needed: int, what: str, remedy: str) -> None:
    available = available_memory()
    if available is not None and needed > available:
        raise ResourceError(
            f"{what} needs about {needed / 1e9:.1f} GB of memory and {available / 1e9:.1f} GB are free. {remedy}"
        )


def _block_bytes(stack: Stack, layers: Sequence[Layer], pieces: Pieces, *, is_tuned: bool) -> int:
    """Memory that the largest block takes besides the text at its entry; that of its passes is not among it."""
    sizes = [0] * len(stack.blocks)
    for layer in layers:
        sizes[stack.index(layer.name) or 0] += layer.n_weights
    hidden = [piece.hidden for group in pieces.values() for piece in group]
    states = sum(one.numel() * one.element_size() for one in hidden)
    # For each language the second moments of a layer's input, and of its difference from the float model's.
    solved = 2 * 4 * len(pieces) * max((layer.in_features for layer in layers), default=0) ** 2
    fisher = 4 * len(pieces) * max((one.shape[-1] for one in hidden), default=0) ** 2
    tuned = _TUNING_BYTES * max(sizes) + states + fisher if is_tuned else 0
    return 4 * max(sizes) + states + max(solved, tuned)


def _emphasis(
    settings: LaaciqSpec, batches: Mapping[str, Sequence[torch.Tensor]], languages: Iterable[str]
) -> dict[str, float]:
    """How much each language counts: the user's weight, and for `natural` its share of the text."""
    shares: Mapping[str, float] = dict.fromkeys(batches, 1.0)
    if settings.reconcile == "natural":
        shares = settings.shares or {tag: float(sum(rows.numel() for rows in batches[tag])) for tag in batches}
        if missing := [tag for tag in languages if tag not in shares]:
            raise SpecError(f"reconcile 'natural' has no training share for {', '.join(missing)}; add them to shares")
    return {tag: settings.weights.get(tag, 1.0) * shares[tag] for tag in languages}


def _in_sequence(run: _Run, layers: Sequence[Layer], pieces: Pieces) -> dict[str, QuantizedWeight]:
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
        if run.rows is not None and quantized:
            quantized = dict(_tune_block(run, run.rows, number, found, pieces).weights)
        else:
            run.solved |= {f"{name}.{layer}": solved for layer, solved in found.items()}
        weights |= {f"{name}.{layer}": weight for layer, weight in quantized.items()}
        with torch.no_grad():
            advance(block, number, pieces, {layer: weight.dequantize() for layer, weight in quantized.items()})
    return weights


def _tune_block(
    run: _Run, text: Mapping[str, list[torch.Tensor]], number: int, found: Mapping[str, Solved], pieces: Pieces
) -> Tuned:
    block = run.model.get_submodule(run.stack.blocks[number])
    # The layers were solved on all rows, the held-out ones too: these can tell whether the tuning as a whole serves
    # text that it did not see, and not which of its steps does.
    spec = replace(run.tuner_spec(), check_every=run.settings.fair.steps)
    rows: dict[str, list[BlockRow]] = {tag: [] for tag in pieces}
    for tag, group in pieces.items():
        if not group or not run.emphasis[tag]:
            continue
        try:
            fisher = hidden_fisher(run.model, run.stack, number, text[tag], seed=spec.seed)
        except NumericError as error:
            raise NumericError(f"{tag}: {error}") from error
        with torch.no_grad():
            for piece in group:
                call = piece.calls[number]
                wanted = call.run(block, piece.hidden)
                rows[tag].append(BlockRow(call=call, hidden=piece.changed, wanted=wanted, fisher=fisher))
    latents = {name: LatentWeight(solved.weight, solved.target) for name, solved in found.items()}
    return Tuner(latents, BlockDistance(block), rows, run.emphasis, spec).run()

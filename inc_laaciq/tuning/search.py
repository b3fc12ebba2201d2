"""What is tried after a configuration fails the gate: other modes, then more bits where a language needs them.

A search yields trials one by one and looks at the verdict of each before it goes on.  It knows no quantization
framework: who drives it quantizes, evaluates and judges.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from inc_laaciq.calibration.folding import Fold
from inc_laaciq.calibration.layers import Layer
from inc_laaciq.config import FairSpec, LaaciqSpec
from inc_laaciq.layerwise import Solution
from inc_laaciq.tuning.criterion import LanguageCriterion

logger = logging.getLogger(__name__)

Harm = Mapping[str, Mapping[str, float]]
Solver = Callable[[Sequence[Layer], LaaciqSpec, tuple[Fold, ...] | None], Solution]

_LADDER = (2, 3, 4, 8)
_FLOAT_BITS = 16  # what a layer in float is counted as
_GROWTH = 1.5
_FLOAT_SHARE = 0.5  # of the weights at most go to float

RAISED_TO_FLOAT = "raised to float for the gate"


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One configuration to try.

    Parameters
    ----------
    number : int
        From 0.
    description : str
    settings : LaaciqSpec
        That it was solved with.
    solution : Solution
    """

    number: int
    description: str
    settings: LaaciqSpec
    solution: Solution


def search(
    layers: Sequence[Layer],
    settings: LaaciqSpec,
    solve: Solver,
    criterion: LanguageCriterion,
    measure: Callable[[Solution, Sequence[str]], Harm] | None,
    *,
    bits_can_rise: bool,
) -> Iterator[Trial]:
    """Trials until the gate passes one, or nothing is left to try; at least half of the weights stay quantized.

    Parameters
    ----------
    layers : sequence of Layer
    settings : LaaciqSpec
        The configuration that was asked for; it is tried first.
    solve : callable(layers, settings, folds)
        Gives their solution, with the scales of columns that are given, or with its own where they are None.
    criterion : LanguageCriterion
        Has judged a trial by the time that the next one is asked for.
    measure : callable(solution, languages) or None
        Harm of each layer to each language; None without calibration text, and then all layers are raised together.
    bits_can_rise : bool
        Else a layer that is raised goes to float.
    """
    tried: dict[int, tuple[LaaciqSpec, Solution]] = {}

    def trial(description: str, chosen: LaaciqSpec, solution: Solution) -> Trial:
        best = criterion.best() if criterion.documents else None
        for old in [number for number in tried if number != best]:
            del tried[old]  # codes of a whole model: two are kept, the best and this one
        number = len(criterion.documents)
        tried[number] = (chosen, solution)
        return Trial(number=number, description=description, settings=chosen, solution=solution)

    for chosen in alternatives(settings, has_text=measure is not None):
        yield trial(f"mode {chosen.mode}, reconciled by {chosen.reconcile}", chosen, solve(layers, chosen, None))
        if criterion.is_decided:
            return
    number = criterion.best()
    chosen, best = tried[number]
    raised = {layer.name: layer for layer in best.layers}
    while steps := {name: step for name, layer in raised.items() if (step := _next(layer, bits_can_rise)) is not None}:
        document = criterion.documents[number]
        order = _affordable(_order(steps, raised, best, document, measure), steps, raised)
        if not order:
            return
        for count in _counts(order, _needed(document)):
            part = [steps[name] for name, _ in order[:count]]
            new = solve([layer for layer in part if layer.weight is not None], _for_a_few(chosen), best.folds)
            solution = _merged(best, new, part)
            yield trial(_describe(part), chosen, solution)
            if criterion.is_decided:
                return
        raised |= {name: steps[name] for name, _ in order}
        number = len(criterion.documents) - 1  # in which all of these took their step
        best = tried[number][1]


def alternatives(settings: LaaciqSpec, *, has_text: bool) -> list[LaaciqSpec]:
    """What was asked for, then what may serve the worst language better at the same size."""
    found = [settings]
    if has_text and settings.mode != "fair":  # nothing serves the worst language better than that
        found.append(replace(settings, mode="balanced"))
        found += [replace(settings, mode="balanced", reconcile=rule, shares=None) for rule in ("cvar", "minimax")]
    first: dict[tuple[str, str], LaaciqSpec] = {}
    for spec in found:
        first.setdefault((spec.mode, spec.reconcile), spec)
    return list(first.values())


def _for_a_few(settings: LaaciqSpec) -> LaaciqSpec:
    """How single layers are solved again: mode `fair` would tune them in a model whose other layers are in float."""
    return replace(settings, mode="balanced", fair=FairSpec()) if settings.mode == "fair" else settings


def failing_languages(document: Mapping[str, Any]) -> list[str]:
    """Languages whose checks do not pass, or the worst one where only a disparity fails."""
    checks = [check for check in document["checks"] if check["verdict"] != "PASS" and check["severity"] != "warn"]
    named = sorted({check["language"] for check in checks if check["language"] is not None})
    worst = document["worst_language"]
    return named or ([worst] if worst is not None else [])


def _next(layer: Layer, bits_can_rise: bool) -> Layer | None:
    """The layer one step up the ladder; None if it is in float already."""
    weight = layer.weight
    if weight is None:
        return None
    higher = [bits for bits in _LADDER if bits > weight.bits]
    # Neural Compressor unpacks asymmetric 8 bits wrongly (see backends.inc_limits), so float follows on 4 there.
    if bits_can_rise and higher and not (weight.scheme == "asym" and higher[0] == 8):
        return replace(layer, weight=replace(weight, bits=higher[0]))
    return replace(layer, weight=None, reason=RAISED_TO_FLOAT)


def _order(
    steps: Mapping[str, Layer],
    raised: Mapping[str, Layer],
    best: Solution,
    document: Mapping[str, Any],
    measure: Callable[[Solution, Sequence[str]], Harm] | None,
) -> list[tuple[str, float]]:
    """Layers with the harm that a step takes away, nats per token; most harm for each added bit of memory first."""
    languages = failing_languages(document)
    if measure is None or not languages:
        return [(name, 0.0) for name in steps]
    harm = measure(best, languages)

    def added(name: str) -> int:
        before, after = (_bits(each[name]) for each in (raised, steps))
        return after - before

    def gain(name: str) -> float:
        """Harm that the step takes away: the squared error falls to a quarter with each bit, and to 0 in float."""
        left = 0.0 if steps[name].weight is None else 4.0 ** -added(name)
        return (1 - left) * max(harm.get(name, {}).values(), default=0.0)

    ordered = sorted(steps, key=lambda name: (-gain(name) / (added(name) * raised[name].n_weights), name))
    return [(name, gain(name)) for name in ordered]


def _affordable(
    order: Sequence[tuple[str, float]], steps: Mapping[str, Layer], raised: Mapping[str, Layer]
) -> list[tuple[str, float]]:
    """Steps that leave the greater part of the weights quantized; a float model passes any gate, and helps nobody."""
    able = [layer for layer in raised.values() if layer.weight is not None or layer.reason == RAISED_TO_FLOAT]
    budget = _FLOAT_SHARE * sum(layer.n_weights for layer in able)
    used = sum(layer.n_weights for layer in able if layer.weight is None)
    found = []
    for name, gain in order:
        needed = raised[name].n_weights if steps[name].weight is None else 0
        if used + needed <= budget:
            used += needed
            found.append((name, gain))
    return found


def _bits(layer: Layer) -> int:
    return _FLOAT_BITS if layer.weight is None else layer.weight.bits


def _counts(order: Sequence[tuple[str, float]], needed: float) -> Iterator[int]:
    """How many layers to raise: as many as should suffice, then half as many again, and in the end all."""
    count, gained = 0, 0.0
    while count < len(order) and (count == 0 or gained < needed):
        gained += max(0.0, order[count][1])
        count += 1
    if all(gain <= 0 for _, gain in order):
        count = len(order)  # nothing is known of single layers
    while count < len(order):
        yield count
        count = min(len(order), int(count * _GROWTH) + 1)
    yield len(order)


def _needed(document: Mapping[str, Any]) -> float:
    """Nats per token by which the furthest language is beyond its bound; infinite where that is not known."""
    needed = 0.0
    for check in document["checks"]:
        if check["verdict"] == "PASS" or check["severity"] == "warn":
            continue
        upper, limit = check["upper"], check["limit_value"]
        if upper is None or limit is None or check["unit"] == "pp":
            return float("inf")
        entry = document["languages"].get(check["language"] or document["worst_language"] or "", {})
        tokens_per_byte = entry.get("fertility") or 1.0
        needed = max(needed, (upper - limit) / (1.0 if check["unit"] == "%" else tokens_per_byte))
    return needed


def _merged(best: Solution, new: Solution, part: Sequence[Layer]) -> Solution:
    """The best solution with some layers replaced or left in float."""
    changed = {layer.name: layer for layer in part} | {layer.name: layer for layer in new.layers}
    layers = tuple(changed.get(layer.name, layer) for layer in best.layers)
    weights = {name: weight for name, weight in best.weights.items() if name not in changed} | dict(new.weights)
    ordered = {layer.name: weights[layer.name] for layer in layers if layer.name in weights}
    ranges = {name: best.ranges[name] for name in ordered if name in best.ranges} | dict(new.ranges)
    return replace(best, weights=ordered, layers=layers, ranges=ranges)


def _describe(part: Sequence[Layer]) -> str:
    names = ", ".join(layer.name for layer in part[:3]) + (f" and {len(part) - 3} more" if len(part) > 3 else "")
    kinds = sorted({"float" if layer.weight is None else f"{layer.weight.bits} bits" for layer in part})
    return f"{len(part)} layers to {' or '.join(kinds)}: {names}"

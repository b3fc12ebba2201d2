"""Scaling of a layer's input columns, taken back by the norm in front of it.

W diag(s) on x / s computes what W computes on x, and x / s is what the norm gives whose weight and bias are divided by
s.  Every factor is a power of two, so nothing is rounded: the float model keeps its outputs bit for bit, barring over-
and underflow, and that is also how it is found out, on any architecture, which norms can take a scale.
"""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from inc_laaciq.calibration.collect import evaluating
from inc_laaciq.calibration.layers import linear_layer
from inc_laaciq.errors import ModelError, SpecError

logger = logging.getLogger(__name__)

_FACTORS = ((4.0, 1.0), (1.0, 4.0))


@dataclass(frozen=True, kw_only=True)
class FoldSite:
    """A norm whose output goes to linear layers that are to be quantized, and nowhere else.

    Parameters
    ----------
    norm : str
        Module name.
    layers : tuple of str
        Module names, in the order in which they run.
    """

    norm: str
    layers: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Fold:
    """A scale of the columns of some layers, and the norm that takes it back.

    Parameters
    ----------
    norm : str
        Its weight and bias are divided by the scale.
    layers : tuple of str
        The columns of their weights are multiplied by it.
    scale : tensor, shape (in_features,), float32
        Powers of two.

    Raises
    ------
    SpecError
        If the scale is anything else.
    """

    norm: str
    layers: tuple[str, ...]
    scale: torch.Tensor

    def __post_init__(self) -> None:
        mantissa, _ = torch.frexp(self.scale)
        if self.scale.dim() != 1 or self.scale.dtype != torch.float32 or not bool((mantissa == 0.5).all()):
            raise SpecError(
                f"the scale of norm {self.norm!r} has shape {tuple(self.scale.shape)} and dtype {self.scale.dtype}. "
                "It must be a vector of powers of two in float32: any other factor would change the float model"
            )


@torch.no_grad()
def apply_folds(model: nn.Module, folds: Sequence[Fold]) -> tuple[Fold, ...]:
    """Scale a model in place.

    Parameters
    ----------
    model : nn.Module
        Modified.
    folds : sequence of Fold

    Returns
    -------
    tuple of Fold
        Those that were applied: one that a parameter cannot take exactly, because it would become infinite or fall
        below the smallest normal number, is left out as a whole, with a log message.
    """
    applied = []
    for fold in folds:
        if blocked := _blocked(model, fold):
            logger.warning("norm %s is not scaled: %s would leave the range of its type", fold.norm, blocked)
            continue
        for _, tensor, factor in _parts(model, fold):
            tensor.mul_(factor)
        applied.append(fold)
    return tuple(applied)


@contextmanager
def folded(model: nn.Module, folds: Sequence[Fold]) -> Iterator[tuple[Fold, ...]]:
    """Scale a model in place for the time of a block, and put back exactly what was there; gives what was applied."""
    applied: list[Fold] = []
    try:
        for fold in folds:
            applied += apply_folds(model, [fold])
        yield tuple(applied)
    finally:
        with torch.no_grad():
            for fold in applied:
                for _, tensor, factor in _parts(model, fold):
                    tensor.div_(factor)


def _parts(model: nn.Module, fold: Fold) -> list[tuple[str, torch.Tensor, torch.Tensor]]:
    """Every parameter of a fold by name, with what it is multiplied by."""
    norm: Any = model.get_submodule(fold.norm)
    found = [(f"{fold.norm}.weight", norm.weight, 1 / fold.scale)]
    if getattr(norm, "bias", None) is not None:
        found.append((f"{fold.norm}.bias", norm.bias, 1 / fold.scale))
    found += [(f"{name}.weight", linear_layer(model, name).weight, fold.scale) for name in fold.layers]
    for name, tensor, _ in found:
        if tensor.shape[-1] != len(fold.scale):
            raise ModelError(
                f"{name} has shape {tuple(tensor.shape)} and the scale of norm {fold.norm!r} has {len(fold.scale)} "
                "columns: it was found on another model"
            )
    return [(name, tensor.data, factor.to(tensor.device, tensor.dtype)) for name, tensor, factor in found]


def _blocked(model: nn.Module, fold: Fold) -> str | None:
    """Name of a parameter that cannot take the scale exactly; None if all can."""
    return next((name for name, tensor, factor in _parts(model, fold) if not _is_exact(tensor, factor)), None)


def _is_exact(tensor: torch.Tensor, factor: torch.Tensor) -> bool:
    """Whether every product can be undone exactly, and none falls below the smallest normal number."""
    smallest = torch.finfo(tensor.dtype).smallest_normal
    for rows in torch.split(tensor, max(1, (1 << 20) // tensor.shape[-1])) if tensor.dim() > 1 else (tensor,):
        product = rows * factor
        fell = (product.abs() < smallest) & (rows.abs() >= smallest)
        if not bool(((product / factor == rows) & ~fell).all()):  # neither infinity nor NaN comes back
            return False
    return True


def find_fold_sites(model: nn.Module, layers: Sequence[str], ids: torch.Tensor) -> tuple[FoldSite, ...]:
    """Norms that can take a scale without any change of the model's outputs.

    Parameters
    ----------
    model : nn.Module
        Called as `model(input_ids=ids)`; left as it is.
    layers : sequence of str
        Linear layers that are to be quantized.
    ids : integer tensor, shape (n, sequence_length)
        Short rows: what they do not reach is not found, and what they do not show is not seen.

    Returns
    -------
    tuple of FoldSite
        A norm is left out if its output also goes to another module, is used in another way (as a residual, or by a
        router), or depends on its weight in another way (Gemma's norm multiplies by one plus its weight). Empty for a
        model in float16, whose range leaves no room.

    Notes
    -----
    Candidates are modules whose output tensor is the input of the layers.  Then every other column
    is scaled by 4, then the columns between, and the logits must stay the same, bit for bit; where they do not, each
    norm is tried alone.
    """
    if any(parameter.dtype == torch.float16 for parameter in model.parameters()):
        logger.info("no norm is scaled: float16 has no room below, and small activations would lose bits")
        return ()
    sites = _candidates(model, layers, ids)
    if not sites:
        return ()
    with evaluating(model), torch.inference_mode():
        expected = _logits(model, ids)
        if not _is_same(_logits(model, ids), expected):
            logger.warning("the model gives other outputs each time it is run: no norm is scaled")
            return ()
        if _keeps(model, sites, ids, expected):
            return tuple(sites)
        kept = [site for site in sites if _keeps(model, [site], ids, expected)]
        for site in sites:
            if site not in kept:
                logger.info("norm %s is not scaled: the model's outputs would change", site.norm)
        return tuple(kept) if kept and _keeps(model, kept, ids, expected) else ()


def _keeps(model: nn.Module, sites: Sequence[FoldSite], ids: torch.Tensor, expected: torch.Tensor) -> bool:
    """Whether the outputs stay the same when all sites are scaled, one way and the other."""
    for first, second in _FACTORS:
        folds = []
        for site in sites:
            scale = torch.full((linear_layer(model, site.layers[0]).in_features,), first)
            scale[1::2] = second
            folds.append(Fold(norm=site.norm, layers=site.layers, scale=scale))
        if any(_blocked(model, fold) for fold in folds):
            return False
        with folded(model, folds):
            if not _is_same(_logits(model, ids), expected):
                return False
    return True


def _logits(model: nn.Module, ids: torch.Tensor) -> torch.Tensor:
    output = model(input_ids=ids)
    logits = output if isinstance(output, torch.Tensor) else output[0]
    return torch.as_tensor(logits)


def _is_same(logits: torch.Tensor, expected: torch.Tensor) -> bool:
    """Bit for bit; a row on which the model itself fails is compared too."""
    return bool(((logits == expected) | (logits.isnan() & expected.isnan())).all())


@dataclass
class _Seen:
    """Which module gave a tensor, and which modules took it, in the order of one forward pass."""

    tensors: list[torch.Tensor] = field(default_factory=list)  # alive, so that no address is used twice
    giver: dict[int, str] = field(default_factory=dict)
    takers: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    from_elsewhere: set[str] = field(default_factory=set)


def _candidates(model: nn.Module, layers: Sequence[str], ids: torch.Tensor) -> list[FoldSite]:
    """Norms whose output is the input of nothing but layers of the list, by one forward pass."""
    wanted = set(layers)
    seen = _Seen()

    def give(name: str) -> Any:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            if isinstance(output, torch.Tensor) and output.shape[-1:] == _module.weight.shape:
                seen.tensors.append(output)
                seen.giver[id(output)] = name

        return hook

    def take(name: str) -> Any:
        def hook(_module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
            tensors = [value for value in (*inputs, *named.values()) if isinstance(value, torch.Tensor)]
            givers = {seen.giver[id(tensor)] for tensor in tensors if id(tensor) in seen.giver}
            for giver in givers:
                if name not in seen.takers[giver]:
                    seen.takers[giver].append(name)
            if not givers or len(tensors) > 1:
                seen.from_elsewhere.add(name)

        return hook

    owners = Counter(id(parameter) for module in model.modules() for parameter in module._parameters.values())
    with ExitStack() as hooks, evaluating(model), torch.inference_mode():
        for name, module in model.named_modules():
            if name in wanted or not any(True for _ in module.children()):
                hooks.callback(module.register_forward_pre_hook(take(name), with_kwargs=True).remove)
            if _is_norm(module, owners):
                hooks.callback(module.register_forward_hook(give(name)).remove)
        _logits(model, ids)
    shared = {name for name in wanted if owners[id(linear_layer(model, name).weight)] > 1}
    takers_of: dict[str, int] = Counter(name for names in seen.takers.values() for name in names)
    return [
        FoldSite(norm=norm, layers=tuple(names))
        for norm, names in seen.takers.items()
        if all(name in wanted and takers_of[name] == 1 for name in names)
        and not shared.union(seen.from_elsewhere).intersection(names)
    ]


def _is_norm(module: nn.Module, owners: Counter[int]) -> bool:
    """Whether a module has a vector as its weight, perhaps one as its bias, nothing else, and shares them with none."""
    parameters = {name: value for name, value in module._parameters.items() if value is not None}
    weight = parameters.get("weight")
    return (
        weight is not None
        and weight.dim() == 1
        and weight.is_floating_point()
        and not parameters.keys() - {"weight", "bias"}
        and all(value.shape == weight.shape and owners[id(value)] == 1 for value in parameters.values())
    )

"""The stack of blocks of a model, each of which can be run again on other hidden states.

A block is called with what the model itself gave it, attention masks and positions included; only the hidden states
are replaced.  Nothing is known of an architecture but that its blocks follow each other in one `nn.ModuleList`.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from inc_laaciq.calibration.collect import without_output
from inc_laaciq.errors import ModelError, NumericError

_ARGUMENT = "hidden_states"
_TOLERANCE = 1e-4


class _Stop(Exception):  # noqa: N818 - it ends a forward pass, and is no error
    """What was wanted from a forward pass is there."""


@dataclass(frozen=True, kw_only=True)
class Stack:
    """Blocks in the order in which they run.

    Parameters
    ----------
    name : str
        Of the module list.
    blocks : tuple of str
        Module names.
    """

    name: str
    blocks: tuple[str, ...]

    def index(self, layer: str) -> int | None:
        """Number of the block that holds a layer; None for a layer outside the stack."""
        if not layer.startswith(self.name + "."):
            return None
        return int(layer[len(self.name) + 1 :].split(".", 1)[0])


def find_stack(model: nn.Module, layers: Sequence[str]) -> Stack | None:
    """The module list that holds most of the layers; None if none of its lists holds any.

    Raises
    ------
    ModelError
        If the model has no module list.
    """
    lists = {name: module for name, module in model.named_modules() if isinstance(module, nn.ModuleList)}
    counts = {name: sum(layer.startswith(name + ".") for layer in layers) for name in lists}
    # Of nested lists (experts within a block) the outer one holds at least as many layers, and comes first.
    best = max(counts, key=lambda name: counts[name], default=None)
    if best is None:
        raise ModelError(
            f"mode 'fair' needs a stack of blocks (an nn.ModuleList), and {type(model).__name__} has none. "
            "Use mode 'balanced'"
        )
    if not counts[best]:
        return None
    return Stack(name=best, blocks=tuple(f"{best}.{number}" for number in range(len(lists[best]))))


@dataclass(kw_only=True)
class Call:
    """How a model called one of its blocks."""

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]

    def args_with(self, hidden: torch.Tensor) -> tuple[Any, ...]:
        """Positional arguments, with other hidden states."""
        return self.args if _ARGUMENT in self.kwargs else (hidden, *self.args[1:])

    def kwargs_with(self, hidden: torch.Tensor) -> dict[str, Any]:
        """Keyword arguments, with other hidden states."""
        return {**self.kwargs, _ARGUMENT: hidden} if _ARGUMENT in self.kwargs else dict(self.kwargs)

    def run(self, block: nn.Module, hidden: torch.Tensor) -> torch.Tensor:
        """Output of the block on other hidden states."""
        return hidden_of(block(*self.args_with(hidden), **self.kwargs_with(hidden)))


@dataclass(kw_only=True)
class Entry:
    """One batch on its way through the stack.

    Parameters
    ----------
    hidden : tensor, shape (rows, tokens, hidden_size)
        Input of the first block.
    calls : list of Call
        One for each block, without the hidden states.
    """

    hidden: torch.Tensor
    calls: list[Call] = field(default_factory=list)


def hidden_of(output: Any) -> torch.Tensor:
    """Hidden states among what a block returned."""
    found = output[0] if isinstance(output, (tuple, list)) else output
    if not isinstance(found, torch.Tensor):
        raise ModelError(f"a block returned {type(found).__name__}, not hidden states. Use mode 'balanced'")
    return found


def hidden_among(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> torch.Tensor:
    """Hidden states among what a block is called with."""
    hidden = kwargs[_ARGUMENT] if _ARGUMENT in kwargs else (args[0] if args else None)
    if not isinstance(hidden, torch.Tensor):
        raise ModelError("the blocks are not called with hidden states. Use mode 'balanced'")
    return hidden


def enter(model: nn.Module, stack: Stack, ids: torch.Tensor, *, is_checked: bool = False) -> Entry:
    """Run the model once, and keep what its blocks were called with.

    Parameters
    ----------
    ids : tensor, shape (rows, tokens)
    is_checked : bool
        Also run each block by itself, and compare with the model's own pass.

    Raises
    ------
    ModelError
        If the blocks do not follow each other on their hidden states alone, as those that share keys across layers.
    NumericError
        If the model gives NaN or infinity.
    """
    entry: Entry | None = None
    expected: list[torch.Tensor] = []
    outputs: list[torch.Tensor] = []

    def before(_block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        nonlocal entry
        hidden = hidden_among(args, kwargs)
        if entry is None:
            entry = Entry(hidden=hidden)
        expected.append(hidden)
        if _ARGUMENT in kwargs:
            entry.calls.append(Call(args=args, kwargs={**kwargs, _ARGUMENT: None}))
        else:
            entry.calls.append(Call(args=(None, *args[1:]), kwargs=kwargs))

    def after(_block: nn.Module, _args: tuple[Any, ...], output: Any) -> None:
        outputs.append(hidden_of(output))

    blocks = [model.get_submodule(name) for name in stack.blocks]
    handles = [block.register_forward_pre_hook(before, with_kwargs=True) for block in blocks]
    handles += [block.register_forward_hook(after) for block in blocks]
    try:
        without_output(model, [stack.name])(input_ids=ids, **without_cache(model))
    finally:
        for handle in handles:
            handle.remove()
    if entry is None or len(outputs) != len(blocks):
        raise ModelError(
            f"{len(outputs)} of the {len(blocks)} blocks of {stack.name} ran. Mode 'fair' needs each of them to run "
            "once; use mode 'balanced'"
        )
    for number, output in enumerate(outputs):
        if not bool(torch.isfinite(output).all()):
            raise NumericError(f"block {stack.blocks[number]} gives NaN or infinity")
    for number in range(1, len(blocks)):
        if not torch.equal(expected[number], outputs[number - 1]):
            raise ModelError(
                f"block {number} of {stack.name} does not take what block {number - 1} gives, so it cannot be run by "
                "itself. Use mode 'balanced'"
            )
    if is_checked:
        for number, block in enumerate(blocks):
            again = entry.calls[number].run(block, expected[number])
            if not torch.allclose(again, outputs[number], rtol=0, atol=_TOLERANCE * float(again.abs().max())):
                raise ModelError(
                    f"block {stack.blocks[number]} gives another output when it is run by itself. Use mode 'balanced'"
                )
    return entry


def without_cache(model: nn.Module) -> dict[str, bool]:
    """No keys and values are kept: a block that is run again would find its own from before."""
    return {"use_cache": False} if "use_cache" in inspect.signature(model.forward).parameters else {}


def inputs_of(
    block: nn.Module, call: Call, hidden: torch.Tensor, layers: Sequence[str], last: str | None = None
) -> dict[str, torch.Tensor]:
    """What layers of a block receive.

    Parameters
    ----------
    layers : sequence of str
        Names within the block.
    last : str, optional
        The pass ends when this layer is reached.

    Returns
    -------
    dict of str -> tensor, shape (tokens, in_features), in the order in which the layers ran; a layer that no token
    reached is absent.  Layers that share their input have the same tensor.
    """
    found: dict[str, torch.Tensor] = {}
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []

    def hook(name: str) -> Any:
        def record(_module: nn.Module, args: tuple[torch.Tensor, ...]) -> None:
            x = args[0]
            flat = next((known for original, known in seen if original is x), None)
            if flat is None:
                flat = x.reshape(-1, x.shape[-1])
                seen.append((x, flat))
            if x.numel():
                found[name] = flat
            if name == last:
                raise _Stop

        return record

    handles = [block.get_submodule(name).register_forward_pre_hook(hook(name)) for name in layers]
    try:
        call.run(block, hidden)
    except _Stop:
        pass
    finally:
        for handle in handles:
            handle.remove()
    return found

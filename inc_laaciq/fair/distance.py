"""How far the quantized model is from the float one on a row of text: in its predictions, or in a block's output.

Source of the mixture of the float model's predictions and the text: Hinton et al. 2015, "Distilling the knowledge in a
neural network" (arXiv 1503.02531).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional

from inc_laaciq.fair.blocks import Call, hidden_of


class Replaced:
    """A module that is called with some of its weights replaced; its own parameters get no gradient.

    Parameters
    ----------
    module : nn.Module
        Not modified.
    """

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self._parameters = {name: value.detach() for name, value in module.named_parameters()}

    def __call__(self, weights: Mapping[str, torch.Tensor], *args: Any, **kwargs: Any) -> Any:
        """What the module gives with these weights of layers."""
        given = dict(self._parameters)
        for layer, weight in weights.items():
            name = f"{layer}.weight"
            given[name] = weight.to(self._parameters[name].dtype)
        return functional_call(self._module, given, args, kwargs)


@dataclass(frozen=True, kw_only=True, eq=False)
class Row:
    """A row of text to tune on.

    Parameters
    ----------
    ids : tensor, shape (1, tokens)
    labels : float
        Share of what is to be predicted that the text's own next tokens have, from 0 to 1; the float model's
        predictions have the rest.  0 for what the float model wrote: its tokens say nothing that they do not.
    """

    ids: torch.Tensor
    labels: float = 0.0


class ModelDistance:
    """Divergence of the quantized model's predictions from those of the float model.

    Parameters
    ----------
    model : nn.Module
        The float model; not modified.
    arguments : mapping
        Given to the model with every row.
    """

    def __init__(self, model: nn.Module, arguments: Mapping[str, Any]) -> None:
        self._model = Replaced(model)
        self._arguments = dict(arguments)

    def __call__(self, weights: Mapping[str, torch.Tensor], row: Row) -> torch.Tensor:
        """KL(float || quantized) of the next token, mean over the row, in nats."""
        return _divergence(self._log_probabilities(weights, row.ids), self._wanted(row.ids))

    def with_labels(self, weights: Mapping[str, torch.Tensor], row: Row) -> tuple[torch.Tensor, torch.Tensor]:
        """The divergence mixed, by the row's share of labels, with the rise of the loss; and the divergence alone.

        Notes
        -----
        The divergence is the expected rise of the loss on text as the float model itself would write it.  On other text
        the loss also changes along its gradient, in the first order of what rounding changes.
        """
        found, wanted = self._log_probabilities(weights, row.ids), self._wanted(row.ids)
        divergence = _divergence(found, wanted)
        if not row.labels or row.ids.shape[1] < 2:
            return divergence, divergence
        following = row.ids[0, 1:, None].long()
        rise = (wanted[:-1].gather(-1, following) - found[:-1].gather(-1, following)).mean()
        return (1 - row.labels) * divergence + row.labels * rise, divergence

    def is_finite(self, ids: torch.Tensor) -> bool:
        """Whether a divergence from what the float model predicts on a row, shape (1, tokens), is a number at all."""
        return bool(torch.isfinite(self._wanted(ids)).all())

    def _wanted(self, ids: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return self._log_probabilities({}, ids)

    def _log_probabilities(self, weights: Mapping[str, torch.Tensor], ids: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self._model(weights, input_ids=ids, **self._arguments).logits
        return logits.flatten(0, 1).float().log_softmax(-1)


def _divergence(found: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    return functional.kl_div(found, wanted, reduction="batchmean", log_target=True)


@dataclass(frozen=True, kw_only=True, eq=False)
class BlockRow:
    """A row of text at a block.

    Parameters
    ----------
    call : Call
        How the model calls the block for this row.
    hidden : tensor, shape (1, tokens, hidden_size)
        What the block receives behind the blocks that are already quantized.
    wanted : tensor, same shape
        What it gives in the float model.
    fisher : tensor, shape (hidden_size, hidden_size)
        Fisher information of the predictions in what the block gives.
    """

    call: Call
    hidden: torch.Tensor
    wanted: torch.Tensor
    fisher: torch.Tensor


class BlockDistance:
    """How far the predictions move, to second order, because of what a block gives.

    Parameters
    ----------
    block : nn.Module
        In float; not modified.
    """

    def __init__(self, block: nn.Module) -> None:
        self._block = Replaced(block)

    def __call__(self, weights: Mapping[str, torch.Tensor], row: BlockRow) -> torch.Tensor:
        """Estimated KL(float || quantized) of the next token, mean over the row, in nats.

        Notes
        -----
        As if errors of different tokens did not work together: one that all tokens share is felt more or less than it
        says.
        """
        call, hidden = row.call, row.hidden
        found = hidden_of(self._block(weights, *call.args_with(hidden), **call.kwargs_with(hidden)))
        error = (found - row.wanted).float().flatten(0, -2)
        return (error @ row.fisher * error).sum() / (2 * len(error))

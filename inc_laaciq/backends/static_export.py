"""A causal language model as the graph that Neural Compressor's PT2E path quantizes, for batches of any shape."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from inc_laaciq.checkpoint.foreign import foreign_errors
from inc_laaciq.errors import BackendError

_MODEL = "model"  # name of the language model within what is exported; names of layers in the graph begin with it

_LIMITS = ("max_position_embeddings", "n_positions", "seq_length")  # what configurations call their longest text
_LENGTH = 8  # tokens in the example: the graph must not depend on it


class _Logits(nn.Module):
    """The model as a function of tensors: no cache, and logits only."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model  # see _MODEL

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.model(input_ids=input_ids, attention_mask=attention_mask, use_cache=False).logits
        return logits


@dataclass(frozen=True, kw_only=True)
class ExportedModel:
    """A model in torch's export form.

    Parameters
    ----------
    graph : torch.fx.GraphModule
        Called with `input_ids` and `attention_mask`, integer tensors of shape (batch, tokens), by position; gives
        logits, shape (batch, tokens, vocabulary).  It shares its parameters with the model it was exported from.
    example_inputs : tuple of two tensors
        What Neural Compressor's `prepare` and `save` want to see.
    longest : int or None
        Most tokens of a text; None where the model sets no limit.
    """

    graph: Any
    example_inputs: tuple[torch.Tensor, torch.Tensor]
    longest: int | None


def export_model(model: nn.Module) -> ExportedModel:
    """Export through Neural Compressor, with batch and text of any length.

    Parameters
    ----------
    model : nn.Module
        A causal language model of transformers; put into evaluation mode.

    Raises
    ------
    BackendError
        If torch cannot make a graph of the model.
    """
    from neural_compressor.torch.export import export
    from torch.export import Dim

    longest = _longest(model)
    ids = torch.zeros(2, min(_LENGTH, longest or _LENGTH), dtype=torch.int64)
    examples = (ids, torch.ones_like(ids))
    shape = {0: Dim("batch", min=1), 1: Dim("tokens", min=1, max=longest)}
    what = (
        f"torch.export cannot make a graph of {type(model).__name__} for batches of any shape, which static INT8 of "
        "Neural Compressor's torch API needs. Use its adaptor API (pip install 'inc-laaciq[adaptor]'), or weight-only "
        "quantization"
    )
    with foreign_errors(what, kind=BackendError):
        graph = export(_Logits(model).eval(), examples, dynamic_shapes=(shape, shape))
    return ExportedModel(graph=graph, example_inputs=examples, longest=longest)


def layer_name(node: torch.fx.Node) -> str | None:
    """Name of the linear layer that a node of an exported graph is a call of, as in the float model; else None.

    The name of the weight would not tell: an output projection's is that of the embeddings to which it is tied.
    """
    if node.target != torch.ops.aten.linear.default:
        return None
    stack = node.meta.get("nn_module_stack") or {"": ("", None)}
    path, _ = list(stack.values())[-1]
    return str(path).removeprefix(f"{_MODEL}.")


def _longest(model: nn.Module) -> int | None:
    config: Any = getattr(model, "config", None)
    if hasattr(config, "get_text_config"):  # models of text and images keep the language model's settings apart
        config = config.get_text_config()
    values = (getattr(config, name, None) for name in _LIMITS)
    return next((value for value in values if isinstance(value, int) and value > 0), None)

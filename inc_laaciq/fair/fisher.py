"""How much a model's predictions feel an error in the hidden states behind a block.

To second order an error e in the hidden states of a token moves the predictions by KL(float || changed) = e^T F e / 2,
with F = E[u u^T] their Fisher information and u the gradient of the log-probability of a token that is drawn from
the predictions themselves.
Sources: Fisher information as the measure of a block's error, there by its diagonal: Li et al. 2021, "BRECQ: pushing
the limit of post-training quantization by block reconstruction" (arXiv 2102.05426); an estimate drawn towards a
multiple of the identity: Ledoit & Wolf 2004, "A well-conditioned estimator for large-dimensional covariance matrices".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from inc_laaciq.errors import NumericError
from inc_laaciq.fair.blocks import Call, Stack, hidden_among, hidden_of, without_cache
from inc_laaciq.fair.distance import Replaced
from inc_laaciq.fair.sampling import draw

# Of each language.  They pass through the whole model once for every block: what one pass would give for all blocks is
# more than the memory for a large model holds.  Tuning a block takes many times as long.
_TOKENS = 1024
_LENGTH = 512  # of a row: what its pass leaves for the way back is held for all blocks behind


def hidden_fisher(
    model: nn.Module, stack: Stack, number: int, rows: Sequence[torch.Tensor], *, seed: int
) -> torch.Tensor:
    """Fisher information of the predictions in the hidden states behind a block, mean over tokens.

    One token is drawn for each position.  Of n tokens of d features the estimate has the share n / (n + d), the rest is
    its own mean in all directions: otherwise an error in a direction that these tokens do not show would cost nothing.

    Parameters
    ----------
    model : nn.Module
        The float model; not modified.
    number : int
        Of the block in the stack.
    rows : sequence of token tensors, shape (1, tokens)
        Of one language; one or more.  The first 512 tokens of each are used, until there are 1024.
    seed : int
        Of the tokens that are drawn: the same for every block.

    Returns
    -------
    tensor, shape (hidden_size, hidden_size), float32
        In nats and the inverse square of the hidden states' unit.

    Raises
    ------
    NumericError
        If it is NaN or infinite.
    """
    generator = torch.Generator().manual_seed(seed)
    replaced, parts, tokens = Replaced(model), [], 0
    for ids in rows:
        if tokens >= _TOKENS:
            break
        parts.append(_gradient(model, replaced, stack.blocks[number], ids[:, :_LENGTH], generator))
        tokens += len(parts[-1])
    gradients = torch.cat(parts)
    found = gradients.T @ gradients / tokens
    if not torch.isfinite(found).all():
        raise NumericError(
            f"the gradients of the model's predictions behind block {stack.blocks[number]} are NaN or infinite. "
            "Check the model on this text, load it in float32, or set la_aciq.fair.tune to none"
        )
    return _toward_identity(found, tokens)


def _toward_identity(found: torch.Tensor, tokens: int) -> torch.Tensor:
    size = len(found)
    share = tokens / (tokens + size)
    return share * found + (1 - share) * float(found.trace()) / size * torch.eye(size)


def _gradient(
    model: nn.Module, replaced: Replaced, block: str, ids: torch.Tensor, generator: torch.Generator
) -> torch.Tensor:
    """Of the log-probability of drawn tokens, with respect to what a block gives; shape (tokens, hidden_size)."""
    outputs: list[torch.Tensor] = []

    def before(_block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        torch.set_grad_enabled(True)  # nothing is wanted of what comes before
        call = Call(args=args, kwargs=kwargs)
        hidden = hidden_among(args, kwargs).detach().requires_grad_()
        return call.args_with(hidden), call.kwargs_with(hidden)

    def after(_block: nn.Module, _args: tuple[Any, ...], output: Any) -> None:
        outputs.append(hidden_of(output))

    module = model.get_submodule(block)
    handles = [module.register_forward_pre_hook(before, with_kwargs=True), module.register_forward_hook(after)]
    try:
        with torch.no_grad():
            logits = replaced({}, input_ids=ids, **without_cache(model)).logits.flatten(0, 1).float()
    finally:
        for handle in handles:
            handle.remove()
    with torch.enable_grad():
        chances = torch.rand(len(logits), generator=generator, dtype=torch.float64)
        drawn = draw(logits.detach().softmax(-1), chances)
        likelihood = logits.log_softmax(-1).gather(-1, drawn).sum()
        (gradient,) = torch.autograd.grad(likelihood, outputs)
    return gradient.flatten(0, -2).float()

"""Text that the float model goes on with by itself, so that the tuning never sees a row twice.

A few thousand tokens of calibration text are seen again and again in the tuning, and the gain on them is larger than
on other text.  The divergence from the float model can be measured on any text, also on its own: each row begins as
calibration text of a language does, and goes on as the model would.
Source: Liu et al. 2023, "LLM-QAT: Data-free quantization aware training" (arXiv 2305.17888).
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from inc_laaciq.calibration.collect import Progress
from inc_laaciq.errors import NumericError

PROMPT = 16
"""Tokens of calibration text at the beginning of each row: they say which language it is."""

_BATCH = 256
_CACHE_BYTES = 2 << 30  # of keys and values, by the size of the model and not by the memory that is free


def sample_rows(
    model: nn.Module,
    rows: Mapping[str, Sequence[torch.Tensor]],
    n: int,
    *,
    seed: int,
    progress: Progress | None = None,
) -> dict[str, list[torch.Tensor]]:
    """New rows of every language, as long as its longest.

    Parameters
    ----------
    model : nn.Module
        A causal language model, in evaluation mode; called with `input_ids` and `attention_mask`, and with
        `past_key_values` where it gives them.
    rows : mapping of language -> token tensors, shape (1, tokens)
        What the new rows begin with is taken from these.  Rows that are not longer than a beginning are left out.
    n : int
        Rows of each language; a language without a row that is long enough gets none.
    seed : int

    Returns
    -------
    dict of language -> token tensors, shape (1, tokens)

    Raises
    ------
    NumericError
        If the model's predictions are NaN or infinite.
    """
    generator = torch.Generator().manual_seed(seed)
    usable = {tag: [row[0] for row in group if row.shape[1] > PROMPT] for tag, group in rows.items()}
    order = [(tag, len(max(group, key=len))) for tag, group in usable.items() if group for _ in range(n)]
    prompts = [_beginning(usable[tag], generator) for tag, _ in order]
    found: dict[str, list[torch.Tensor]] = {tag: [] for tag in usable}
    batch = _batch(model, max((longest for _, longest in order), default=1))
    for start in range(0, len(order), batch):
        part = order[start : start + batch]
        length = max(longest for _, longest in part)
        sampled = _go_on(model, torch.stack(prompts[start : start + batch]), length, generator)
        for (tag, longest), row in zip(part, sampled, strict=True):
            found[tag].append(row[None, :longest])
        if progress is not None:
            progress("sampling", start + len(part), len(order))
    return found


def _beginning(rows: Sequence[torch.Tensor], generator: torch.Generator) -> torch.Tensor:
    row = rows[int(torch.randint(len(rows), (), generator=generator))]
    start = int(torch.randint(len(row) - PROMPT + 1, (), generator=generator))
    return row[start : start + PROMPT]


def _batch(model: nn.Module, length: int) -> int:
    """Rows at a time; few where the size of the cached keys and values is not known."""
    config = getattr(model, "config", None)
    size = getattr(config, "hidden_size", None), getattr(config, "num_hidden_layers", None)
    width, depth = (number if isinstance(number, int) else 4096 for number in size)
    return max(1, min(_BATCH, _CACHE_BYTES // (2 * 4 * width * depth * length)))


@torch.no_grad()
def _go_on(model: nn.Module, ids: torch.Tensor, length: int, generator: torch.Generator) -> torch.Tensor:
    """Rows of token ids, gone on with up to a length by the model's own probabilities."""
    caching = {"use_cache": True} if "use_cache" in inspect.signature(model.forward).parameters else {}
    past = None
    while ids.shape[1] < length:
        known: dict[str, Any] = {} if past is None else {"past_key_values": past}
        new = ids if past is None else ids[:, -1:]
        output = model(input_ids=new, attention_mask=torch.ones_like(ids), **caching, **known)
        past = getattr(output, "past_key_values", None)
        logits = output.logits[:, -1].float()
        if not bool(torch.isfinite(logits).all()):
            raise NumericError(
                "the float model's predictions are NaN or infinite when it goes on with calibration text"
            )
        ids = torch.cat([ids, _draw(logits.softmax(-1), generator)], dim=1)
    return ids


def _draw(probabilities: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """A token of each row, shape (rows, 1); several times as fast as `torch.multinomial`."""
    reached = probabilities.double().cumsum(-1)
    wanted = torch.rand(len(reached), 1, dtype=reached.dtype, generator=generator) * reached[:, -1:]
    return torch.searchsorted(reached, wanted, right=True).clamp_max_(reached.shape[1] - 1)

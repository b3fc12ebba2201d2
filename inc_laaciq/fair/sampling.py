"""Text that the float model goes on with by itself, so that the tuning seldom sees a row twice.

A few thousand tokens of calibration text are seen again and again in the tuning, and the gain on them is larger than
on other text.  The divergence from the float model can be measured on any text, also on its own: each row begins as
calibration text of a language does, and goes on as the model would.
Source: Liu et al. 2023, "LLM-QAT: Data-free quantization aware training" (arXiv 2305.17888).
"""

from __future__ import annotations

import inspect
import logging
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from inc_laaciq.calibration.collect import Progress

logger = logging.getLogger(__name__)

PROMPT = 16
"""Tokens of calibration text at the beginning of each row: they say which language it is."""

_BATCH = 64  # the keys and values of more rows are copied through the memory at every token
_BYTES = 2 << 30  # of what a batch holds at a time; by the size of the model and not by the memory that is free
_BYTES_A_LOGIT = 24  # of the row's last position: logits, probabilities, and in float64 these and their sums


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
        A causal language model, in evaluation mode.
    rows : mapping of language -> token tensors, shape (1, tokens)
        What the new rows begin with is taken from these.  Rows that are not longer than a beginning are left out.
    n : int
        Rows of each language; a language without a row that is long enough gets none.
    seed : int
        What a language gets does not depend on the others, but for the rounding of float sums.

    Returns
    -------
    dict of language -> token tensors, shape (1, tokens)
        Without the rows in which the model's predictions are NaN or infinite.  Empty lists where the model keeps no
        `past_key_values`: each token would take a pass over all that stands before it.
    """
    found: dict[str, list[torch.Tensor]] = {tag: [] for tag in rows}
    usable = {tag: kept for tag, group in rows.items() if (kept := [row[0] for row in group if row.shape[1] > PROMPT])}
    prompts, chances, order = [], [], []
    longest = max((len(row) for group in usable.values() for row in group), default=0)
    for tag, group in usable.items():
        generator = torch.Generator().manual_seed(zlib.crc32(f"{seed} {tag}".encode()))
        prompts += [_beginning(group, generator) for _ in range(n)]
        chances.append(torch.rand(n, longest - PROMPT, generator=generator, dtype=torch.float64))
        order += n * [(tag, max(map(len, group)))]
    batch = _batch(model, longest)
    for start in range(0, len(order), batch):
        part = slice(start, start + batch)
        sampled = _go_on(model, torch.stack(prompts[part]), torch.cat(chances)[part])
        if sampled is None:
            logger.info("the model keeps no past_key_values: mode fair is tuned on calibration text alone")
            break
        for (tag, length), row, is_usable in zip(order[part], *sampled, strict=True):
            if is_usable:
                found[tag].append(row[None, :length])
        if progress is not None:
            progress("sampling", min(start + batch, len(order)), len(order))
    else:
        for tag in usable:
            if broken := n - len(found[tag]):
                logger.warning("%s: in %d of %d sampled rows the float model itself is broken", tag, broken, n)
    return found


def _beginning(rows: Sequence[torch.Tensor], generator: torch.Generator) -> torch.Tensor:
    row = rows[int(torch.randint(len(rows), (), generator=generator))]
    start = int(torch.randint(len(row) - PROMPT + 1, (), generator=generator))
    return row[start : start + PROMPT]


def _config(model: nn.Module) -> Any:
    """Of the language model, where there is more than one."""
    config: Any = getattr(model, "config", None)
    return config.get_text_config() if hasattr(config, "get_text_config") else config


def _batch(model: nn.Module, length: int) -> int:
    """Rows at a time; few where the size of the cached keys and values is not known."""
    names = ("hidden_size", "num_hidden_layers", "vocab_size")
    sizes = (getattr(_config(model), name, None) for name in names)
    width, depth, vocabulary = (size if isinstance(size, int) else 4096 for size in sizes)
    row = max(2 * 4 * width * depth * length + _BYTES_A_LOGIT * vocabulary, 4 * PROMPT * vocabulary)
    return max(1, min(_BATCH, _BYTES // row))


def _ends(model: nn.Module) -> list[int]:
    """End-of-text tokens: what the model would begin after one is of no language."""
    ends = getattr(_config(model), "eos_token_id", None)
    return [ends] if isinstance(ends, int) else list(ends or ())


@torch.no_grad()
def _go_on(model: nn.Module, ids: torch.Tensor, chances: torch.Tensor) -> tuple[torch.Tensor, list[bool]] | None:
    """Rows of token ids, gone on with by the model's own probabilities, and which of them are usable.

    Parameters
    ----------
    chances : tensor, shape (rows, tokens to draw)
        Uniform random numbers.
    """
    caching: dict[str, Any] = {"use_cache": True} if "use_cache" in inspect.signature(model.forward).parameters else {}
    ends = _ends(model)
    is_usable = torch.ones(len(ids), dtype=torch.bool)
    new, known = ids, caching
    for chance in chances.T:
        output = model(input_ids=new, **known)
        past = getattr(output, "past_key_values", None)
        if past is None:
            return None
        known = {**caching, "past_key_values": past}
        logits = output.logits[:, -1].float()
        is_usable &= torch.isfinite(logits).all(-1)
        logits = torch.where(is_usable[:, None], logits, 0.0)
        for end in ends:
            if end < logits.shape[-1]:  # configurations of shrunken models still name the old one
                logits[:, end] = -torch.inf
        new = draw(logits.softmax(-1), chance)
        ids = torch.cat([ids, new], dim=1)
    return ids, is_usable.tolist()


def draw(probabilities: torch.Tensor, chance: torch.Tensor) -> torch.Tensor:
    """A token of each row, shape (rows, 1); several times as fast as `torch.multinomial`.

    Parameters
    ----------
    probabilities : tensor, shape (rows, tokens)
    chance : tensor, shape (rows,)
        Uniform random numbers, float64.
    """
    reached = probabilities.double().cumsum(-1)
    wanted = chance[:, None] * reached[:, -1:]
    return torch.searchsorted(reached, wanted, right=True).clamp_max_(reached.shape[1] - 1)

"""A model that runs once on each batch: every cell scores the same text against the same float model."""

from __future__ import annotations

from typing import Any

import torch

from inc_laaciq.memory import available_memory

LIMIT = 6 * 2**30
"""Bytes of logits that are kept at the most; what goes beyond is computed anew each time."""
SHARE = 1 / 5
"""Of the memory that is free at the beginning: several processes begin at once, and each has more than logits."""


class Remembered:
    """A causal language model in evaluation mode, called with `input_ids` and `attention_mask`."""

    def __init__(self, model: torch.nn.Module, limit: int | None = None) -> None:
        self._model = model.eval()
        self._left = _share() if limit is None else limit
        self._logits: dict[tuple[torch.Size, bytes, bytes], torch.Tensor] = {}
        self.config: Any = model.config  # the evaluation asks for the vocabulary and the longest row

    def __call__(self, *, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Logits of shape (rows, tokens, vocabulary)."""
        key = input_ids.shape, input_ids.numpy().tobytes(), attention_mask.numpy().tobytes()
        if key in self._logits:
            return self._logits[key]
        logits: torch.Tensor = self._model(input_ids=input_ids, attention_mask=attention_mask).logits
        if logits.nbytes <= self._left:
            self._left -= logits.nbytes
            self._logits[key] = logits
        return logits


def _share() -> int:
    free = available_memory()
    return LIMIT if free is None else min(LIMIT, int(SHARE * free))

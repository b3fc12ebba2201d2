"""What the statistics add to a plain forward pass over the same text."""

from __future__ import annotations

from typing import Any

import torch

from inc_laaciq.calibration.collect import collect
from inc_laaciq.calibration.layers import find_layers
from inc_laaciq.config import WeightSpec
from speed.names import DIAGONAL, FORWARD, FULL
from speed.settings import Settings
from speed.timing import interleave, ratios, rows, timed

_VOCABULARY = 1024
_BATCHES, _ROWS = 4, 4


def measure(settings: Settings) -> dict[str, Any]:
    """Seconds of the pass alone, and with the statistics of `fast` (diagonal) and of `balanced` (full)."""
    from transformers import BloomConfig, BloomForCausalLM

    torch.manual_seed(0)
    hidden = settings.hidden
    config = BloomConfig(vocab_size=_VOCABULARY, hidden_size=hidden, n_layer=2, n_head=max(1, hidden // 64))
    model = BloomForCausalLM(config).eval()
    layers = [layer.name for layer in find_layers(model, WeightSpec(group_size=64)) if layer.weight is not None]
    length = min(256, hidden)
    batches = {"en": [torch.randint(0, _VOCABULARY, (_ROWS, length)) for _ in range(_BATCHES)]}

    def forward() -> None:
        with torch.inference_mode():
            for batch in batches["en"]:
                model.transformer(input_ids=batch)  # the statistics do without the output projection too

    work = {
        FORWARD: timed(forward),
        DIAGONAL: timed(lambda: collect(model, batches, layers, full=False)),
        FULL: timed(lambda: collect(model, batches, layers, full=True)),
    }
    methods = rows(interleave(work, settings.repetitions))
    return {
        "model": f"Bloom with random weights, 2 blocks, hidden size {hidden}",
        "tokens": _BATCHES * _ROWS * length,
        "methods": methods,
        "ratios": ratios(methods, [(DIAGONAL, FORWARD), (FULL, FORWARD)]),
    }

"""One large linear layer at a time: on small layers what a library does around the mathematics hides its speed."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from methods.registry import Job
from torch import nn

from inc_laaciq.quant.moments import LanguageMoments, merge
from inc_laaciq.quant.solver import SolverSpec, solve
from speed.names import ALONE
from speed.quantizers import PAIRS, failures, quantizers
from speed.settings import Settings
from speed.timing import interleave, ratios, rows, timed

LAYER = "blocks.0.projection"
_ROW = 256  # tokens
_WARM = 64  # features of the layer that is quantized untimed


class OneLayer(nn.Module):
    """A model with one linear layer behind a norm, in a list of blocks, where GPTQ and AWQ look for it.

    Token vectors are correlated and their features differ in size, as the inputs of real layers do.
    """

    def __init__(self, features: int, vocabulary: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, features)
        self.blocks = nn.ModuleList([_Block(features)])
        rank = max(1, features // 8)
        with torch.no_grad():
            mixed = torch.randn(vocabulary, rank) @ torch.randn(rank, features) / rank**0.5
            self.embedding.weight.copy_(mixed + 0.3 * torch.randn(vocabulary, features))
            self.blocks[0].norm.weight.copy_(torch.exp(0.5 * torch.randn(features)))
        self.name_or_path = tempfile.gettempdir()  # GPTQ wants a folder that exists; nothing is read there

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        """Outputs of the layer, shape (rows, tokens, features)."""
        hidden: torch.Tensor = self.embedding(input_ids)
        for block in self.blocks:
            hidden = block(hidden)
        return hidden


class _Block(nn.Module):
    def __init__(self, features: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(features)
        self.projection = nn.Linear(features, features, bias=False)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        projected: torch.Tensor = self.projection(self.norm(hidden))
        return projected


def job_of(features: int, tokens: int, group_size: int) -> Job:
    """One layer, and text of two languages for it."""
    torch.manual_seed(0)
    vocabulary = 2 * tokens
    model = OneLayer(features, vocabulary).eval()
    # The languages use different halves of the vocabulary, so their statistics differ.
    batches = {
        tag: (part * tokens + torch.randint(0, tokens, (-(-tokens // _ROW), min(_ROW, tokens))),)
        for part, tag in enumerate(("en", "sw"))
    }
    return Job(
        source=SimpleNamespace(model=model),
        layers=[LAYER],
        kept=[],
        batches=batches,
        rows=[row.unsqueeze(0) for group in batches.values() for batch in group for row in batch],
        text_bytes=dict.fromkeys(batches, 4 * tokens),
        bits=4,
        group_size=group_size,
        seed=0,
        cache=Path(),
    )


@cache
def not_run() -> dict[str, str]:
    """Methods that cannot run here, and why; the others have run once untimed, so that imports are behind them."""
    return failures(quantizers(job_of(_WARM, 64, 32)))


def measure(settings: Settings) -> dict[str, Any]:
    """Every method on every size."""
    return {"sizes": [_one(settings, features) for features in settings.sizes], "not_run": not_run()}


def _one(settings: Settings, features: int) -> dict[str, Any]:
    job = job_of(features, settings.layer_tokens, settings.group_size)
    weight = job.source.model.blocks[0].projection.weight.detach()
    moments = statistics_of(job)
    work = {name: run for name, run in quantizers(job).items() if name not in not_run()}
    for mode in ("fast", "balanced"):
        spec = SolverSpec(bits=job.bits, group_size=job.group_size, mode=mode)
        work[f"{mode}, {ALONE}"] = timed(lambda spec=spec: solve(weight, spec, moments))
    methods = rows(interleave(work, settings.repetitions), weight.numel())
    return {
        "features": features,
        "weights": weight.numel(),
        "group_size": job.group_size,
        "languages": len(job.batches),
        "tokens_per_language": settings.layer_tokens,
        "methods": methods,
        "ratios": ratios(methods, PAIRS),
    }


def statistics_of(job: Job) -> dict[str, LanguageMoments]:
    """Full statistics of the layer's input for each language."""
    model = job.source.model
    with torch.no_grad():
        return {
            tag: merge(LanguageMoments.of(model.blocks[0].norm(model.embedding(batch)), full=True) for batch in group)
            for tag, group in job.batches.items()
        }

"""The shipped model as a whole, with the text that is shipped with it."""

from __future__ import annotations

import copy
import tempfile
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from methods.bench import Bench, Options
from torch import nn

from inc_laaciq.calibration.corpus import read_texts
from inc_laaciq.calibration.text import Corpus
from speed.layers import not_run
from speed.names import PASS
from speed.quantizers import PAIRS, quantizers
from speed.settings import Settings
from speed.timing import interleave, ratios, rows, timed

SHIPPED = Path(__file__).parents[2] / "recipes" / "small_bloom"
_GROUP_SIZE = 64


class Shipped(Bench):
    """The shipped model and text, or less of them in quick mode."""

    def __init__(self, settings: Settings, cache: Path) -> None:
        self.settings = settings
        text = SHIPPED / "text"
        super().__init__(
            Options(
                model=str(SHIPPED / "model"),
                calibration=str(text / "calibration"),
                evaluation=str(text / "evaluation"),
                calibration_tokens=settings.model_tokens,
                eval_tokens=0,
                cells=cache,
            )
        )

    @cached_property
    def source(self) -> Any:
        """The float model and its tokenizer; in quick mode one narrow block with random weights instead."""
        found = super().source
        if self.settings.model_hidden is None:
            return found
        torch.manual_seed(0)
        config = copy.deepcopy(found.model.config)
        config.update({"hidden_size": self.settings.model_hidden, "n_layer": 1, "n_head": 1})
        return replace(found, model=type(found.model)(config).eval())

    @cached_property
    def calibration(self) -> Corpus:
        """Text of the languages that are asked for."""
        found = read_texts(self.options.calibration)
        wanted = self.settings.model_languages or tuple(found.texts)
        return Corpus(texts={tag: found.texts[tag] for tag in wanted})


def measure(settings: Settings) -> dict[str, Any]:
    """Every method on the same layers, rows and bits, and one pass for the measure of mode `fair`."""
    with tempfile.TemporaryDirectory(prefix="bench-speed-") as cache:
        bench = Shipped(settings, Path(cache))
        job = bench.job("multilingual", 4, _GROUP_SIZE, 0)
        model = bench.source.model
        work = {name: run for name, run in quantizers(job, settings.fair_steps).items() if name not in not_run()}
        trained = copy.deepcopy(model)
        work[PASS] = timed(lambda: forward_and_backward(trained, job.batches))
        weights = sum(model.get_submodule(name).weight.numel() for name in job.layers)
        methods = rows(interleave(work, settings.repetitions), weights)
    return {
        "name": "recipes/small_bloom" if settings.model_hidden is None else "random weights",
        "sha256": bench.source.weights_sha256 if settings.model_hidden is None else None,
        "layers": list(job.layers),
        "weights": weights,
        "group_size": _GROUP_SIZE,
        "languages": len(job.batches),
        "calibration_tokens": sum(batch.numel() for group in job.batches.values() for batch in group),
        "fair_steps": settings.fair_steps,
        "methods": methods,
        "ratios": ratios(methods, [*PAIRS, ("la_aciq-fair", PASS)]),
        "not_run": not_run(),
    }


def forward_and_backward(model: nn.Module, batches: dict[str, tuple[torch.Tensor, ...]]) -> None:
    """What a step of training would cost on this text: the loss of the next token, and its gradients by all weights."""
    for group in batches.values():
        for batch in group:
            logits = model(input_ids=batch).logits[:, :-1]
            loss = nn.functional.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())
            model.zero_grad()
            loss.backward()

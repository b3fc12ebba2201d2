"""Scripted figures by language for searches on a tiny model, and what such a search is called with."""

from __future__ import annotations

from typing import Any

import inc_laaciq
from inc_laaciq.config.bounds import parse_bound
from inc_laaciq.config.policy import Policy, Rule

BASE = {"en": 10.0, "sw": 10.0}
BAD = {"en": 10.0, "sw": 11.0}
GOOD = {"en": 10.1, "sw": 10.1}


def policy(bound: str = "5%", **settings: Any) -> Policy:
    return Policy(default=Rule(max_degradation=parse_bound(bound)), **settings)


def rtn(bits: Any, **settings: Any) -> Any:
    from neural_compressor.torch.quantization import RTNConfig

    return RTNConfig(bits=bits, group_size=32, **settings)


class Figures:
    """Perplexities in turn, the float model's first; the last ones again when they are used up."""

    def __init__(self, *perplexities: Any) -> None:
        self.turns = perplexities
        self.models: list[list[int]] = []

    def __call__(self, model: Any) -> Any:
        self.models.append(bits_of(model))
        figures = self.turns[min(len(self.models), len(self.turns)) - 1]
        if isinstance(figures, BaseException):
            raise figures
        return {"perplexity": figures}


class Scores:
    """What Neural Compressor takes for an evaluation: one number in turn."""

    def __init__(self, *scores: Any) -> None:
        self.turns = iter(scores)
        self.calls = 0

    def __call__(self, model: Any) -> Any:
        self.calls += 1
        return next(self.turns)


def bits_of(model: Any) -> list[int]:
    return sorted({module.bits for module in model.modules() if type(module).__name__ == "INCWeightOnlyLinear"})


def tune(model: Any, configs: Any, figures: Any, bound: str = "5%", **settings: Any) -> Any:
    return inc_laaciq.autotune(model, configs, policy=policy(bound), eval_fn=figures, **settings)

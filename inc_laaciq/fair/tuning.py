"""Codes and scales tuned by gradients, for the languages that lose most.

Every step takes some rows of every language, looks at how far the quantized model is from the float one in each, and
moves the codes and scales so that the languages that are further away than the others come closer first.
Sources: sign descent on rounding, Cheng et al. 2023, "Optimize weight rounding via signed gradient descent"
(arXiv 2309.05516); more weight for groups that lose more, Sagawa et al. 2019, "Distributionally robust neural
networks" (arXiv 1911.08731).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch

from inc_laaciq.calibration.collect import Progress
from inc_laaciq.errors import NumericError, SpecError
from inc_laaciq.quant.latent import LatentWeight
from inc_laaciq.quant.solver import QuantizedWeight

Item = TypeVar("Item")

_MEMORY = 0.85  # share of the languages' distances so far in their running mean
_BETAS = (0.9, 0.98)


@dataclass(frozen=True, kw_only=True)
class TuneSpec:
    """How codes and scales are tuned.

    Parameters
    ----------
    steps : int
    tilt : float
        How much more the languages count that are further from the float model; 0 = all alike.
    rows : int
        Of each language in a step.
    position_rate : float
        First step of the rounding, in codes; it falls to zero linearly, as the other rate does.
    scale_rate : float
        First step of the scales, in their logarithm.
    check_every : int
        Steps between two looks at the held-out rows.
    seed : int
    """

    steps: int = 240
    tilt: float = 4.0
    rows: int = 1
    position_rate: float = 0.006
    scale_rate: float = 0.001
    check_every: int = 20
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Tuned:
    """Result of the tuning.

    Parameters
    ----------
    weights : mapping of layer -> QuantizedWeight
        As they were at the step whose worst language was best on the held-out rows; a language's weight counts there.
    history : tuple of dict
        For each look: step, the distance of every language on its held-out rows, and the worst of them, each multiplied
        by what its language counts. A language of a single row has none to hold out, and is looked at on that.
    step : int
        That was kept.
    is_held_out : bool
        Whether every language had a row to hold out.
    """

    weights: Mapping[str, QuantizedWeight]
    history: tuple[dict[str, object], ...]
    step: int
    is_held_out: bool


class Tuner(Generic[Item]):
    """Tunes layers together.

    Parameters
    ----------
    latents : mapping of layer -> LatentWeight
        Changed in place.
    distance : callable(weights, item) -> scalar tensor
        How far one row is from the float model with these weights; differentiable in them.
    rows : mapping of language -> items
    emphasis : mapping of language -> float
        How much a language counts; >= 0.
    more : callable, optional
        Takes the rows that are tuned on and returns more of them, by language; those that are held out stay apart.
    objective : callable(weights, item) -> two scalar tensors, optional
        What is to become small on a row that is tuned on, and its distance; None = the distance is to become small.
        Held-out rows, and what a language counts, go by the distance alone: it is never negative, and is the same
        thing in every row.
    """

    def __init__(
        self,
        latents: Mapping[str, LatentWeight],
        distance: Callable[[Mapping[str, torch.Tensor], Item], torch.Tensor],
        rows: Mapping[str, Sequence[Item]],
        emphasis: Mapping[str, float],
        spec: TuneSpec,
        *,
        more: Callable[[Mapping[str, list[Item]]], Mapping[str, list[Item]]] | None = None,
        objective: Callable[[Mapping[str, torch.Tensor], Item], tuple[torch.Tensor, torch.Tensor]] | None = None,
    ) -> None:
        self._latents, self._distance, self._spec = latents, distance, spec
        self._objective = objective or self._distance_alone
        self._languages = [tag for tag in rows if rows[tag] and emphasis[tag] > 0]
        if not self._languages:
            raise SpecError("no language that counts has a row of text to tune on")
        self._emphasis = torch.tensor([emphasis[tag] for tag in self._languages])
        self._emphasis = self._emphasis / self._emphasis.sum()
        self._generator = torch.Generator().manual_seed(spec.seed)
        self._training: dict[str, list[Item]] = {}
        self._held_out: dict[str, list[Item]] = {}
        for tag in self._languages:
            order = torch.randperm(len(rows[tag]), generator=self._generator).tolist()
            held = max(1, len(order) // 5) if len(order) > 1 else 0
            self._training[tag] = [rows[tag][i] for i in order[held:]]
            self._held_out[tag] = [rows[tag][i] for i in order[:held]] or self._training[tag]
        if more is not None:
            for tag, found in more(self._training).items():
                self._training[tag] = [*self._training[tag], *found]
        self._is_held_out = all(len(rows[tag]) > 1 for tag in self._languages)
        self._queue: dict[str, list[Item]] = {tag: [] for tag in self._languages}
        self._running: torch.Tensor | None = None

    def run(self, progress: Progress | None = None) -> Tuned:
        """Tune, and keep the step whose worst language is best on the held-out rows."""
        spec = self._spec
        ratios = [latent.log_ratio for latent in self._latents.values()]
        optimizer = torch.optim.Adam(ratios, lr=spec.scale_rate, betas=_BETAS)
        history: list[dict[str, object]] = []
        best: tuple[float, dict[str, QuantizedWeight], int] = (math.inf, {}, 0)
        for step in range(spec.steps + 1):
            if step % spec.check_every == 0 or step == spec.steps:
                losses = self._check()
                worst = self._worst(losses)
                history.append({"step": step, "worst": worst, "losses": losses})
                if worst < best[0]:
                    best = (worst, {name: latent.quantized() for name, latent in self._latents.items()}, step)
            if step == spec.steps:
                break
            gradients = self._gradients()
            left = 1 - step / spec.steps
            for group in optimizer.param_groups:
                group["lr"] = spec.scale_rate * left
            for name, latent in self._latents.items():
                along_position, along_ratio = latent.gradients(gradients[name])
                latent.move(along_position.sign_().mul_(-spec.position_rate * left))
                latent.log_ratio.grad = along_ratio
            optimizer.step()
            if progress is not None:
                progress("tuning", step + 1, spec.steps)
        return Tuned(weights=best[1], history=tuple(history), step=best[2], is_held_out=self._is_held_out)

    def _gradients(self) -> dict[str, torch.Tensor]:
        weights = {name: latent.weight().requires_grad_() for name, latent in self._latents.items()}
        shares = self._shares()
        seen = torch.zeros(len(self._languages))
        for number, tag in enumerate(self._languages):
            for item in self._draw(tag):
                loss, distance = self._objective(weights, item)
                self._finite(tag, loss)
                torch.autograd.backward(loss / self._spec.rows * shares[number])
                seen[number] += self._finite(tag, distance / self._spec.rows)
        self._running = seen if self._running is None else _MEMORY * self._running + (1 - _MEMORY) * seen
        return {
            name: torch.zeros_like(weight) if weight.grad is None else weight.grad for name, weight in weights.items()
        }

    def _distance_alone(self, weights: Mapping[str, torch.Tensor], item: Item) -> tuple[torch.Tensor, torch.Tensor]:
        distance = self._distance(weights, item)
        return distance, distance

    @staticmethod
    def _finite(tag: str, distance: torch.Tensor) -> float:
        value = float(distance.detach())
        if not math.isfinite(value):
            raise NumericError(f"{tag}: the distance from the float model is {value}. Check the model's predictions")
        return value

    def _shares(self) -> torch.Tensor:
        """What each language counts in this step; they add up to 1."""
        if self._running is None:
            return self._emphasis
        felt = self._emphasis * self._running.clamp_min(0)
        ahead = felt / felt.mean().clamp_min(torch.finfo(felt.dtype).tiny) - 1
        return torch.softmax(self._emphasis.log() + self._spec.tilt * ahead, 0)

    def _worst(self, losses: Mapping[str, float]) -> float:
        """Largest distance, each multiplied by what its language counts relative to the others."""
        count = self._emphasis * len(self._emphasis)
        return max(float(count[number]) * losses[tag] for number, tag in enumerate(self._languages))

    def _draw(self, tag: str) -> list[Item]:
        """The next rows of a language: every row once before any comes again."""
        queue = self._queue[tag]
        if len(queue) < self._spec.rows:
            rows = self._training[tag]
            order = torch.randperm(len(rows), generator=self._generator).tolist()
            queue.extend(rows[i] for i in order)
            while len(queue) < self._spec.rows:
                queue.extend(rows)
        drawn, self._queue[tag] = queue[: self._spec.rows], queue[self._spec.rows :]
        return drawn

    def _check(self) -> dict[str, float]:
        weights = {name: latent.weight() for name, latent in self._latents.items()}
        with torch.no_grad():
            return {
                tag: sum(self._finite(tag, self._distance(weights, item)) for item in rows) / len(rows)
                for tag, rows in self._held_out.items()
            }

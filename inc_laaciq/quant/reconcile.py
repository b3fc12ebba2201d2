"""One set of codes for many languages: whom the objective listens to.

All four words are one problem, the conditional value at risk of the languages' errors r: the mean of the worst
`tail` share of them.  tail = 1 is the mean, tail -> 0 is the worst language.  Its dual is a mixture over languages
in which no language has more than 1 / (tail * n_languages), found here by multiplicative weights.
Source of the dual: Rockafellar and Uryasev 2000, "Optimization of conditional value-at-risk".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch

from inc_laaciq.errors import SpecError

RECONCILE = ("mean", "natural", "minimax", "cvar")
_TAIL = {"mean": 1.0, "natural": 1.0, "minimax": 0.0, "cvar": 0.25}
_STEP = 1.0

Solution = TypeVar("Solution")


def risk(errors: torch.Tensor, reconcile: str) -> float:
    """The number that `reconcile` minimises: mean of the worst share of the languages' errors.

    Parameters
    ----------
    errors : tensor, shape (n_languages,)
    reconcile : one of `RECONCILE`

    Raises
    ------
    SpecError
        If the word is unknown.
    """
    if reconcile not in _TAIL:
        raise SpecError(f"reconcile={reconcile!r} is unknown; it is one of {', '.join(RECONCILE)}")
    worst = max(1, round(_TAIL[reconcile] * len(errors)))
    return float(errors.topk(worst).values.mean())


def cap_mixture(mixture: torch.Tensor, cap: float) -> torch.Tensor:
    """Mixture in which no entry exceeds `cap`: what is above goes to the others, in proportion; entries sum to 1."""
    mixture = mixture / mixture.sum()
    for _ in range(len(mixture)):
        over = mixture > cap
        if not bool(over.any()):
            break
        free = torch.where(mixture < cap, mixture, 0.0)
        spare = float((mixture - cap).clamp_min(0).sum())
        mixture = torch.where(over, cap, mixture + spare * free / free.sum().clamp_min(1e-30))
    return mixture


def reconcile_languages(
    attempt: Callable[[torch.Tensor], tuple[Solution, torch.Tensor]],
    n_languages: int,
    reconcile: str,
    rounds: int,
) -> tuple[Solution, torch.Tensor]:
    """Solve for a mixture, reweight towards the languages that lost, and keep the best solution.

    Parameters
    ----------
    attempt : callable
        Takes a mixture, shape (n_languages,), and returns a solution and every language's error under it.
    n_languages : int
    reconcile : one of `RECONCILE`
    rounds : int
        Attempts for `minimax` and `cvar`; the others need one.

    Returns
    -------
    solution, errors
        Those of the attempt with the least `risk`; the first attempt is the plain mean, so the result is never
        worse than it.
    """
    mixture = torch.full((n_languages,), 1.0 / n_languages)
    solution, errors = attempt(mixture)
    if _TAIL.get(reconcile, 0.0) == 1.0 or n_languages == 1:
        risk(errors, reconcile)  # refuses an unknown word
        return solution, errors
    cap = 1.0 if _TAIL[reconcile] == 0.0 else min(1.0, 1.0 / (_TAIL[reconcile] * n_languages))
    best = (risk(errors, reconcile), solution, errors)
    for _ in range(rounds - 1):
        latest = errors
        mean = latest.mean().clamp_min(torch.finfo(latest.dtype).tiny)
        mixture = cap_mixture(mixture * torch.exp(_STEP * (latest / mean - 1).clamp(-3, 3)), cap)
        solution, errors = attempt(mixture)
        if (value := risk(errors, reconcile)) < best[0]:
            best = (value, solution, errors)
    return best[1], best[2]

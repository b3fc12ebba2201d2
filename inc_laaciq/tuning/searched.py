"""Run a search to its end where nobody else drives it: solve, judge, and keep the trial that counts."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from torch import nn

from inc_laaciq.calibration.layers import Layer
from inc_laaciq.config import RunSpec
from inc_laaciq.layerwise import Solution
from inc_laaciq.tuning.criterion import LanguageCriterion
from inc_laaciq.tuning.search import search
from inc_laaciq.tuning.solving import Solver


def searched(
    layers: Sequence[Layer],
    run: RunSpec,
    solver: Solver,
    criterion: LanguageCriterion,
    realise: Callable[[Solution], nn.Module],
    *,
    bits_can_rise: bool,
) -> tuple[Solution, nn.Module]:
    """The trial that the gate passes, or else the nearest; as many as the configuration allows.

    A time limit ends the search after the trial in which it is over.

    Parameters
    ----------
    layers : sequence of Layer
    run : RunSpec
    solver : Solver
        Has the float model.
    criterion : LanguageCriterion
        Says afterwards which trial was kept.
    realise : callable(solution)
        Gives the model to be judged.
    bits_can_rise : bool
        Else a layer that needs more goes to float.

    Returns
    -------
    The solution and its model.
    """
    started = time.monotonic()
    criterion(solver.model)
    batches = solver.loader.batches if solver.loader is not None else {}
    criterion.require(batches)
    measure = solver.measure if batches else None
    solutions: dict[int, Solution] = {}
    for trial in search(layers, run.la_aciq, solver.solve, criterion, measure, bits_can_rise=bits_can_rise):
        criterion.note(trial.number, trial.description, trial.settings, trial.solution.invalid)
        solutions[trial.number] = trial.solution
        judged = realise(trial.solution)
        criterion(judged)
        best = criterion.best()
        for number in [number for number in solutions if number not in (best, trial.number)]:
            del solutions[number]
        is_late = 0 < run.tuning.timeout <= time.monotonic() - started
        if criterion.is_passed or is_late or trial.number + 1 >= run.tuning.max_trials:
            break
    last = len(criterion.documents) - 1
    criterion.kept = last if criterion.is_passed else criterion.best()
    solution = solutions[criterion.kept]
    return solution, judged if criterion.kept == last else realise(solution)

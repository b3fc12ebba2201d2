"""One measurement of memory, for `memory.py`: prints the bytes above the baseline, null where they cannot be read."""

from __future__ import annotations

import json
import sys

import torch
from methods.resident import forget_peak, peak

from inc_laaciq.quant.solver import SolverSpec, solve
from speed.layers import job_of, statistics_of

_WARM = 512  # features: enough for a mode to take the same path as on a large layer


def main(mode: str, features: int, group_size: int, tokens: int) -> None:
    """Solve one layer; its weights and statistics were there before and are not counted."""
    torch.set_num_threads(1)
    has_text = not mode.endswith("no text")
    spec = SolverSpec(
        bits=4, group_size=-1 if "per channel" in mode else group_size, mode=mode.split(",")[0].split()[0]
    )
    _solve(_WARM, 64, group_size, spec, has_text=has_text)  # what is loaded only once is there before the count begins
    print(json.dumps(_solve(features, tokens, group_size, spec, has_text=has_text)))


def _solve(features: int, tokens: int, group_size: int, spec: SolverSpec, *, has_text: bool) -> int | None:
    job = job_of(features, tokens, group_size)
    weight = job.source.model.blocks[0].projection.weight.detach()
    moments = statistics_of(job) if has_text else None
    baseline = forget_peak()
    solved = solve(weight, spec, moments)
    found = peak()
    del solved
    # The kernel may take pages back meanwhile, and a small layer's peak is below the baseline then.
    return None if baseline is None or found is None else max(0, found - baseline)


if __name__ == "__main__":
    main(sys.argv[1], *(int(number) for number in sys.argv[2:]))

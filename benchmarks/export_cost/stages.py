"""One export with mode fast and no text, stage by stage, in a process of its own: prints seconds as JSON.

python -m export_cost.stages MODEL OUTPUT GROUP_SIZE
"""

from __future__ import annotations

import functools
import json
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

from export_cost.names import EVERYTHING, EXPORT, SOLVER, SURGERY
from inc_laaciq import export_run
from inc_laaciq.openvino import export
from inc_laaciq.tuning.solving import Solver

_SURGERY = ("read_ir", "put_weights", "put_ranges", "let_cache_be_compressed", "save_ir", "check_stored")
"""What `export_run` calls to put codes into the float model and to write the result, twice, and check it, twice."""


def main(model: str, output: str, group_size: int) -> None:
    """Export, and tell what each stage took."""
    seconds: dict[str, dict[str, float]] = {}
    _watch(export_run, "export_float", EXPORT, seconds)
    _watch(Solver, "solve", SOLVER, seconds)
    for name in _SURGERY:
        _watch(export_run, name, SURGERY, seconds)
    before = _now()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracer's, by the dozen
        export(model, output, weight_format="int4", group_size=group_size, mode="fast")
    _add(seconds, EVERYTHING, before)
    print(json.dumps(seconds))


def _watch(owner: Any, name: str, stage: str, seconds: dict[str, dict[str, float]]) -> None:
    """Have every call of a function add its time to a stage."""
    call: Callable[..., Any] = getattr(owner, name)

    @functools.wraps(call)
    def timed(*args: Any, **options: Any) -> Any:
        before = _now()
        try:
            return call(*args, **options)
        finally:
            _add(seconds, stage, before)

    setattr(owner, name, timed)


def _now() -> dict[str, float]:
    return {"seconds": time.perf_counter(), "processor_seconds": time.process_time()}


def _add(seconds: dict[str, dict[str, float]], stage: str, before: dict[str, float]) -> None:
    entry = seconds.setdefault(stage, dict.fromkeys(before, 0.0))
    for clock, now in _now().items():
        entry[clock] += now - before[clock]


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))

"""Tokens per second of OpenVINO models, in turns, in a process of its own on one processor.

python -m deployed.rate SETTINGS.json      prints JSON
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

BENCHMARKS = Path(__file__).parents[1]
PHASES = ("prefill", "decode")


def measure(
    models: Mapping[str, Path], reference: str, *, vocabulary: int, prompt: int, steps: int, rounds: int, folder: Path
) -> dict[str, Any]:
    """Run this file on models; rates by model, and as multiples of the reference's.

    Parameters
    ----------
    models : mapping of name -> path of the xml file
    reference : str
        The model that others are divided by.
    vocabulary : int
        Tokens are drawn below this number.
    prompt, steps : int
        Tokens that are read at once, and tokens that follow one by one.
    rounds : int
        In each, every model takes its turn.
    folder : Path
        For the settings of the process.
    """
    settings = {
        "models": {name: str(path.resolve()) for name, path in models.items()},
        "vocabulary": vocabulary,
        "prompt": prompt,
        "steps": steps,
        "rounds": rounds,
    }
    file = folder / f"rate-{os.getpid()}.json"
    file.write_text(json.dumps(settings), encoding="utf-8")
    try:
        done = subprocess.run(
            [sys.executable, "-m", "deployed.rate", str(file.resolve())],
            stdout=subprocess.PIPE, text=True, check=False, cwd=BENCHMARKS,
        )  # fmt: skip
    finally:
        file.unlink()
    if done.returncode:
        raise SystemExit("the measurement of tokens per second failed")
    return {**settings, "models": list(models), "reference": reference, **summary(json.loads(done.stdout), reference)}


def summary(rounds: Mapping[str, Any], reference: str) -> dict[str, Any]:
    """Medians of rates and of ratios to the reference in the same round, by model, phase and clock."""
    found: dict[str, Any] = {"rates": {}, "ratios": {}, "rounds_measured": rounds["rounds"], "load": rounds["load"]}
    for name, phases in rounds["rounds"].items():
        found["rates"][name], found["ratios"][name] = {}, {}
        for phase, clocks in phases.items():
            others = rounds["rounds"][reference][phase]
            found["rates"][name][phase] = {clock: statistics.median(values) for clock, values in clocks.items()}
            found["ratios"][name][phase] = {
                clock: statistics.median(one / other for one, other in zip(values, others[clock], strict=True))
                for clock, values in clocks.items()
            }
    return found


class _Model:
    """A compiled model and what it is fed."""

    def __init__(self, path: str) -> None:
        import openvino

        options = {"INFERENCE_NUM_THREADS": 1, "ENABLE_CPU_PINNING": False}  # this process has one processor anyway
        compiled = openvino.Core().compile_model(path, "CPU", options)
        self._names = {name for entry in compiled.inputs for name in entry.names}
        self._request = compiled.create_infer_request()

    def run(self, tokens: np.ndarray[Any, Any], prompt: int) -> dict[str, dict[str, float]]:
        """Tokens per second of reading the prompt, and of the tokens after it, one by one; by clock."""
        self._request.reset_state()
        marks = [_now()]
        self._infer(tokens[:prompt], 0)
        marks.append(_now())
        for place in range(prompt, len(tokens)):
            self._infer(tokens[place : place + 1], place)
        marks.append(_now())
        counts = (prompt, len(tokens) - prompt)
        return {
            phase: {clock: count / (end[clock] - start[clock]) for clock in start}
            for phase, count, start, end in zip(PHASES, counts, marks, marks[1:], strict=False)
        }

    def _infer(self, tokens: np.ndarray[Any, Any], before: int) -> None:
        n = len(tokens)
        feed = {
            "input_ids": tokens[None],
            "attention_mask": np.ones((1, before + n), dtype=np.int64),
            "position_ids": np.arange(before, before + n, dtype=np.int64)[None],
            "beam_idx": np.zeros(1, dtype=np.int32),
        }
        self._request.infer({name: value for name, value in feed.items() if name in self._names})


def _now() -> dict[str, float]:
    return {"clock": time.perf_counter(), "processor": time.process_time()}


def main(path: str) -> None:
    """Measure as the settings in a file say."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    settings = json.loads(Path(path).read_text(encoding="utf-8"))
    prompt, n = settings["prompt"], settings["prompt"] + settings["steps"]
    tokens = np.random.default_rng(0).integers(settings["vocabulary"], size=n)
    models = {name: _Model(file) for name, file in settings["models"].items()}
    for model in models.values():
        model.run(tokens, prompt)  # the first run prepares what the others use
    rounds: dict[str, Any] = {name: {phase: {} for phase in PHASES} for name in models}
    for number in range(settings["rounds"]):
        for name, model in models.items():
            for phase, clocks in model.run(tokens, prompt).items():
                for clock, rate in clocks.items():
                    rounds[name][phase].setdefault(clock, []).append(rate)
        print(f"  tokens per second: {number + 1}/{settings['rounds']}", file=sys.stderr, flush=True)
    print(json.dumps({"rounds": rounds, "load": list(os.getloadavg())}))


if __name__ == "__main__":
    main(sys.argv[1])

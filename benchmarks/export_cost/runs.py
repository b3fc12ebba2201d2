"""The runs that are compared, each in a process of its own, in turns."""

from __future__ import annotations

import json
import shutil
import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from methods.child import OPTIMUM, run_child

from export_cost import names

Run = Callable[[Path], dict[str, Any]]
"""Writes into a folder that is not there, and tells what it took."""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What is exported.

    Parameters
    ----------
    model : Path
        Folder of the float model.
    group_size : int
    texts : Path or None
        Folder of calibration text by language, for mode balanced.
    tokens : int
        Of each language.
    """

    model: Path
    group_size: int
    texts: Path | None
    tokens: int


def runs_of(subject: Subject, folder: Path) -> dict[str, Run]:
    """All runs by name; a configuration is written into a folder where one needs it."""
    model, size = str(subject.model), str(subject.group_size)

    def plain(output: Path) -> dict[str, Any]:
        task = ("--task", "text-generation-with-past")
        return _command("openvino", "-m", model, *task, "--weight-format", "fp32", str(output))

    def fast(output: Path) -> dict[str, Any]:
        options = ("--weight-format", "int4", "--group-size", size, "--mode", "fast")
        return _command("openvino-laaciq", "-m", model, *options, str(output))

    def stages(output: Path) -> dict[str, Any]:
        printed, taken = run_child("-m", "export_cost.stages", model, str(output), size)
        return {**taken, "stages": json.loads(printed.splitlines()[-1])}

    found: dict[str, Run] = {names.PLAIN: plain, names.FAST: fast, names.STAGES: stages}
    if subject.texts is not None:
        config = folder / "balanced.yaml"
        config.write_text(_configuration(subject), encoding="utf-8")

        def balanced(output: Path) -> dict[str, Any]:
            return _command("openvino-laaciq", "-m", model, "--config", str(config), str(output))

        found[names.BALANCED] = balanced
    return found


def _command(*arguments: str) -> dict[str, Any]:
    return run_child(*OPTIMUM, "export", *arguments)[1]


def _configuration(subject: Subject) -> str:
    content = {
        "quantization": {
            "approach": "post_training_weight_only",
            "model_wise": {"weight": {"bits": 4, "group_size": subject.group_size, "scheme": "sym"}},
        },
        "la_aciq": {
            "mode": "balanced",
            "calibration": {"texts": str(subject.texts), "tokens_per_language": subject.tokens},
        },
    }
    return json.dumps(content)  # JSON is YAML


def measure(runs: dict[str, Run], folder: Path, repetitions: int) -> dict[str, Any]:
    """Run one of everything in turns; every repetition, medians, and bytes on the disk."""
    found: dict[str, Any] = {name: {"repetitions": []} for name in runs}
    for number in range(repetitions):
        for name, run in runs.items():
            output = folder / "output"
            taken = run(output)
            found[name]["repetitions"].append(taken)
            found[name]["model_bytes"] = (output / "openvino_model.bin").stat().st_size
            shutil.rmtree(output)
            print(
                f"  {number + 1}/{repetitions} {name}: {taken['processor_seconds']:.1f} s of a processor, "
                f"{taken['peak_bytes'] / 1e6:.0f} MB",
                file=sys.stderr,
                flush=True,
            )
    for entry in found.values():
        for clock in ("seconds", "processor_seconds", "peak_bytes"):
            entry[clock] = statistics.median(each[clock] for each in entry["repetitions"])
    found[names.STAGES]["stages"] = _stages([each["stages"] for each in found[names.STAGES]["repetitions"]])
    return found


def _stages(repetitions: list[dict[str, dict[str, float]]]) -> dict[str, dict[str, float]]:
    """Medians of every stage by clock."""
    return {
        stage: {clock: statistics.median(each[stage][clock] for each in repetitions) for clock in clocks}
        for stage, clocks in repetitions[0].items()
    }

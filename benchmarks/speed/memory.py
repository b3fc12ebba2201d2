"""How much memory the solver takes beyond the weights and statistics that it is given, in a fresh process each time."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from speed.settings import Settings

BENCHMARKS = Path(__file__).parents[1]
MODES = ("fast per channel, no text", "fast, no text", "fast", "balanced")


def measure(settings: Settings) -> dict[str, Any]:
    """The peak of every mode on every size; memory does not vary as time does, so each is measured once."""
    modes = MODES[-1:] if settings.is_quick else MODES
    return {"rows": [_one(mode, features, settings) for features in settings.sizes for mode in modes]}


def _one(mode: str, features: int, settings: Settings) -> dict[str, Any]:
    sizes = [str(number) for number in (features, settings.group_size, settings.layer_tokens)]
    done = subprocess.run(
        [sys.executable, "-m", "speed.peak", mode, *sizes],
        capture_output=True, text=True, check=False, cwd=BENCHMARKS,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"the measurement of memory failed:\n{done.stderr}")
    peak: int | None = json.loads(done.stdout)
    layer = 4 * features**2
    row = {"mode": mode, "features": features, "layer_bytes": layer, "peak_bytes_above_baseline": peak}
    print(f"  {mode}, {features}: {peak}", file=sys.stderr, flush=True)
    return {**row, "times_layer": None if peak is None else peak / layer}

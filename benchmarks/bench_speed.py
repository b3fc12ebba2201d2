"""How fast is every mode, and how much memory does it take, against Neural Compressor's own methods on the same layers?

    python benchmarks/bench_speed.py -o benchmarks/results/speed.json
    python benchmarks/bench_speed.py --only layers,rounding --sizes 1024 2048 -o FILE.json
    python benchmarks/bench_speed.py --quick -o FILE.json      # seconds; shows that it works, and nothing else

Parts:

- model: the shipped model as a whole, all modes against RTN, AWQ and GPTQ of Neural Compressor's torch API
- layers: the same on one large layer at a time, and the solver alone
- rounding: modes without data against absmax rounding and a plain read of the memory
- calibration: what statistics add to a forward pass
- activation: static ranges against Neural Compressor's `minmax` and `kl`
- memory: what the solver takes beyond the layer and its statistics, each in a fresh process

One thread.  A figure is the median of repetitions that are taken in turns, so that a busy moment hits all alike; a
ratio compares two figures of the same run.  Weights and tokens are random in all parts but `model`: only speed is
measured.  Every target is in the result with its verdict.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"  # before torch and numpy are imported
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import torch
from methods.collect import commit
from speed import activation, calibration, layers, memory, model, rounding
from speed.report import terminal
from speed.settings import QUICK, Settings
from speed.targets import judge

from inc_laaciq.output import check_file, write_json_atomic
from inc_laaciq.provenance import meta

PARTS: dict[str, Callable[[Settings], dict[str, Any]]] = {
    "model": model.measure,
    "layers": layers.measure,
    "rounding": rounding.measure,
    "calibration": calibration.measure,
    "activation": activation.measure,
    "memory": memory.measure,
}


def main(arguments: list[str] | None = None) -> int:
    """Measure the parts that are asked for, and write the JSON; its exit code."""
    options = parser().parse_args(arguments)
    chosen = list(PARTS) if options.only == "all" else options.only.split(",")
    if unknown := sorted(set(chosen) - set(PARTS)):
        parser().error(f"no part is called {', '.join(unknown)}; there are {', '.join(PARTS)}")
    if options.repetitions is not None and options.repetitions < 1:
        parser().error("--repetitions is 1 or more; published figures take 3")
    settings = settings_of(options)
    check_file(options.output)
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # other libraries', on every import
    content: dict[str, Any] = {
        "question": (__doc__ or "").splitlines()[0],
        "meta": {**meta(), "commit": commit()},
        "settings": asdict(settings),
        "repetitions": settings.repetitions,
        "is_quick": settings.is_quick,
        "parts": {},
    }
    for name in (name for name in PARTS if name in chosen):
        print(f"{name} ...", file=sys.stderr, flush=True)
        started = time.perf_counter()
        content["parts"][name] = {**PARTS[name](settings), "part_seconds": time.perf_counter() - started}
        content["targets"] = judge(content["parts"])
        write_json_atomic(options.output, content)  # after each part: a long run that is stopped is not lost
    print(terminal(content))
    return 0


def parser() -> argparse.ArgumentParser:
    """Options of the command line."""
    found = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    found.add_argument(
        "--sizes", type=int, nargs="+", help="features of the linear layers, multiples of 128; default 1024 2048 4096"
    )
    found.add_argument("--repetitions", type=int, help="of every timing; default 3")
    found.add_argument("--only", default="all", metavar="PART,PART", help="parts to measure; default all")
    found.add_argument("--quick", action="store_true", help="tiny sizes, for a test of this program")
    found.add_argument("-o", "--output", type=Path, required=True, metavar="FILE.json")
    return found


def settings_of(options: argparse.Namespace) -> Settings:
    """The sizes that the options ask for."""
    settings = QUICK if options.quick else Settings()
    changes: dict[str, Any] = {}
    if options.sizes:
        changes["sizes"] = tuple(options.sizes)
        if wrong := [size for size in options.sizes if size < 1 or size % settings.group_size]:
            parser().error(f"--sizes {wrong[0]} is not a multiple of the group size, {settings.group_size}")
    if options.repetitions is not None:
        changes["repetitions"] = options.repetitions
    return replace(settings, **changes)


if __name__ == "__main__":
    sys.exit(main())

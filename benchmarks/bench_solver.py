"""How fast are the solver and the statistics, against a plain read of the memory, absmax rounding and a forward pass?

    python benchmarks/bench_solver.py -o benchmarks/results/solver.json

One thread; the best of several interleaved repetitions; each figure also as a ratio to its reference in the same run.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from methods.collect import commit

from inc_laaciq.calibration.collect import collect
from inc_laaciq.calibration.layers import find_layers
from inc_laaciq.config import WeightSpec
from inc_laaciq.output import write_json_atomic
from inc_laaciq.provenance import meta
from inc_laaciq.quant.grid import Grid, absmax_parameters, quantize, to_groups
from inc_laaciq.quant.moments import LanguageMoments
from inc_laaciq.quant.solver import SolverSpec, solve

ROWS, COLUMNS = 4096, 4096
REPETITIONS = 5


def main() -> None:
    """Run the benchmark and write its JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--repetitions", type=int, default=REPETITIONS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    content = {
        "question": __doc__.splitlines()[0],
        "meta": {**meta(), "commit": commit(), "synthetic": "weights and tokens are random; only speed is measured"},
        "weights": weights(options.repetitions),
        "calibration": calibration(options.repetitions),
    }
    write_json_atomic(options.output, content)
    for name, figures in {**content["weights"], **content["calibration"]}.items():
        print(name, figures)


def best(work: Mapping[str, Callable[[], Any]], repetitions: int) -> dict[str, float]:
    """Least seconds of each, repetitions interleaved, so that a busy moment hits all alike."""
    seconds = dict.fromkeys(work, float("inf"))
    for _ in range(repetitions):
        for name, call in work.items():
            started = time.perf_counter()
            call()
            seconds[name] = min(seconds[name], time.perf_counter() - started)
    return seconds


def weights(repetitions: int) -> dict[str, dict[str, float]]:
    """Million weights a second of the modes, and of their references."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(ROWS, COLUMNS, generator=generator)
    small = weight[:512, :1024].contiguous()
    tokens = torch.randn(4096, 1024, generator=generator)
    moments = {tag: LanguageMoments.of(tokens * (1 + i), full=True) for i, tag in enumerate(("en", "sw"))}

    def absmax(group_size: int) -> Callable[[], torch.Tensor]:
        def call() -> torch.Tensor:
            groups = to_groups(weight, group_size)
            return quantize(groups, *absmax_parameters(groups, Grid(bits=4, scheme="sym")), Grid(bits=4, scheme="sym"))

        return call

    def mode(spec: SolverSpec, given: torch.Tensor = weight, seen: Any = None) -> Callable[[], Any]:
        return lambda: solve(given, spec, seen)

    work = {
        "read": lambda: float(weight.sum()),
        "absmax per channel": absmax(-1),
        "absmax group 128": absmax(128),
        "fast per channel, data-free": mode(SolverSpec(bits=4, group_size=-1, mode="fast")),
        "fast group 128, data-free": mode(SolverSpec(bits=4, group_size=128, mode="fast")),
        "fast group 128, data-free, unsigned": mode(SolverSpec(bits=4, group_size=128, mode="fast", signed=False)),
        "balanced group 128, two languages": mode(SolverSpec(bits=4, group_size=128), small, moments),
    }
    seconds = best(work, repetitions)
    rate = {name: (small if "balanced" in name else weight).numel() / seconds[name] / 1e6 for name in work}
    return {
        name: {
            "million_weights_per_second": rate[name],
            "ratio_to_read": rate[name] / rate["read"],
            "ratio_to_absmax": rate[name] / rate["absmax per channel" if "channel" in name else "absmax group 128"],
        }
        for name in work
    }


def calibration(repetitions: int) -> dict[str, dict[str, float]]:
    """Seconds of a forward pass over 4096 tokens, plain and with statistics, and their ratio."""
    from transformers import BloomConfig, BloomForCausalLM

    torch.manual_seed(0)
    model = BloomForCausalLM(BloomConfig(vocab_size=1024, hidden_size=1024, n_layer=2, n_head=16)).eval()
    layers = [layer.name for layer in find_layers(model, WeightSpec(group_size=64)) if layer.weight is not None]
    batches = {"en": [torch.randint(0, 1024, (4, 256), generator=torch.Generator().manual_seed(i)) for i in range(4)]}

    def forward() -> None:
        with torch.inference_mode():
            for batch in batches["en"]:
                model.transformer(input_ids=batch)

    work = {
        "forward": forward,
        "diagonal": lambda: collect(model, batches, layers, full=False),
        "full": lambda: collect(model, batches, layers, full=True),
    }
    seconds = best(work, repetitions)
    return {
        f"calibration {name}": {"seconds": value, "ratio_to_forward": value / seconds["forward"]}
        for name, value in seconds.items()
    }


if __name__ == "__main__":
    main()

"""All modes of this package and Neural Compressor's own methods, as work to be timed on one and the same job.

Both are timed from the float model to the quantized one: statistics, solution and packing, each through its own
library's calls, as `bench_methods.py` times them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import transformers  # noqa: F401 - before Neural Compressor, whose RTN otherwise misses the name when it runs
from methods import inc_torch  # noqa: F401 - it enters its methods into the table
from methods.grids import check_layers
from methods.registry import METHODS, Job, NotRunError, Stopwatch

from inc_laaciq.backends import inc_api, inc_fit
from inc_laaciq.calibration.loader import LanguageLoader
from inc_laaciq.config import run_spec
from speed.timing import Timed

PEERS = ("inc-rtn", "inc-awq", "inc-gptq")
PAIRS = (
    ("la_aciq-paper, no text", "inc-rtn"),
    ("la_aciq-fast per channel, no text", "inc-rtn"),
    ("la_aciq-fast, no text", "inc-rtn"),
    ("la_aciq-fast", "inc-rtn"),
    ("la_aciq-fast", "inc-awq"),
    ("la_aciq-balanced", "inc-awq"),
    ("la_aciq-balanced", "inc-gptq"),
    ("la_aciq-fair", "inc-gptq"),
)
"""What is compared with what; those with a limit are in `targets.py`."""


def quantizers(job: Job, fair_steps: int | None = None) -> dict[str, Timed]:
    """Work by name; mode `fair` only where a number of steps is given, since it needs a model with logits."""
    peers = {name: lambda name=name: METHODS[name].run(job).seconds for name in PEERS}
    per_channel = replace(job, group_size=-1)
    found: dict[str, Timed] = {
        **peers,
        "la_aciq-paper, no text": lambda: ours(job, "paper", is_calibrated=False),
        "la_aciq-fast per channel, no text": lambda: ours(per_channel, "fast", is_calibrated=False),
        "la_aciq-fast, no text": lambda: ours(job, "fast", is_calibrated=False),
        "la_aciq-fast": lambda: ours(job, "fast"),
        "la_aciq-balanced": lambda: ours(job, "balanced"),
    }
    if fair_steps is not None:
        found["la_aciq-fair"] = lambda: ours(job, "fair", steps=fair_steps)
    return found


def ours(job: Job, mode: str, *, is_calibrated: bool = True, steps: int = 240) -> float:
    """Seconds of a mode through Neural Compressor's `fit`.

    Raises
    ------
    LayersError
        If it quantized other layers than asked for.
    """
    section = {"mode": mode, **({"fair": {"steps": steps, "sampled": steps // 2}} if mode == "fair" else {})}
    if is_calibrated:
        # The text is given to `fit` as a loader, so the configuration only has to name some.
        section["calibration"] = {"texts": str(job.cache), "tokens_per_language": 1, "seed": job.seed}
    weight = {"bits": job.bits, "group_size": job.group_size, "scheme": "sym"}
    quantization = {"approach": "post_training_weight_only", "model_wise": {"weight": weight}}
    run = run_spec({"quantization": quantization, "strategy": "la_aciq", "la_aciq": section})
    watch = Stopwatch()
    with inc_api.quiet("adaptor"), watch.running():
        loader = LanguageLoader(job.batches, text_bytes=job.text_bytes) if is_calibrated else None
        result = inc_fit.fit(job.source.model, run, loader)
    check_layers(sorted(inc_fit.quantized_layers(result.q_config)), list(job.layers), mode)
    return watch.seconds


def failures(work: Mapping[str, Timed]) -> dict[str, str]:
    """Does each once, untimed; why some of it cannot be done here."""
    found = {}
    for name, run in work.items():
        try:
            run()
        except (ImportError, NotRunError) as error:
            found[name] = f"{type(error).__name__}: {error}"
    return found

"""How long does it take to judge stored results again, and how much of that is the bootstrap?

    python benchmarks/bench_regate.py -o benchmarks/results/regate.json

The results are made: 40 languages of 2000 sentences, in documents of four.  The command is the real one, in a process
of its own, on one thread, with a policy and every report; the least and the median of several repetitions are told.
The bootstrap is that of the gate: 10,000 draws of each language, the bounds of each, of the worst and of the disparity.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from methods.collect import commit

from inc_laaciq.evaluation.losses import SentenceLosses
from inc_laaciq.evaluation.pairs import pair_losses
from inc_laaciq.evaluation.resampling import DRAWS, Resampler, resample
from inc_laaciq.evaluation.results import results_dict
from inc_laaciq.evaluation.statistics import disparity_bounds, language_bounds, worst_bounds
from inc_laaciq.output import write_json_atomic
from inc_laaciq.provenance import meta_without_model

LANGUAGES = (
    "am", "ar", "bn", "ca", "cs", "da", "de", "el", "en", "es", "fa", "fi", "fr", "ha", "he", "hi",
    "hu", "id", "ig", "it", "ja", "ka", "ko", "mr", "ms", "nb", "nl", "pl", "pt", "ro", "ru", "sv",
    "sw", "ta", "te", "th", "tr", "vi", "yo", "zh",
)  # fmt: skip
SENTENCES = 2000
DOCUMENT = 4
TARGETS = {"command": 5.0, "bootstrap": 3.0}
POLICY = """version: 1
max_degradation: 5%
max_disparity: 8%
groups: [{name: right-to-left, scripts: [Arab, Hebr], max_disparity: 6%}]
"""
REPORTS = {
    "json": "json", "junit": "xml", "sarif": "sarif", "summary": "summary.md", "markdown": "md", "csv": "csv",
    "html": "html",
}  # fmt: skip


def main() -> None:
    """Run the benchmark and write its JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--repetitions", type=int, default=7)
    options = parser.parse_args()
    losses = {tag: made(number, tag) for number, tag in enumerate(LANGUAGES)}
    load = os.getloadavg()[0]
    content = {
        "question": __doc__.splitlines()[0],
        "meta": {
            **meta_without_model(), "commit": commit(), "threads": 1, "load_before": load,
            "synthetic": "results are made; only time is measured",
        },
        "languages": len(LANGUAGES),
        "sentences": SENTENCES,
        "documents": SENTENCES // DOCUMENT,
        "draws": DRAWS,
        "repetitions": options.repetitions,
        "command": summary(command(losses, options.repetitions), TARGETS["command"]),
        "bootstrap": summary(bootstrap(losses, options.repetitions), TARGETS["bootstrap"]),
    }  # fmt: skip
    write_json_atomic(options.output, content)
    for name in TARGETS:
        print(name, content[name])


def summary(seconds: list[float], target: float) -> dict[str, Any]:
    """Least and median; the least, which other work on the machine disturbs least, is held against the target."""
    least, median = min(seconds), statistics.median(seconds)
    return {"seconds": least, "median_seconds": median, "target_seconds": target, "is_kept": least < target}


def made(seed: int, tag: str) -> tuple[SentenceLosses, SentenceLosses]:
    """Sentences of a float model, and of a quantized one that is a little worse."""
    generator = np.random.default_rng(seed)
    tokens = generator.integers(10, 60, SENTENCES)
    before = tokens * generator.gamma(9, 1 / 3, SENTENCES)
    after = before + tokens * generator.normal(0.01, 0.03, SENTENCES)
    found = [
        SentenceLosses(
            tag=tag,
            loss=loss,
            tokens=tokens,
            n_bytes=4 * tokens,
            document=np.arange(SENTENCES) // DOCUMENT,
            text_sha256=f"{seed:064x}",
        )
        for loss in (before, after)
    ]
    return found[0], found[1]


def command(losses: dict[str, tuple[SentenceLosses, SentenceLosses]], repetitions: int) -> list[float]:
    """Seconds of `inc-laaciq gate` from its start to its exit."""
    found = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for place, (file, kind) in enumerate((("baseline.json", "float"), ("results.json", "quantized"))):
            content = results_dict(
                {tag: pair[place] for tag, pair in losses.items()},
                meta={},
                model={"name": "made", "sha256": "a" * 64, "kind": kind},
                tokenizer={"sha256": "b" * 64},
                texts={"sha256": "c" * 64},
                missing={},
            )
            write_json_atomic(folder / file, content)
        (folder / "policy.yaml").write_text(POLICY, encoding="utf-8")
        reports = [word for kind, suffix in REPORTS.items() for word in (f"--{kind}", str(folder / f"gate.{suffix}"))]
        call = [sys.executable, "-m", "inc_laaciq.cli", "gate", str(folder), "--policy", str(folder / "policy.yaml")]
        for _ in range(repetitions):
            started = time.perf_counter()
            subprocess.run(
                [*call, *reports], check=True, capture_output=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
            )
            found.append(time.perf_counter() - started)
    return found


def bootstrap(losses: dict[str, tuple[SentenceLosses, SentenceLosses]], repetitions: int) -> list[float]:
    """Seconds of all draws and all bounds, in this process."""
    found = []
    for _ in range(repetitions):
        started = time.perf_counter()
        resampler = Resampler(DRAWS, seed=0)
        samples = [resample(pair_losses(after, before, "bytes"), resampler) for before, after in losses.values()]
        for sample in samples:
            language_bounds(sample, 0.95)
        worst_bounds(samples, 0.975)
        disparity_bounds(samples, 0.975)
        found.append(time.perf_counter() - started)
    return found


if __name__ == "__main__":
    main()

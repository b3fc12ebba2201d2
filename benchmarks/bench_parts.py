"""What does each part of `balanced` and `fair` gain, and what does it cost?

    python benchmarks/bench_parts.py -o benchmarks/results/parts.json

The same model, layers, calibration rows and evaluation text for every row; only one thing is changed at a time.  The
text is that on which choices are made, not the one that `bench_methods.py` reports on.  A run that was stopped goes on
where it was.
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from concurrent.futures import as_completed
from itertools import product
from pathlib import Path
from typing import Any

import torch
from methods.collect import commit
from methods.workers import pool

from inc_laaciq.calibration.corpus import read_texts
from inc_laaciq.calibration.folding import apply_folds
from inc_laaciq.calibration.layers import find_layers, linear_layer
from inc_laaciq.calibration.prepare import calibration_batches, read_corpus, row_length
from inc_laaciq.checkpoint import load_model
from inc_laaciq.config import run_spec
from inc_laaciq.evaluation.likelihood import sentence_losses
from inc_laaciq.layerwise import Solution, quantize_layers
from inc_laaciq.output import write_json_atomic
from inc_laaciq.provenance import meta, sources_sha256

SHIPPED = Path(__file__).parents[1] / "recipes" / "small_bloom"
PARTS: dict[str, dict[str, Any]] = {
    "balanced, positive scales, not refined": {"mode": "balanced", "signed": False, "refine": 0},
    "balanced, positive scales": {"mode": "balanced", "signed": False},
    "balanced, not refined": {"mode": "balanced", "refine": 0},
    "balanced": {"mode": "balanced"},
    "balanced, refined 10 times": {"mode": "balanced", "refine": 10},
    "balanced, columns not scaled": {"mode": "balanced", "scaling": False},
    "fair, not tuned": {"mode": "fair", "fair": {"tune": "none"}},
    "fair, blocks tuned": {"mode": "fair", "fair": {"tune": "blocks"}},
    "fair, no labels, nothing sampled": {"mode": "fair", "fair": {"labels": 0, "sampled": 0}},
    "fair, no labels, no tilt": {"mode": "fair", "fair": {"labels": 0, "tilt": 0}},
    "fair, no labels": {"mode": "fair", "fair": {"labels": 0}},
    "fair": {"mode": "fair"},
}
"""What is changed in `la_aciq`."""


def main() -> None:
    """Run the benchmark and write its JSON, anew after every row."""
    options = arguments()
    torch.set_num_threads(1)
    content = {
        "question": __doc__.splitlines()[0],
        "meta": {**meta(), "commit": commit(), "jobs": options.jobs, "what": what_is_measured(options)},
    }
    rows = {(row["bits"], row["part"]): row for row in kept(options.output, content["meta"]["what"])}
    left = [cell for cell in product(options.bits, options.parts) if cell not in rows]
    with pool(options.jobs) as processes:
        futures = [processes.submit(measured, options, *cell) for cell in left]
        try:
            for done in as_completed(futures):
                row = done.result()
                rows[row["bits"], row["part"]] = row
                print(row, flush=True)
                order = sorted(rows, key=lambda cell: (-cell[0], list(PARTS).index(cell[1])))
                write_json_atomic(options.output, {**content, "rows": [rows[cell] for cell in order]})
        except BaseException:
            processes.shutdown(cancel_futures=True)
            raise


def what_is_measured(options: argparse.Namespace) -> dict[str, Any]:
    """All that a row depends on besides its part and its bits, but for the machine."""
    return {
        "sources_sha256": sources_sha256(),
        "versions": meta()["versions"],
        "model": {"name": Path(options.model).name, "sha256": load_model(options.model).weights_sha256},
        "calibration_sha256": read_texts(options.calibration).sha256,
        "evaluation_sha256": read_texts(options.evaluation).sha256,
        "calibration_tokens": options.calibration_tokens,
        "evaluation_tokens": options.eval_tokens,
        "group_size": options.group_size,
    }


def kept(path: Path, what: dict[str, Any]) -> list[dict[str, Any]]:
    """Rows of an earlier run, which goes on from there.

    Raises
    ------
    SystemExit
        If that run measured something else.
    """
    if not path.is_file():
        return []
    found = json.loads(path.read_text(encoding="utf-8"))
    before = found["meta"].get("what", {})
    if others := [key for key, value in what.items() if before.get(key) != value]:
        raise SystemExit(f"{path} was measured with other {', '.join(others)}. Remove it, or give another -o")
    return list(found["rows"])


def measured(options: argparse.Namespace, bits: int, part: str) -> dict[str, Any]:
    """One row: quantized, and scored."""
    torch.set_num_threads(1)
    source = load_model(options.model)
    run = settings_of(options, bits, PARTS[part])
    batches = calibration_batches(run.la_aciq, source.tokenizer, sequence_length=row_length(source.model)).batches
    layers = find_layers(source.model, run.weight)
    began = time.process_time()
    solution = quantize_layers(source.model, layers, batches, run.la_aciq)
    seconds = time.process_time() - began
    return {"bits": bits, "part": part, "cpu_seconds": seconds, **scored(source, solution, run)}


def arguments() -> argparse.Namespace:
    """Options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=str(SHIPPED / "model"))
    parser.add_argument("--calibration", default=str(SHIPPED / "text" / "calibration"))
    parser.add_argument("--evaluation", default=str(SHIPPED / "text" / "evaluation"))
    parser.add_argument("--bits", type=int, nargs="+", default=[4])
    parser.add_argument("--group-size", type=int, default=64)
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=list(PARTS))
    parser.add_argument("--calibration-tokens", type=int, default=2048, help="of each language")
    parser.add_argument("--eval-tokens", type=int, default=2048, help="of each language")
    parser.add_argument("--jobs", type=int, default=1, help="rows at a time, each on one thread")
    parser.add_argument("-o", "--output", type=Path, required=True)
    return parser.parse_args()


def settings_of(options: argparse.Namespace, bits: int, settings: dict[str, Any]) -> Any:
    """The configuration of one row, as a yaml would give it."""
    weight = {"bits": bits, "group_size": options.group_size, "scheme": "sym"}
    return run_spec(
        {
            "quantization": {"approach": "post_training_weight_only", "model_wise": {"weight": weight}},
            "strategy": "la_aciq",
            "la_aciq": {
                **settings,
                "calibration": {"texts": options.calibration, "tokens_per_language": options.calibration_tokens},
                "evaluation": {"texts": options.evaluation, "tokens_per_language": options.eval_tokens},
            },
        }
    )


def scored(source: Any, solution: Solution, run: Any) -> dict[str, Any]:
    """By KL(float || quantized) and by the rise of the loss: every language in nats per token, mean and worst."""
    quantized = copy.deepcopy(source.model)
    apply_folds(quantized, solution.folds)
    with torch.no_grad():
        for name, weight in solution.weights.items():
            linear_layer(quantized, name).weight.copy_(weight.dequantize())
    spec = run.la_aciq.evaluation
    corpus = read_corpus(spec, run.la_aciq)
    before, after = (
        sentence_losses(
            model,
            source.tokenizer,
            corpus,
            tokens_per_language=spec.tokens_per_language,
            reference=None if model is source.model else source.model,
        )
        for model in (source.model, quantized)
    )
    kl = {tag: float(found.kl.sum() / found.tokens.sum()) for tag, found in after.items() if found.kl is not None}
    rise = {
        tag: float((found.loss.sum() - before[tag].loss.sum()) / found.tokens.sum()) for tag, found in after.items()
    }
    return {"kl": summed_up(kl), "degradation": summed_up(rise)}


def summed_up(languages: dict[str, float]) -> dict[str, Any]:
    """Mean over the languages, the worst, and all of them."""
    worst = max(languages, key=lambda tag: languages[tag])
    mean = sum(languages.values()) / len(languages)
    return {"mean": mean, "worst": languages[worst], "worst_language": worst, "languages": languages}


if __name__ == "__main__":
    main()

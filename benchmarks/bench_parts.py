"""What does each part of `balanced` and `fair` gain, and what does it cost?

    python benchmarks/bench_parts.py -o benchmarks/results/parts.json

The same model, layers, calibration rows and evaluation text for every row; only one thing is changed at a time.  The
text is that on which choices are made, not the one that `bench_methods.py` reports on.
"""

from __future__ import annotations

import argparse
import copy
import time
from pathlib import Path
from typing import Any

import torch
from methods.collect import commit

from inc_laaciq.calibration.folding import apply_folds
from inc_laaciq.calibration.layers import find_layers, linear_layer
from inc_laaciq.calibration.prepare import calibration_batches, read_corpus, row_length
from inc_laaciq.checkpoint import load_model
from inc_laaciq.config import run_spec
from inc_laaciq.evaluation.likelihood import sentence_losses
from inc_laaciq.layerwise import Solution, quantize_layers
from inc_laaciq.output import write_json_atomic
from inc_laaciq.provenance import meta

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
    "fair, nothing sampled": {"mode": "fair", "fair": {"sampled": 0}},
    "fair, no tilt": {"mode": "fair", "fair": {"tilt": 0}},
    "fair": {"mode": "fair"},
}
"""What is changed in `la_aciq`."""


def main() -> None:
    """Run the benchmark and write its JSON."""
    options = arguments()
    torch.set_num_threads(1)
    source = load_model(options.model)
    rows = []
    for bits in options.bits:
        for part in options.parts:
            run = settings_of(options, bits, PARTS[part])
            batches = calibration_batches(
                run.la_aciq, source.tokenizer, sequence_length=row_length(source.model)
            ).batches
            layers = find_layers(source.model, run.weight)
            began = time.process_time()
            solution = quantize_layers(source.model, layers, batches, run.la_aciq)
            seconds = time.process_time() - began
            rows.append({"bits": bits, "part": part, "cpu_seconds": seconds, **divergence(source, solution, run)})
            print(rows[-1], flush=True)
    content = {
        "question": __doc__.splitlines()[0],
        "meta": {
            **meta(),
            "commit": commit(),
            "calibration_tokens": options.calibration_tokens,
            "evaluation_tokens": options.eval_tokens,
        },
        "model": {"name": Path(options.model).name, "sha256": source.weights_sha256},
        "group_size": options.group_size,
        "rows": rows,
    }
    write_json_atomic(options.output, content)


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


def divergence(source: Any, solution: Solution, run: Any) -> dict[str, Any]:
    """KL(float || quantized) of every language in nats per token, their mean, and the worst."""
    quantized = copy.deepcopy(source.model)
    apply_folds(quantized, solution.folds)
    with torch.no_grad():
        for name, weight in solution.weights.items():
            linear_layer(quantized, name).weight.copy_(weight.dequantize())
    spec = run.la_aciq.evaluation
    losses = sentence_losses(
        quantized,
        source.tokenizer,
        read_corpus(spec, run.la_aciq),
        tokens_per_language=spec.tokens_per_language,
        reference=source.model,
    )
    kl = {tag: float(found.kl.sum() / found.tokens.sum()) for tag, found in losses.items() if found.kl is not None}
    worst = max(kl, key=lambda tag: kl[tag])
    return {"mean": sum(kl.values()) / len(kl), "worst": kl[worst], "worst_language": worst, "languages": kl}


if __name__ == "__main__":
    main()

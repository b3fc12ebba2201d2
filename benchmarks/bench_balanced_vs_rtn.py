"""Does `balanced` harm languages less than Neural Compressor's own RTN, over several calibration seeds?

    python benchmarks/bench_balanced_vs_rtn.py -o benchmarks/results/balanced_vs_rtn.json

Both go through Neural Compressor's `quantization.fit` on the same model, layers, bits, group size and evaluation text;
embeddings and output projection stay in float for both.  One JSON holds every seed's figures per language, the
ratios of each seed with bootstrap intervals, and their median.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
from pathlib import Path
from typing import Any

from inc_laaciq.backends import inc_fit
from inc_laaciq.calibration.layers import find_layers
from inc_laaciq.calibration.prepare import calibration_batches, read_corpus
from inc_laaciq.checkpoint import load_model
from inc_laaciq.config import run_spec
from inc_laaciq.evaluation.compare import overview, ratios
from inc_laaciq.evaluation.degradation import degradation
from inc_laaciq.evaluation.likelihood import sentence_losses
from inc_laaciq.output import write_json_atomic
from inc_laaciq.provenance import meta

SHIPPED = Path(__file__).parents[1] / "recipes" / "small_bloom"


def main() -> None:
    """Run the benchmark and write its JSON."""
    options = arguments()
    source = load_model(options.model)
    losses = Evaluation(source, options)
    baseline = losses.of(source.model)
    rows: list[dict[str, Any]] = []
    layers: list[str] = []
    for bits in options.bits:
        settings = run_settings(options, bits, "balanced", 0)
        found = find_layers(source.model, settings.weight)
        with inc_fit.quiet():
            rounded = inc_fit.fit_rtn(source.model, found)
        rtn = losses.of(rounded)
        layers = [layer.name for layer in found if layer.weight is not None]
        for mode in options.modes:
            for seed in range(options.seeds):
                run = run_settings(options, bits, mode, seed)
                loader = calibration_batches(run.la_aciq, source.tokenizer)
                with inc_fit.quiet():
                    quantized = inc_fit.fit(source.model, run, loader)
                if inc_fit.quantized_layers(quantized.q_config) != set(layers):
                    raise SystemExit("la_aciq and RTN quantized different layers")
                ours = losses.of(quantized.model)
                rows.append(row(bits, mode, seed, ours, rtn, baseline))
                print(bits, mode, seed, {k: round(v["ratio"], 3) for k, v in rows[-1]["ratios"].items()}, flush=True)
    content = {
        "question": __doc__.splitlines()[0],
        "meta": {**meta(), "commit": commit(), "seeds": options.seeds, "tokens_per_language": options.eval_tokens},
        "model": {"name": Path(options.model).name, "sha256": source.weights_sha256},
        "evaluation_text_sha256": losses.corpus.sha256,
        "quantized_layers": layers,
        "group_size": options.group_size,
        "rows": rows,
        "median_ratios": medians(rows),
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
    parser.add_argument("--modes", nargs="+", default=["balanced"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--eval-tokens", type=int, default=0, help="tokens scored of each language; 0 = all")
    parser.add_argument("-o", "--output", type=Path, required=True)
    return parser.parse_args()


def run_settings(options: argparse.Namespace, bits: int, mode: str, seed: int) -> Any:
    """The configuration of one run, as a yaml would give it."""
    weight = {"bits": bits, "group_size": options.group_size, "scheme": "sym"}
    return run_spec(
        {
            "quantization": {"approach": "post_training_weight_only", "model_wise": {"weight": weight}},
            "strategy": "la_aciq",
            "la_aciq": {
                "mode": mode,
                "calibration": {"texts": options.calibration, "tokens_per_language": 4096, "seed": seed},
                "evaluation": {"texts": options.evaluation, "tokens_per_language": options.eval_tokens},
            },
        }
    )


class Evaluation:
    """The same sentences for every model."""

    def __init__(self, source: Any, options: argparse.Namespace) -> None:
        self.settings = run_settings(options, 4, "balanced", 0).la_aciq
        self.tokenizer = source.tokenizer
        self.corpus = read_corpus(self.settings.evaluation, self.settings)

    def of(self, model: Any) -> Any:
        """Losses of every sentence, by language."""
        quota = self.settings.evaluation.tokens_per_language
        return sentence_losses(model, self.tokenizer, self.corpus, tokens_per_language=quota)


def row(bits: int, mode: str, seed: int, ours: Any, rtn: Any, baseline: Any) -> dict[str, Any]:
    """Figures of one seed: degradation of every language for both methods, and the ratios."""
    mine = {tag: degradation(ours[tag], baseline[tag]) for tag in baseline}
    theirs = {tag: degradation(rtn[tag], baseline[tag]) for tag in baseline}
    return {
        "bits": bits,
        "mode": mode,
        "seed": seed,
        "languages": {
            tag: {
                "degradation": mine[tag].degradation,
                "standard_error": mine[tag].standard_error,
                "rtn_degradation": theirs[tag].degradation,
                "rtn_standard_error": theirs[tag].standard_error,
            }
            for tag in mine
        },
        "la_aciq": overview(mine),
        "rtn": overview(theirs),
        "ratios": ratios(ours, rtn, baseline, tuple(baseline), seed=seed),
    }


def medians(rows: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Median over seeds of each ratio, by bits and mode."""
    found: dict[str, dict[str, float]] = {}
    for bits, mode in sorted({(row["bits"], row["mode"]) for row in rows}):
        chosen = [row["ratios"] for row in rows if (row["bits"], row["mode"]) == (bits, mode)]
        found[f"{bits} bits, {mode}"] = {
            name: statistics.median(ratio[name]["ratio"] for ratio in chosen) for name in chosen[0]
        }
    return found


def commit() -> str:
    """Commit of the code that was run."""
    done = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


if __name__ == "__main__":
    main()

r"""Are la_aciq's static activation ranges as good as min-max at 8 bits, and how much better are they at 4?

    python benchmarks/bench_static.py --model DIR --calibration DIR --evaluation DIR -o FILE.json

W8A8 is really quantized, by Neural Compressor's static path: weights 8 bits per channel, activations 8 bits per
tensor, embeddings and output projection in float in all.

    la_aciq                             la_aciq's weight codes and its language-aware input ranges
    la_aciq codes, inc minmax ranges    the same codes, Neural Compressor's min-max ranges
    inc minmax                          all Neural Compressor's own, activation algorithm `minmax`
    inc kl                              the same with `kl`, its default: torch's histogram observer

Asked: is la_aciq worse than min-max beyond noise in any language?  It is, if the interval of the difference lies above
0; chance alone does that to one language in 40, so the intervals that hold in all languages at once are there too.

W8A4 is SIMULATED in float, because that path cannot carry activations of 4 bits: hooks round the input of every
quantized layer to 16 levels on a fixed range, and weights are rounded to 8 bits per channel.  The target is a worst
language that is harmed at most 0.2 times as much with la_aciq's ranges as with min-max, by the loss and by the
divergence from the float model (KL).  A missed target is recorded as missed.

Texts are folders of `<language>.txt`: a line is a sentence, a blank line ends a document.  Intervals are over documents
and calibration seeds.  What cannot be run is recorded in `not_run` with the reason, for example a model that Neural
Compressor cannot trace.

    # the shipped model, and its variant whose weights have outlier columns
    python recipes/small_bloom/outliers.py --model recipes/small_bloom/model --output build/outliers
    python benchmarks/bench_static.py --model build/outliers --calibration recipes/small_bloom/text/calibration \
        --evaluation recipes/small_bloom/text/holdout -o benchmarks/results/static_outliers.json
"""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from methods.bench import Bench, Options
from methods.collect import commit
from static.report import table
from static.simulated import BITS, WEIGHT_BITS
from static.study import STUDIES, TARGET, measure, result

from inc_laaciq.output import check_file, write_json_atomic
from inc_laaciq.provenance import meta

QUESTION = "Are la_aciq's static activation ranges not worse than min-max at 8 bits, and better at 4?"


def main(arguments: list[str] | None = None) -> int:
    """Run the command; its exit code."""
    options = parser().parse_args(arguments)
    check_file(options.output)
    bench = Bench(Options.of(options, options.output.parent))
    content = {"question": QUESTION, **description(bench)}  # first, as others may work on the code meanwhile
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's, at every observer: the API that Neural Compressor uses is deprecated
        found = measure(bench, seeds=options.seeds, studies=tuple(options.studies))
    content |= result(found)
    content["texts"]["evaluation_documents"] = {tag: len(sums["tokens"]) for tag, sums in found.baseline.items()}
    content["texts"]["evaluation_tokens"] = {tag: sum(sums["tokens"]) for tag, sums in found.baseline.items()}
    write_json_atomic(options.output, content)
    print(table(content))
    print(f"wrote {options.output}")
    return 0


def parser() -> argparse.ArgumentParser:
    """Options of the command line."""
    found = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    found.add_argument("--model", required=True, help="folder of a causal language model")
    found.add_argument("--calibration", required=True, help="folder of <language>.txt, to find ranges on")
    found.add_argument("--evaluation", required=True, help="folder of <language>.txt, to measure on")
    found.add_argument("--calibration-tokens", type=int, default=2048, help="of each language (default: 2048)")
    found.add_argument("--eval-tokens", type=int, default=4096, help="of each language; 0 = all (default: 4096)")
    found.add_argument("--seeds", type=positive, default=2, help="of the calibration text (default: 2)")
    found.add_argument("--studies", nargs="+", choices=tuple(STUDIES), default=tuple(STUDIES), help="default: both")
    found.add_argument("-o", "--output", type=Path, required=True, help="JSON file to write")
    return found


def positive(text: str) -> int:
    """A whole number from 1, for argparse."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is less than 1")
    return number


def description(bench: Bench) -> dict[str, Any]:
    """What was compared, on what, by which code."""
    layers, kept = bench.layers(WEIGHT_BITS, -1)
    model = bench.source.model
    return {
        "meta": {
            **meta(),
            "commit": commit(),
            "calibration_tokens_per_language": bench.options.calibration_tokens,
            "evaluation_tokens_per_language": bench.options.eval_tokens,
            "sequence_length": bench.sequence_length,
        },
        "model": {
            "name": Path(bench.options.model).resolve().name,
            "sha256": bench.source.weights_sha256,
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
            "architecture": type(model).__name__,
        },
        "texts": {
            "calibration_sha256": bench.calibration.sha256,
            "evaluation_sha256": bench.evaluation.sha256,
        },
        "quantized_layers": layers,
        "float_layers": kept,
        "studies": {
            "W8A8": {
                "simulated": False,
                "how": "Neural Compressor's static path; it rounds the outputs of the layers to 8 bits too, on its own "
                "ranges, in all methods",
            },
            "W8A4": {
                "simulated": True,
                "how": f"a simulation in float: hooks round the inputs of the layers to {2**BITS} levels on a fixed "
                f"range per tensor; weights rounded to {WEIGHT_BITS} bits per channel; outputs not rounded",
                "target": TARGET,
            },
        },
        "units": {"degradation": "nats per byte", "kl": "nats per byte", "difference": "nats per byte"},
    }


if __name__ == "__main__":
    sys.exit(main())

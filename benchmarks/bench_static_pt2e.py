r"""Are la_aciq's static activation ranges as good as min-max in Neural Compressor's torch API (PT2E)?

    python benchmarks/bench_static_pt2e.py --model DIR --calibration DIR --evaluation DIR -o FILE.json

The same question as `bench_static.py`, for neural-compressor 3.10, which has static INT8 in its torch API only.
Weights have 8 bits per channel, inputs of linear layers 8 bits per tensor; nothing else is rounded.  The adaptor API
rounds outputs of layers too, so its figures are higher.

    la_aciq                             la_aciq's weight codes and its language-aware input ranges
    la_aciq codes, inc minmax ranges    the same codes, Neural Compressor's `minmax` ranges
    inc minmax                          all Neural Compressor's own, of the same layers; `minmax` is a moving average
    inc kl                              the same with `kl`: a histogram observer
    inc minmax, as it comes             what Neural Compressor quantizes if it is asked for nothing else: the output
                                        projection and products, such as those within GELU, too

Neural Compressor's observers see the calibration rows of all languages in a random order: in a moving average, the
language that comes first would count most.
"""

from __future__ import annotations

import os
import sys
import time
import warnings

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from bench_static import description, parser
from methods.bench import Bench, Options
from methods.measure import document_sums
from static import pt2e
from static.report import table
from static.study import Measured, result

from inc_laaciq.backends.inc_torch_static import algorithm
from inc_laaciq.output import check_file, write_json_atomic

QUESTION = "Are la_aciq's static activation ranges not worse than min-max at 8 bits, in Neural Compressor's torch API?"


def main(arguments: list[str] | None = None) -> int:
    """Run the command; its exit code."""
    options = parser().parse_args(arguments)
    check_file(options.output)
    algorithm()  # before anything that takes long
    bench = Bench(Options.of(options, options.output.parent))
    content = {"question": QUESTION, **description(bench)}  # first, as others may work on the code meanwhile
    content["studies"] = {
        "W8A8": {
            "simulated": False,
            "how": "Neural Compressor's PT2E path, run as exported; inputs and weights of linear layers are rounded, "
            f"and more only in {', '.join(pt2e.WHOLE)}; its observers see the rows in a random order",
        }
    }
    found = measure(bench, options.seeds)
    content |= result(found, {"W8A8": tuple(pt2e.FITS)})
    content["texts"]["evaluation_documents"] = {tag: len(sums["tokens"]) for tag, sums in found.baseline.items()}
    content["texts"]["evaluation_tokens"] = {tag: sum(sums["tokens"]) for tag, sums in found.baseline.items()}
    write_json_atomic(options.output, content)
    print(table(content))
    print(f"wrote {options.output}")
    return 0


def measure(bench: Bench, seeds: int) -> Measured:
    """Quantize and score by all methods, with a line of progress after each."""
    found = Measured(baseline={tag: document_sums(each) for tag, each in bench.losses(bench.source.model).items()})
    for seed in range(seeds):
        batches = bench.batches("multilingual", seed)
        for method in pt2e.FITS:
            start = time.perf_counter()
            model = pt2e.quantize(bench, method, batches, seed)
            found.seconds["W8A8", method, seed] = time.perf_counter() - start
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                scores = bench.losses(model)
            found.cells["W8A8", method, seed] = {tag: document_sums(each) for tag, each in scores.items()}
            print(f"{method}, seed {seed}: {found.seconds['W8A8', method, seed]:.0f} s to quantize", flush=True)
    return found


if __name__ == "__main__":
    sys.exit(main())

"""Does ACIQ do what its paper says: on values of the assumed distributions, and at W4A4 on a small network?

    python benchmarks/bench_aciq.py -o benchmarks/results/aciq.json

Banner, Nahshan, Soudry: "Post training 4-bit quantization of convolutional networks for rapid-deployment", NeurIPS
2019 (arXiv:1810.05723).  Three parts on made values: the expected squared error of clipping beside the measured one and
beside that without clipping; the mean and norm of channels before and after bias correction; the error of bits that are
allocated by channel.  Then all of them on a network that is trained on scikit-learn's digits, W4A4 and below, simulated
in float: it is tiny beside the paper's, so only directions can be compared.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported

import torch
from aciq import digits, report, synthetic
from methods.collect import commit

from inc_laaciq.output import check_file, write_json_atomic
from inc_laaciq.provenance import meta

PUBLISHED = {
    "what": "ResNet-50 on ImageNet, W4A4, ranges per channel, top-1 accuracy in percent",
    "naive": 62.154,
    "+ bit allocation": 73.330,
    "variance_by_shuffling": 0.5,
    "source": "README.md of https://github.com/submission2019/cnn-quantization, the authors' code, commit 00a31197",
}


def main(arguments: list[str] | None = None) -> None:
    """Run the benchmark and write its JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=8, help="networks that are trained (default: 8)")
    parser.add_argument("--epochs", type=int, default=12)
    options = parser.parse_args(arguments)
    check_file(options.output)
    torch.set_num_threads(1)
    content = {
        "question": __doc__.splitlines()[0],
        "meta": {
            **meta(),
            "commit": commit(),
            "synthetic": "values are drawn from the assumed distributions; the network is real, its rounding simulated",
        },
        "errors": synthetic.error_table(),
        "bias_correction": synthetic.bias_table(),
        "bit_allocation": synthetic.allocation_table(),
        "digits": digits.study(options.seeds, options.epochs),
        "published": PUBLISHED,
    }
    write_json_atomic(options.output, content)
    print(report.readme(content))


if __name__ == "__main__":
    main()

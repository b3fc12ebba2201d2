"""Quantize a model to FP8 by merged measurements: stock Neural Compressor, and nothing of inc-laaciq.

    python recipes/fp8_gaudi/quantize.py MODEL merged/measure --device hpu --scale-method maxabs_hw

Neural Compressor keeps the scales that it makes beside the measurement, and prefers them to a newer measurement: merge
with `--remove-stale-scales` to replace one.  Scales made on a CPU are wrong on a Gaudi 2; do not copy them there.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from neural_compressor.torch.quantization import FP8Config, convert
from transformers import AutoModelForCausalLM, AutoTokenizer

TYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}


def main(arguments: Sequence[str] | None = None) -> Any:
    """Quantize, and write a few words; the quantized model is returned."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="Hugging Face folder or id")
    parser.add_argument("measurement", type=Path, help="what was given to merge-measurements as --output")
    parser.add_argument("--device", choices=("hpu", "cpu"), default="hpu")
    parser.add_argument("--dtype", choices=tuple(TYPES), default="bf16")
    parser.add_argument("--scale-method", default="maxabs_hw", help="maxabs_pow2 or maxabs_arbitrary on a CPU")
    parser.add_argument("--blocklist", nargs="*", default=["lm_head"], help="as when it was measured")
    parser.add_argument("--prompt", default="The")
    given = parser.parse_args(arguments)
    if given.device == "hpu":
        import habana_frameworks.torch.core  # noqa: F401 - makes the device known to torch

    tokenizer = AutoTokenizer.from_pretrained(given.model)
    model = AutoModelForCausalLM.from_pretrained(given.model, dtype=TYPES[given.dtype]).eval().to(given.device)
    config = FP8Config(
        mode="QUANTIZE",
        observer="maxabs",
        dump_stats_path=str(given.measurement.absolute()),  # it cannot take a name without a folder
        scale_method=given.scale_method,
        hp_dtype=given.dtype,
        blocklist={"names": given.blocklist, "types": []},
        use_qdq=given.device == "cpu",
    )
    model = convert(model, config)
    prompt = tokenizer(given.prompt, return_tensors="pt").to(given.device)
    with torch.no_grad():
        written = model.generate(**prompt, max_new_tokens=8, do_sample=False)
    print(tokenizer.decode(written[0], skip_special_tokens=True))
    return model


if __name__ == "__main__":
    main()

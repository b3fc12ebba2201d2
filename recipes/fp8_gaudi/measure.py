"""Measure a model for FP8, language by language, where it will run.

    python recipes/fp8_gaudi/measure.py MODEL TEXTS dumps --device hpu
    inc-laaciq merge-measurements dumps -o merged/measure --device gaudi2 --scale-method maxabs_hw
    python recipes/fp8_gaudi/quantize.py MODEL merged/measure --device hpu --scale-method maxabs_hw

Started by deepspeed or torchrun, every worker measures its part and writes files of its own.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from neural_compressor.torch.quantization import FP8Config, prepare
from transformers import AutoModelForCausalLM, AutoTokenizer

import inc_laaciq
from inc_laaciq.backends.gaudi_fp8_measure import write_language_dumps

TYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and write a folder of each language."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="Hugging Face folder or id")
    parser.add_argument("texts", help="folder of <language>.txt, or a JSONL file with text and language")
    parser.add_argument("output", type=Path, help="folder for the measurements; a folder in it for each language")
    parser.add_argument("--device", choices=("hpu", "cpu"), default="hpu")
    parser.add_argument("--dtype", choices=tuple(TYPES), default="bf16")
    parser.add_argument("--tokens-per-language", type=int, default=4096)
    parser.add_argument("--blocklist", nargs="*", default=["lm_head"], help="patterns of modules that stay as they are")
    given = parser.parse_args(arguments)
    if given.device == "hpu":
        import habana_frameworks.torch.core  # noqa: F401 - makes the device known to torch

    tokenizer = AutoTokenizer.from_pretrained(given.model)
    model = AutoModelForCausalLM.from_pretrained(given.model, dtype=TYPES[given.dtype]).eval().to(given.device)
    loader = inc_laaciq.language_loader(tokenizer, given.texts, tokens_per_language=given.tokens_per_language)
    given.output.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:  # for what Neural Compressor writes, which no language has to itself
        config = FP8Config(
            mode="MEASURE",
            observer="laaciq",
            dump_stats_path=f"{folder}/measure",
            hp_dtype=given.dtype,
            blocklist={"names": given.blocklist, "types": []},
            use_qdq=given.device == "cpu",
            measure_on_hpu=given.device == "hpu",
        )
        model = prepare(model, config)
        with torch.no_grad():
            for tag, batches in loader.batches.items():
                with inc_laaciq.calibration_language(tag):
                    for batch in batches:
                        model(input_ids=batch.to(given.device))
        written = write_language_dumps(model, given.output)
    print(f"{len(written)} languages measured: {', '.join(written)}")


if __name__ == "__main__":
    main()

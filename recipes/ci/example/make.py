"""Make the results in this folder: the shipped model, and the same with Neural Compressor's own 3-bit rounding.

python recipes/ci/example/make.py
"""

from __future__ import annotations

from pathlib import Path

from inc_laaciq.backends import inc_fit
from inc_laaciq.calibration.corpus import read_texts
from inc_laaciq.calibration.layers import find_layers
from inc_laaciq.checkpoint import load_model
from inc_laaciq.config import WeightSpec
from inc_laaciq.evaluation.likelihood import sentence_losses
from inc_laaciq.evaluation.results import results_dict
from inc_laaciq.output import write_json_atomic
from inc_laaciq.provenance import meta

HERE = Path(__file__).parent
SHIPPED = HERE.parents[1] / "small_bloom"
LANGUAGES = ("de", "en", "fi", "hi", "tr", "zh")
TOKENS = 4096


def main() -> None:
    """Evaluate both and write `baseline.json` and `results.json`."""
    source = load_model(str(SHIPPED / "model"))
    corpus = read_texts(str(SHIPPED / "text" / "evaluation"), LANGUAGES)
    models = {
        "baseline.json": ("small_bloom", "float", source.model),
        "results.json": (
            "small_bloom, RTN 3 bits",
            "inc",
            inc_fit.fit_rtn(source.model, find_layers(source.model, WeightSpec(bits=3, group_size=64))),
        ),
    }
    for file, (name, kind, model) in models.items():
        content = results_dict(
            sentence_losses(model, source.tokenizer, corpus, tokens_per_language=TOKENS),
            meta=meta(),
            model={"name": name, "sha256": source.weights_sha256, "kind": kind},
            tokenizer={"sha256": source.tokenizer_sha256},
            texts={
                "source": "recipes/small_bloom/text/evaluation",
                "sha256": corpus.sha256,
                "tokens_per_language": TOKENS,
                "seed": 0,
            },
            missing={},
        )
        write_json_atomic(HERE / file, content)


if __name__ == "__main__":
    main()

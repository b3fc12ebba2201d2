"""Does `inc-laaciq assess` know which languages plain rounding harms most?

    python benchmarks/bench_assess.py --model DIR --texts DIR --measured methods.json -o FILE.json

What it predicts, from calibration text alone, beside what `bench_methods.py` measured for Neural Compressor's RTN of
the same model on other text; for several draws of the calibration text. Effective kurtosis, the share of activation in
outlier layers and tokenizer fertility are tried as predictors too. Time is given in passes forward and back over the
same text.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from statistics import mean, median
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from methods.collect import commit
from torch.nn import functional

from inc_laaciq.assess import assess_quantization_risk
from inc_laaciq.calibration.batches import pack
from inc_laaciq.calibration.corpus import read_texts
from inc_laaciq.calibration.prepare import row_length
from inc_laaciq.checkpoint import load_model
from inc_laaciq.errors import EvaluationError
from inc_laaciq.evaluation.risk import associate
from inc_laaciq.output import write_json_atomic
from inc_laaciq.provenance import meta

METHOD = "inc-rtn"
PREDICTORS = ("predicted_degradation", "effective_kurtosis", "outlier_activation", "tokens_per_byte")
MEASURES = ("degradation", "kl")
FIRST = 3
"""The language that is predicted to be worst should be among so many of those that are measured to be."""


def main() -> None:
    """Run the benchmark and write its JSON."""
    options = arguments()
    torch.set_num_threads(1)
    measured = json.loads(options.measured.read_text(encoding="utf-8"))
    source = load_model(options.model)
    if source.weights_sha256 != measured["model"]["sha256"]:
        raise SystemExit(f"{options.measured} is of another model than {options.model}")
    widths = sorted({(row["bits"], row["group_size"]) for row in measured["rows"] if row["method"] == METHOD})
    settings = []
    for bits, group_size in widths:
        found = by_language(measured, bits, group_size)
        for seed in range(options.seeds):
            started = time.process_time()
            document = assess_quantization_risk(
                source.model,
                options.texts,
                tokenizer=source.tokenizer,
                bits=bits,
                group_size=group_size,
                tokens_per_language=options.tokens_per_language,
                seed=seed,
            )
            seconds = time.process_time() - started
            settings.append(
                {"bits": bits, "group_size": group_size, "seed": seed, "seconds": seconds, **beside(document, found)}
            )
            print(f"{bits} bits, groups of {group_size}, seed {seed}: {seconds:.1f} s", flush=True)
    one_pass = pass_seconds(source, options)
    content = {
        "question": "Does `inc-laaciq assess` know which languages plain rounding harms most?",
        "meta": {**meta(), "commit": commit(), "tokens_per_language": options.tokens_per_language},
        "model": measured["model"],
        "measured": {"method": METHOD, "texts": measured["texts"], "commit": measured["meta"]["commit"]},
        "pass_seconds": one_pass,
        "passes": median(setting["seconds"] for setting in settings) / one_pass,
        "settings": settings,
    }
    write_json_atomic(options.output, content)
    print(f"wrote {options.output}")


def arguments() -> argparse.Namespace:
    """Options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="folder of a causal language model")
    parser.add_argument("--texts", required=True, help="folder of <language>.txt to predict from")
    parser.add_argument("--measured", type=Path, required=True, help="result of bench_methods.py on that model")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--tokens-per-language", type=int, default=2048)
    parser.add_argument("-o", "--output", type=Path, required=True)
    return parser.parse_args()


def by_language(measured: Mapping[str, Any], bits: int, group_size: int) -> dict[str, dict[str, float]]:
    """What was measured: degradation, its standard error, and divergence of every language."""
    rows = [row for row in measured["rows"] if row["method"] == METHOD]
    chosen = [row for row in rows if (row["bits"], row["group_size"]) == (bits, group_size)]
    return {row["language"]: {name: row[name] for name in (*MEASURES, "standard_error")} for row in chosen}


def beside(document: Mapping[str, Any], measured: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
    """Predictors beside what was measured, language by language, and how well they go together."""
    entries = {tag: entry for tag, entry in document["languages"].items() if tag in measured and "missing" not in entry}
    predicted = {tag: entry["predicted_degradation"] for tag, entry in entries.items()}
    worst = max(predicted, key=lambda tag: predicted[tag])
    found: dict[str, Any] = {
        "languages": {
            tag: {**{name: entry[name] for name in PREDICTORS}, "interval": entry["interval"], **measured[tag]}
            for tag, entry in entries.items()
        },
        "worst_predicted": worst,
        "associations": {},
    }
    for measure in MEASURES:
        values = {tag: measured[tag][measure] for tag in entries}
        order = sorted(values, key=lambda tag: -values[tag])
        errors = {tag: measured[tag]["standard_error"] for tag in entries} if measure == "degradation" else None
        found[measure] = {
            "worst": order[:FIRST],
            "rank_of_worst_predicted": order.index(worst) + 1,
            "is_among_worst": worst in order[:FIRST],
            "ratio_to_predicted": mean(values.values()) / mean(predicted.values()),
        }
        found["associations"][measure] = {
            name: association({tag: entry[name] for tag, entry in entries.items()}, values, errors)
            for name in PREDICTORS
        }
    return found


def association(
    predictor: Mapping[str, float], values: Mapping[str, float], errors: Mapping[str, float] | None
) -> dict[str, Any] | None:
    """A correlation with its p-value and interval; None where the predictor is the same for all languages."""
    try:
        found = associate(predictor, values, standard_errors=errors)
    except EvaluationError:
        return None
    kept = ("pearson", "pearson_p", "spearman", "spearman_p", "lower", "upper", "attenuation")
    return {name: value for name, value in asdict(found).items() if name in kept}


def pass_seconds(source: Any, options: argparse.Namespace) -> float:
    """Processor seconds of one pass forward and back over the text, into the weights, as training does it."""
    batches = pack(
        read_texts(options.texts),
        source.tokenizer,
        tokens_per_language=options.tokens_per_language,
        sequence_length=row_length(source.model),
        seed=0,
    )
    source.model.requires_grad_(True)
    started = time.process_time()
    for rows in batches.values():
        for row in (row[None] for batch in rows for row in batch if len(row) > 1):
            logits = source.model(input_ids=row, use_cache=False).logits[0, :-1]
            functional.cross_entropy(logits, row[0, 1:]).backward()
    seconds = time.process_time() - started
    source.model.zero_grad()
    return seconds


if __name__ == "__main__":
    main()

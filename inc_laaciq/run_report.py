"""The content of `laaciq.json`, `baseline.json` and `results.json`, from what a run measured."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from inc_laaciq.calibration.folding import Fold
from inc_laaciq.calibration.layers import Layer
from inc_laaciq.calibration.loader import LanguageLoader
from inc_laaciq.calibration.text import Corpus
from inc_laaciq.config import TextSpec
from inc_laaciq.evaluation.aligned import choose_aligned
from inc_laaciq.evaluation.compare import overview, ratios
from inc_laaciq.evaluation.degradation import Degradation, degradation
from inc_laaciq.evaluation.gate import judge
from inc_laaciq.evaluation.losses import SentenceLosses
from inc_laaciq.evaluation.measured import Evaluation
from inc_laaciq.evaluation.results import content_id, finite, results_dict
from inc_laaciq.evaluation.sentences import choose_sentences
from inc_laaciq.job import Job
from inc_laaciq.languages import name, script
from inc_laaciq.layerwise import Solution, lost_input_note
from inc_laaciq.provenance import meta
from inc_laaciq.quant.activation import Range

SCHEMA = "inc-laaciq/run/1"

_QUOTED = 300  # characters of a sentence that a report shows

Losses = Mapping[str, SentenceLosses]
Trials = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Losses by language of the float model, of the quantized one, and of methods to compare with.

    `kind` is what the quantized model is: "inc" or "openvino".
    """

    kind: str = "inc"
    baseline: Losses | None = None
    candidate: Losses | None = None
    others: Mapping[str, Losses] = field(default_factory=dict)


def run_results(
    job: Job, losses: Losses | None, *, kind: str, missing: Mapping[str, str] | None = None
) -> dict[str, Any] | None:
    """Content of `baseline.json` or `results.json`; None without evaluation text.

    `missing` are the languages that were not measured, with the reason; without it, those without evaluation text.
    """
    if losses is None or job.evaluation is None:
        return None
    source = {"name": model_name(job.source.source), "sha256": job.source.weights_sha256}
    is_float = kind == "float"
    return results_dict(
        losses,
        meta=meta(),
        model={**source, "kind": kind, **({"runtime": "default"} if kind == "openvino" else {})},
        tokenizer={"sha256": job.source.tokenizer_sha256},
        texts=_texts(job.run.la_aciq.evaluation, job.evaluation, without_text(job)) or {},
        missing=dict.fromkeys(job.evaluation.missing, "no text was found") if missing is None else missing,
        reference=None if is_float else {**source, "kind": "float"},
        configuration_sha256=None if is_float else job.run.digest,
    )


def run_report(
    job: Job, solution: Solution, measured: Measured, loader: LanguageLoader | None, trials: Trials = ()
) -> dict[str, Any]:
    """Content of `laaciq.json`, but for what only the written folder can tell (bytes, hashes)."""
    settings, kept = job.run.la_aciq, _kept(trials)
    judged = judge_run(job, solution, measured)
    _quote_worst(job, judged["sentences"])
    tokens = loader.n_tokens if loader is not None else {}
    for tag, entry in judged["languages"].items():
        if "missing" not in entry:
            entry["calibration_tokens"] = tokens.get(tag, 0)
    compared = [tag for tag, entry in judged["languages"].items() if "missing" not in entry]
    return {
        **judged,
        "schema": SCHEMA,
        "meta": meta(),
        "config": job.run.as_dict(),
        "mode": kept.get("mode", settings.mode),
        "reconcile": kept.get("reconcile", settings.reconcile),
        "model": {"name": model_name(job.source.source), "sha256": job.source.weights_sha256},
        "texts": {
            "calibration": _texts(settings.calibration, job.calibration),
            "evaluation": _texts(settings.evaluation, job.evaluation, without_text(job)),
        },
        "layers": [_layer_entry(layer, solution) for layer in solution.layers],
        "folds": [_fold_entry(fold) for fold in solution.folds],
        "tuning": dict(solution.tuning),
        "comparisons": {label: _comparison(losses, measured, compared) for label, losses in measured.others.items()},
        "trials": list(trials),
        "heat": _heat(solution, compared),
        "notes": list(dict.fromkeys([*job.notes, *judged["notes"], *_search_note(trials), *solution_notes(solution)])),
    }


def _quote_worst(job: Job, sentences: Mapping[str, list[dict[str, Any]]]) -> None:
    """Give the worst sentences their text, which the losses do not hold; long ones are cut."""
    spec, corpus, tokenizer = job.run.la_aciq.evaluation, job.evaluation, job.source.tokenizer
    if spec is None or corpus is None or not sentences:
        return
    quota, seed = spec.tokens_per_language, spec.seed
    if spec.aligned:
        chosen = choose_aligned(corpus, tokenizer, tokens_per_language=quota, seed=seed)
    else:
        texts = [corpus.texts[tag] for tag in sentences]
        chosen = [choose_sentences(text, tokenizer, tokens_per_language=quota, seed=seed) for text in texts]
    for found in chosen:
        for entry in sentences.get(found.tag, ()):
            text = tokenizer.decode(found.ids[entry["index"]], skip_special_tokens=True)
            entry["text"] = text if len(text) <= _QUOTED else f"{text[:_QUOTED]}..."


def _kept(trials: Trials) -> Mapping[str, Any]:
    """The trial whose model is the result; empty where there was no search."""
    return next((trial for trial in trials if trial["kept"]), {})


def _search_note(trials: Trials) -> list[str]:
    """What was kept, if it is not what was asked for."""
    if len(trials) < 2:
        return []
    kept = _kept(trials)
    what = f"; kept is trial {kept['number']}: {kept['description']}" if kept else ""
    return [f"{len(trials)} configurations were tried for the gate, the one that was asked for first{what}"]


def solution_notes(solution: Solution) -> list[str]:
    """What is to be said of how the layers were solved."""
    return [*tuning_note(solution), *lost_input_note(solution.ranges)]


def tuning_note(solution: Solution) -> list[str]:
    """What the tuning of mode `fair` gained on text that it did not tune on."""
    history = solution.tuning.get("history")
    if not history:
        return []
    kept = next(look for look in history if look["step"] == solution.tuning["kept"])
    before, after = (1000 * look["worst"] for look in (history[0], kept))
    text = "that was held out" if solution.tuning["is_held_out"] else "(of some language there was none to hold out)"
    note = (
        f"mode fair kept step {kept['step']} of {solution.tuning['steps']}: on calibration text {text}, the "
        f"worst language's divergence from the float model went from {before:.2f} to {after:.2f} mnat per token"
    )
    labels = solution.tuning["labels"]
    if labels and kept["step"]:
        note += f"; it was also tuned to predict the text itself (labels {labels:g}), which this does not show"
    elif labels:
        note += f"; labels {labels:g} had no effect: every later step was further from the float model"
    return [note]


def judge_run(job: Job, solution: Solution, measured: Measured) -> dict[str, Any]:
    """The gate document of a run; without evaluation text its verdict is NOT-RUN."""
    return judge(
        _evaluation(job, measured.candidate, measured.kind, missing_languages(job, solution)),
        _evaluation(job, measured.baseline, "float", None),
        job.run.la_aciq.gate,
    )


def _evaluation(job: Job, losses: Losses | None, kind: str, missing: Mapping[str, str] | None) -> Evaluation:
    results = run_results(job, losses, kind=kind, missing=missing)
    return Evaluation(
        source="baseline.json" if kind == "float" else "results.json",
        id=content_id(results) if results is not None else "",
        name=model_name(job.source.source),
        model={"sha256": job.source.weights_sha256, "kind": kind},
        tokenizer={"sha256": job.source.tokenizer_sha256},
        texts=results["texts"] if results is not None else {},
        losses=losses or {},
        missing=missing or {},
    )


def missing_languages(job: Job, solution: Solution) -> dict[str, str]:
    """Languages that no figure of this run can let pass, with the reason."""
    return without_text(job) | solution.missing


def without_text(job: Job) -> dict[str, str]:
    """Languages that are listed or calibrated on, and have no text to be calibrated or judged on: they never pass."""
    found: dict[str, str] = {}
    if job.calibration is not None:
        found |= dict.fromkeys(job.calibration.missing, "no calibration text was found")
    if job.evaluation is not None:
        wanted = {*job.evaluation.missing, *(job.calibration.texts if job.calibration is not None else ())}
        found |= dict.fromkeys(wanted - job.evaluation.texts.keys(), "no evaluation text was found")
    return found


def _comparison(losses: Losses, measured: Measured, languages: Sequence[str]) -> dict[str, Any]:
    before, ours = measured.baseline or {}, measured.candidate or {}
    theirs = {tag: degradation(losses[tag], before[tag]) for tag in languages}
    return {
        "languages": {tag: _entry(d) for tag, d in theirs.items()},
        **overview(theirs),
        "ratios": ratios(ours, losses, before, languages),
    }


def _entry(d: Degradation) -> dict[str, Any]:
    values = asdict(d)
    tag = values.pop("tag")
    counts = {label: values.pop(f"n_{label}") for label in ("sentences", "bytes", "tokens")}
    figures = {label: finite(value) for label, value in values.items()}
    return {"name": name(tag), "script": script(tag), **figures, **counts}


def _heat(solution: Solution, languages: Sequence[str]) -> dict[str, Any] | None:
    """Relative output error of every solved layer for every language; None without statistics."""
    layers = [name for name, weight in solution.weights.items() if weight.errors]
    tags = [tag for tag in languages if any(tag in solution.weights[name].errors for name in layers)]
    if not layers or not tags:
        return None
    values = [[finite(solution.weights[name].errors.get(tag)) for tag in tags] for name in layers]
    return {"layers": layers, "languages": tags, "values": values}


def _layer_entry(layer: Layer, solution: Solution) -> dict[str, Any]:
    if layer.weight is None:
        return {"name": layer.name, "n_weights": layer.n_weights, "float": layer.reason}
    return {
        "name": layer.name,
        "n_weights": layer.n_weights,
        "bits": layer.weight.bits,
        "group_size": layer.weight.group_size,
        "scheme": layer.weight.scheme,
        **({"dtype": layer.weight.dtype} if layer.weight.dtype != "int" else {}),
        "errors": dict(solution.weights[layer.name].errors) if layer.name in solution.weights else {},
        **({"input": _range_entry(limits)} if (limits := solution.ranges.get(layer.name)) is not None else {}),
    }


def _range_entry(limits: Range) -> dict[str, Any]:
    """A static range, and what each language loses on it: squared error divided by the sum of squares."""
    return {"minimum": limits.minimum, "maximum": limits.maximum, "errors": dict(limits.errors)}


def _fold_entry(fold: Fold) -> dict[str, Any]:
    return {
        "norm": fold.norm,
        "layers": list(fold.layers),
        "columns_scaled": int((fold.scale != 1).sum()),
        "largest": float(fold.scale.max()),
        "smallest": float(fold.scale.min()),
    }


def _texts(spec: TextSpec | None, corpus: Corpus | None, more: Iterable[str] = ()) -> dict[str, Any] | None:
    if spec is None or corpus is None:
        return None
    return {
        "source": spec.texts if isinstance(spec.texts, str) else dict(spec.texts),
        "sha256": corpus.sha256,
        "languages": sorted({*corpus.texts, *corpus.missing, *more}),
        "tokens_per_language": spec.tokens_per_language,
        "seed": spec.seed,
        **({"aligned": True} if spec.aligned else {}),
    }


def model_name(source: str) -> str:
    """Last part of the model's folder or id: reports do not tell where a machine keeps its files."""
    return Path(os.path.abspath(source)).name  # absolute, because the last part of `.` is nothing

"""Calibrate, solve, apply, evaluate: the whole run as plain calls, without a word to the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from inc_laaciq import fp8_run
from inc_laaciq.backends import inc_api
from inc_laaciq.backends.inc_api import Api
from inc_laaciq.calibration.collect import Progress
from inc_laaciq.calibration.loader import LanguageLoader
from inc_laaciq.calibration.prepare import calibration_batches, row_length
from inc_laaciq.errors import ResourceError, SpecError
from inc_laaciq.evaluation.likelihood import sentence_losses
from inc_laaciq.evaluation.losses import SentenceLosses
from inc_laaciq.job import Job
from inc_laaciq.planning import Plan
from inc_laaciq.run_report import Losses, Measured, missing_languages, run_report, run_results, without_text
from inc_laaciq.tuning.criterion import LanguageCriterion, Likelihood

COMPARISONS = ("rtn",)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a run found.

    Parameters
    ----------
    report : dict
        Content of `laaciq.json`.
    baseline, results : dict or None
        Content of `baseline.json` and `results.json`; None if there is no evaluation text.
    quantized : object
        Neural Compressor's model, not yet packed.
    """

    report: dict[str, Any]
    baseline: dict[str, Any] | None
    results: dict[str, Any] | None
    quantized: Any


def run_quantization(
    job: Job, *, comparisons: Sequence[str] = (), progress: Progress | None = None, api: Api | None = None
) -> Outcome:
    """Quantize through Intel Neural Compressor, evaluate every language, and judge.

    Parameters
    ----------
    job : Job
        From `prepare`.
    comparisons : sequence of str
        Of `COMPARISONS`: Neural Compressor's own methods, on the same layers, text and bits.
    progress : callable(stage, done, total), optional
    api : "adaptor" or "torch", optional
        Neural Compressor's API; by default the adaptor API where it is there, else the torch API.

    Returns
    -------
    Outcome
    """
    if job.run.fp8 is not None:
        fp8_run.require()
        api = "torch"
    api = inc_api.choose(api)
    backend = inc_api.fitting(api)
    check_memory(job.plan)
    settings = job.run.la_aciq
    if comparisons and job.run.approach != "post_training_weight_only":
        raise SpecError(
            "--compare rtn is Neural Compressor's weight-only rounding; it has no static INT8 or FP8 to compare with"
        )
    loader = calibration_loader(job, progress)
    # FP8 has nothing to search: its gate only judges.
    criterion = gate_criterion(job, progress) if job.run.fp8 is None else None
    with inc_api.quiet(api):
        if job.run.fp8 is not None and loader is not None:
            quantized: Any = fp8_run.fit(job, job.run.fp8, loader)
        else:
            quantized = backend.fit(job.source.model, job.run, loader, criterion)
    solution = quantized.la_aciq
    baseline: Losses | None = None
    candidate: Losses | None = None
    others: dict[str, Losses] = {}
    if job.evaluation is not None and settings.evaluation is not None:
        if criterion is not None and criterion.baseline is not None:
            baseline = criterion.baseline.losses
        else:
            baseline = evaluation_losses(job, job.source.model, "float", progress)
        candidate = evaluation_losses(job, quantized.model, "la_aciq", progress, reference=job.source.model)
        for method in comparisons:
            with inc_api.quiet(api):
                other = backend.fit_rtn(job.source.model, solution.layers)
            others[f"INC {method.upper()}"] = evaluation_losses(job, other, method, progress)
    measured = Measured(baseline=baseline, candidate=candidate, others=others)
    report = run_report(job, solution, measured, loader, criterion.trials() if criterion is not None else ())
    if job.run.fp8 is not None:
        shown = {key: value for key, value in quantized.report.items() if key not in ("schema", "meta", "tensors")}
        notes = [*report["notes"], *fp8_run.notes(job.run.fp8)]
        report |= {"mode": "fp8", "reconcile": job.run.fp8.reconcile, "fp8": shown, "notes": notes}
    return Outcome(
        report={**report, "api": api},
        baseline=run_results(job, baseline, kind="float"),
        results=run_results(job, candidate, kind="inc", missing=missing_languages(job, solution)),
        quantized=quantized,
    )


def check_memory(plan: Plan) -> None:
    """Raise ResourceError if the run would not fit into the memory that is free."""
    if not plan.fits:
        raise ResourceError(
            f"the run needs about {plan.memory_bytes / 1e9:.1f} GB of memory and "
            f"{(plan.available_bytes or 0) / 1e9:.1f} GB are free. Use fewer languages, mode 'fast' if it is another, "
            "or a larger machine"
        )


def calibration_loader(job: Job, progress: Progress | None) -> LanguageLoader | None:
    """Batches of the calibration text; None for a run without any."""
    if job.calibration is None:
        return None
    return calibration_batches(
        job.run.la_aciq,
        job.source.tokenizer,
        corpus=job.calibration,
        sequence_length=row_length(job.source.model),
        progress=progress,
        memory=job.plan.statistics_budget,
    )


def gate_criterion(job: Job, progress: Progress | None) -> LanguageCriterion | None:
    """The gate as the criterion of a search; None if there is nothing to judge by or on."""
    settings = job.run.la_aciq
    if settings.gate is None or settings.evaluation is None or job.evaluation is None:
        return None
    evaluate = Likelihood(
        job.source.tokenizer, job.evaluation, settings.evaluation, missing=without_text(job), progress=progress
    )
    return LanguageCriterion(evaluate, settings.gate)


def evaluation_losses(
    job: Job, model: Any, label: str, progress: Progress | None, *, reference: Any = None
) -> dict[str, SentenceLosses]:
    """Losses of a model on the evaluation text, by language; told from `reference` where one is given.

    Raises
    ------
    SpecError
        If the run has no evaluation text.
    """
    spec = job.run.la_aciq.evaluation
    if spec is None or job.evaluation is None:
        raise SpecError("no evaluation text")

    def labelled(stage: str, done: int, total: int) -> None:
        if progress is not None:
            progress(f"evaluating {label}", done, total)

    return sentence_losses(
        model,
        job.source.tokenizer,
        job.evaluation,
        tokens_per_language=spec.tokens_per_language,
        seed=spec.seed,
        reference=reference,
        aligned=spec.aligned,
        progress=labelled,
    )

"""Calibrate, solve, export to OpenVINO, evaluate, judge: the whole run as plain calls, silent on the terminal."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from inc_laaciq.backends.openvino_export import export_float, export_tokenizer, save_ir
from inc_laaciq.backends.openvino_ir import let_cache_be_compressed, read_ir, stamp
from inc_laaciq.backends.openvino_model import OpenVINOModel, writer
from inc_laaciq.backends.openvino_static import put_ranges
from inc_laaciq.backends.openvino_weights import check_stored, put_weights, store_in_half
from inc_laaciq.calibration.collect import Progress
from inc_laaciq.calibration.folding import Fold, folded
from inc_laaciq.evaluation.generation import beginnings, strange_scripts, written_shares
from inc_laaciq.export_format import MODEL_FILE, ExportFormat, Runtime
from inc_laaciq.job import Job
from inc_laaciq.layerwise import Solution
from inc_laaciq.memory import forget_weights, return_freed_memory
from inc_laaciq.output.disk import remove_tree
from inc_laaciq.pipeline import calibration_loader, check_memory, evaluation_losses, gate_criterion
from inc_laaciq.provenance import versions
from inc_laaciq.quant.solver import QuantizedWeight, SolverSpec, solve
from inc_laaciq.run_report import Losses, Measured, missing_languages, run_report, run_results
from inc_laaciq.tuning.criterion import LanguageCriterion
from inc_laaciq.tuning.search import search
from inc_laaciq.tuning.solving import Solver

logger = logging.getLogger(__name__)

EXACT_LABEL = "float32 arithmetic"
"""What the exported model is compared with in the report: itself, without the runtime's own rounding."""


@dataclass(frozen=True, kw_only=True)
class Exported:
    """What an export found; the model is in the folder by then, and judged.

    Parameters
    ----------
    report : dict
        Content of `laaciq.json`.
    baseline, results : dict or None
        Content of `baseline.json` and `results.json`; None without evaluation text.
    solution : Solution
    embeddings : mapping of module name -> QuantizedWeight
        What is quantized beside it.
    """

    report: dict[str, Any]
    baseline: dict[str, Any] | None
    results: dict[str, Any] | None
    solution: Solution
    embeddings: Mapping[str, QuantizedWeight]


@dataclass(kw_only=True)
class _Models:
    """Writes OpenVINO models for solutions; float models are exported once for each set of scaled columns."""

    job: Job
    form: ExportFormat
    folder: Path
    trust_remote_code: bool
    _folds: tuple[Fold, ...] | None = None

    @property
    def _float(self) -> Path:
        return self.folder / "float"

    def prepare(self, folds: tuple[Fold, ...]) -> None:
        """Do what takes the float model's weights, for solutions with these scales of columns."""
        self._float_ir(folds)
        _ = self.embeddings

    def write(self, solution: Solution) -> Any:
        """The model with a solution in it, as read back from the disk."""
        model = read_ir(self._float_ir(solution.folds))
        weights = {**solution.weights, **self.embeddings}
        put_weights(model, weights)
        put_ranges(model, solution.ranges)
        if self.form.floats == "fp16":
            store_in_half(model)
        let_cache_be_compressed(model)
        path = self.folder / "candidate" / MODEL_FILE
        remove_tree(path.parent)
        path.parent.mkdir()
        save_ir(model, path)
        stored = read_ir(path)
        check_stored(stored, weights)
        return stored

    def finish(self, model: Any, facts: Mapping[str, str], solution: Solution) -> None:
        """Write the model that was judged, with the verdict in it, and what belongs beside it."""
        for entry in sorted(self._float.iterdir()):
            if not entry.name.startswith("openvino_model."):
                entry.rename(self.folder / entry.name)
        remove_tree(self._float)  # before the disk has to hold another model
        stamp(model, dict(facts))
        save_ir(model, self.folder / MODEL_FILE)
        check_stored(read_ir(self.folder / MODEL_FILE), {**solution.weights, **self.embeddings})
        remove_tree(self.folder / "candidate")
        if not export_tokenizer(self.job.source.tokenizer, self.folder, task=self.form.task):
            logger.warning("OpenVINO does not support this tokenizer: openvino-genai cannot run the model by itself")

    def _float_ir(self, folds: tuple[Fold, ...]) -> Path:
        if self._folds is None or not _is_same(self._folds, folds):
            remove_tree(self._float)
            return_freed_memory()  # the export is where most is needed
            with folded(self.job.source.model, folds):
                export_float(
                    self.job.source.model,
                    self.job.source.tokenizer,
                    self._float,
                    task=self.form.task,
                    trust_remote_code=self.trust_remote_code,
                )
            self._folds = folds
            return_freed_memory()
        return self._float / MODEL_FILE

    @cached_property
    def embeddings(self) -> dict[str, QuantizedWeight]:
        """What is to be quantized beside the solution."""
        return _embeddings(self.job.source.model) if self.form.embeddings == "int8" else {}


def _is_same(one: Sequence[Fold], other: Sequence[Fold]) -> bool:
    return len(one) == len(other) and all(
        (a.norm, a.layers) == (b.norm, b.layers) and bool((a.scale == b.scale).all())
        for a, b in zip(one, other, strict=True)
    )


def _embeddings(model: Any) -> dict[str, QuantizedWeight]:
    """The input embeddings in 8 bits, and what is tied to them; each row by itself, as rows belong to languages."""
    weight = model.get_input_embeddings().weight
    solved = solve(weight, SolverSpec(bits=8, group_size=-1, mode="fast"))
    return {name: solved for name, module in model.named_modules() if getattr(module, "weight", None) is weight}


def run_export(
    job: Job,
    form: ExportFormat,
    folder: Path,
    *,
    trust_remote_code: bool = False,
    progress: Progress | None = None,
) -> Exported:
    """Quantize, write an OpenVINO model, evaluate every language on it, and judge.

    Parameters
    ----------
    job : Job
        From `prepare`.  Without evaluation text its model has no weights in the end, as they are needed no more.
    form : ExportFormat
    folder : Path
        Empty; gets the model, its configuration and its tokenizer.
    trust_remote_code : bool
        Whether code that came with the model may run during the export.
    progress : callable(stage, done, total), optional
    """
    check_memory(job.plan)
    loader = calibration_loader(job, progress)
    is_static = job.run.approach == "post_training_static_quant"
    solver = Solver(
        model=job.source.model,
        loader=loader,
        activation=job.run.activation if is_static else None,
        progress=progress,
    )
    models = _Models(job=job, form=form, folder=folder, trust_remote_code=trust_remote_code)
    criterion = gate_criterion(job, progress)
    if criterion is None:
        if loader is None:
            models.prepare(())  # without text no column is scaled, and there are no codes yet to hold beside the export
        solution = solver.solve(job.layers, job.run.la_aciq, None)
        models.prepare(solution.folds)
        if job.evaluation is None:
            forget_weights(job.source.model)
        model = models.write(solution)
    else:
        solution, model = _search(job, solver, models, criterion)
    baseline, candidate, exact, properties = _evaluate(job, model, criterion, progress)
    measured = Measured(
        kind="openvino", baseline=baseline, candidate=candidate, others={EXACT_LABEL: exact} if exact else {}
    )
    report = run_report(job, solution, measured, loader, criterion.trials() if criterion is not None else ())
    _tell_tied(report, models.embeddings)
    written = _written(job, model, progress)
    for warning in strange_scripts(written.get("float", {}), written.get("exported", {})):
        logger.warning(warning)
        report["notes"].append(warning)
    report["openvino"] = {**_description(form, properties), "share_in_script": written}
    models.finish(model, _facts(job, report), solution)
    return Exported(
        report=report,
        baseline=run_results(job, baseline, kind="float"),
        results=run_results(job, candidate, kind="openvino", missing=missing_languages(job, solution)),
        solution=solution,
        embeddings=models.embeddings,
    )


def _tell_tied(report: Mapping[str, Any], embeddings: Mapping[str, QuantizedWeight]) -> None:
    """Layers that went with the embeddings are no longer in float."""
    for layer in report["layers"]:
        if "float" in layer and (weight := embeddings.get(layer["name"])) is not None:
            del layer["float"]
            layer |= {"bits": weight.grid.bits, "group_size": -1, "scheme": weight.grid.scheme, "errors": {}}


def _search(job: Job, solver: Solver, models: _Models, criterion: LanguageCriterion) -> tuple[Solution, Any]:
    """Trials until the gate passes one, each judged as OpenVINO runs it; else the one nearest to a pass."""
    started = time.monotonic()
    limits, text = job.run.tuning, solver.loader
    criterion(job.source.model)
    criterion.require(text.batches if text is not None else ())
    solutions: dict[int, Solution] = {}
    written, model = -1, None
    for trial in search(
        job.layers,
        job.run.la_aciq,
        solver.solve,
        criterion,
        solver.measure if text is not None else None,
        bits_can_rise=solver.activation is None,
    ):
        criterion.labels[trial.number] = trial.description
        criterion.methods[trial.number] = {"mode": trial.settings.mode, "reconcile": trial.settings.reconcile}
        criterion.missing |= {tag: f"the float model fails on it: {why}" for tag, why in trial.solution.invalid.items()}
        model = None  # the last one takes memory, and the disk keeps its file as long as it is open
        written, model = trial.number, models.write(trial.solution)
        criterion(_run(job, model))
        best = criterion.best()
        solutions[trial.number] = trial.solution
        solutions = {number: solution for number, solution in solutions.items() if number in (best, trial.number)}
        is_late = bool(limits.timeout) and time.monotonic() - started >= limits.timeout
        if is_late or trial.number + 1 >= limits.max_trials:
            break
    criterion.kept = best
    if written != best:
        model = models.write(solutions[best])
    return solutions[best], model


def _run(job: Job, model: Any, runtime: Runtime = "default") -> OpenVINOModel:
    return OpenVINOModel(model, job.source.model.config, runtime=runtime)


def _evaluate(
    job: Job, model: Any, criterion: LanguageCriterion | None, progress: Progress | None
) -> tuple[Losses | None, Losses | None, Losses | None, dict[str, str]]:
    """Losses of the float model, of the exported one as deployed and in float32, and what OpenVINO chose."""
    deployed = _run(job, model)
    if job.evaluation is None:
        return None, None, None, deployed.properties
    float_model = job.source.model
    if criterion is not None and criterion.baseline is not None:
        baseline: Losses = criterion.baseline.losses
    else:
        baseline = evaluation_losses(job, float_model, "float", progress)
    candidate = evaluation_losses(job, deployed, "as deployed", progress, reference=float_model)
    exact = evaluation_losses(job, _run(job, model, "exact"), EXACT_LABEL, progress)
    return baseline, candidate, exact, deployed.properties


def _written(job: Job, model: Any, progress: Progress | None) -> dict[str, dict[str, float | None]]:
    """Share of letters in the script of each language, of what the float and the exported model write by themselves."""
    if job.evaluation is None or job.run.la_aciq.evaluation is None:
        return {}
    spec, tokenizer, float_model = job.run.la_aciq.evaluation, job.source.tokenizer, job.source.model
    prompts = beginnings(job.evaluation, tokenizer, seed=spec.seed, tokens_per_language=spec.tokens_per_language)
    exported = writer(model, float_model)
    return {
        label: written_shares(writing, tokenizer, prompts, progress, stage=f"writing, {label}")
        for label, writing in (("float", float_model), ("exported", exported))
    }


def _description(form: ExportFormat, properties: Mapping[str, str]) -> dict[str, Any]:
    return {
        "task": form.task,
        "floats": form.floats,
        "embeddings": form.embeddings,
        "runtime": {"judged": "default", **properties},
    }


def _facts(job: Job, report: Mapping[str, Any]) -> dict[str, str]:
    """What the model says of itself: who made it, from what, for which languages, and how it was judged."""
    worst = report["worst"]["degradation"] if report["worst"] is not None else None
    facts = {
        "version": versions()["inc-laaciq"],
        "mode": report["mode"],
        "reconcile": report["reconcile"],
        "source.name": report["model"]["name"],
        "source.sha256": report["model"]["sha256"],
        "configuration_sha256": job.run.digest,
        "languages": json.dumps(sorted(report["languages"])),
        "gate.verdict": report["verdict"],
        "gate.judged_in": report["openvino"]["runtime"]["inference_precision_hint"],
        "gate.worst_language": report["worst_language"] or "",
        "gate.worst_degradation": "" if worst is None else repr(worst),
        "gate.disparity": "" if report["disparity"] is None else repr(report["disparity"]),
    }
    weight = job.run.weight
    return {**facts, "bits": str(weight.bits), "group_size": str(weight.group_size), "scheme": weight.scheme}

"""The output folder of a run: the model in its forms, the reports, and a record of what is in it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inc_laaciq.backends import gaudi_fp8_measure, inc_saved, static_saved
from inc_laaciq.backends.gaudi_fp8_names import DumpName
from inc_laaciq.backends.openvino_weights import stored_bytes
from inc_laaciq.checkpoint import sha256_of_files
from inc_laaciq.export_format import WEIGHTS_FILE
from inc_laaciq.fp8_merge import write_merged
from inc_laaciq.job import Job
from inc_laaciq.output import OutputFolder, write_json_atomic, write_text_atomic
from inc_laaciq.pipeline import Outcome
from inc_laaciq.planning import module_bytes
from inc_laaciq.report.html import to_html
from inc_laaciq.report.markdown import to_markdown

if TYPE_CHECKING:
    from inc_laaciq.export_run import Exported

REPORTS = ("laaciq.json", "baseline.json", "results.json", "report.html", "report.md")


def write_artifacts(job: Job, outcome: Outcome, output: OutputFolder) -> None:
    """Write everything into the folder; the report learns sizes and hashes on the way.

    The layers of the quantized model are packed in place, so this is the last thing done with it.
    """
    folder, report = output.folder, outcome.report
    for record in (report, outcome.baseline, outcome.results):
        _tell_paths_from_output(record, output.path)
    job.source.model.config.save_pretrained(str(folder))
    job.source.tokenizer.save_pretrained(str(folder))
    if job.run.fp8 is not None:
        _write_fp8(job, outcome, output)
        return
    inc_saved.save_inc(outcome.quantized, folder)
    solution = outcome.quantized.la_aciq
    inc_saved.save_solution(solution.weights, folder / inc_saved.SCALES, folds=solution.folds)
    if job.run.approach == "post_training_weight_only":
        deployed = folder / inc_saved.PACKED
        inc_saved.save_packed(inc_saved.pack(outcome.quantized), deployed)
    elif report["api"] == "torch":
        deployed = folder / static_saved.STATIC
        static_saved.save_static(job.source.model, outcome.quantized.model.graph, deployed)
    else:
        deployed = folder / inc_saved.INC_MODEL
    before, after = module_bytes(job.source.model), deployed.stat().st_size
    solved = 4 * sum(layer["n_weights"] for layer in report["layers"] if "bits" in layer)
    sizes = {"packed_layers_before": solved, "packed_layers_after": after - (before - solved)}
    _write_record(outcome, output, {"before": before, "after": after, **sizes})


def _write_fp8(job: Job, outcome: Outcome, output: OutputFolder) -> None:
    """Write what a Gaudi quantizes by: the merged measurement, and those of the languages, to merge anew."""
    found, folder = outcome.quantized, output.folder
    name = DumpName(prefix=folder / "measure", observer=gaudi_fp8_measure.STOCK_OBSERVER)
    write_merged({None: found.merged}, name, found.report)
    (folder / "languages").mkdir()
    gaudi_fp8_measure.write_measurements(found.languages, folder / "languages")
    before = module_bytes(job.source.model)
    weights = sum(layer["n_weights"] for layer in outcome.report["layers"] if "bits" in layer)
    # What it will take on a Gaudi: nothing here holds FP8 weights, which Neural Compressor makes there.
    saved = (next(job.source.model.parameters()).element_size() - 1) * weights
    sizes = {"packed_layers_before": weights + saved, "packed_layers_after": weights}
    _write_record(outcome, output, {"before": before, "after": before - saved, **sizes})


def write_export(job: Job, exported: Exported, output: OutputFolder) -> None:
    """Write what belongs beside an OpenVINO model; the report learns sizes and hashes on the way."""
    folder, report = output.folder, exported.report
    for record in (report, exported.baseline, exported.results):
        _tell_paths_from_output(record, output.path)
    solution = exported.solution
    inc_saved.save_solution(solution.weights, folder / inc_saved.SCALES, folds=solution.folds)
    packed = {id(weight): weight for weight in (*solution.weights.values(), *exported.embeddings.values())}.values()
    sizes = {
        "before": module_bytes(job.source.model),
        "after": (folder / WEIGHTS_FILE).stat().st_size,
        "packed_layers_before": 4 * sum(weight.codes.numel() for weight in packed),
        "packed_layers_after": stored_bytes(packed),
    }
    _write_record(exported, output, sizes)


def _write_record(found: Outcome | Exported, output: OutputFolder, sizes: dict[str, int]) -> None:
    """Write the results and the reports, with sizes in bytes and hashes of all files."""
    folder, report = output.folder, found.report
    for name, content in (("baseline.json", found.baseline), ("results.json", found.results)):
        if content is not None:
            write_json_atomic(folder / name, content)
    report["bytes"] = sizes
    # Without the results, which hold the time of the run: the record of equal runs is equal.
    report["files"] = {
        path.relative_to(folder).as_posix(): sha256_of_files([path])
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in REPORTS
    }
    write_json_atomic(folder / "laaciq.json", report)
    write_text_atomic(folder / "report.md", to_markdown(report))
    write_text_atomic(folder / "report.html", to_html(report))


def _tell_paths_from_output(record: dict[str, Any] | None, output: Path) -> None:
    """Give the sources of text as seen from the output folder: records tell nothing else of the machine."""
    texts = record["texts"] if record is not None else {}
    for entry in (texts, *texts.values()):
        source = entry.get("source") if isinstance(entry, dict) else None
        if isinstance(source, str) and Path(source).exists():
            entry["source"] = Path(os.path.relpath(Path(source).resolve(), output.resolve())).as_posix()

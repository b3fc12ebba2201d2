"""The output folder of a run: the model in its forms, the reports, and a record of what is in it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from inc_laaciq.backends import inc_saved
from inc_laaciq.checkpoint import sha256_of_files
from inc_laaciq.job import Job
from inc_laaciq.output import OutputFolder, write_json_atomic, write_text_atomic
from inc_laaciq.pipeline import Outcome
from inc_laaciq.planning import module_bytes
from inc_laaciq.report.html import to_html
from inc_laaciq.report.markdown import to_markdown

REPORTS = ("laaciq.json", "baseline.json", "results.json", "report.html", "report.md")


def write_artifacts(job: Job, outcome: Outcome, output: OutputFolder) -> None:
    """Write everything into the folder; the report learns sizes and hashes on the way.

    The layers of the quantized model are packed in place, so this is the last thing done with it.
    """
    folder, report = output.folder, outcome.report
    for record in (report, outcome.baseline, outcome.results):
        _tell_paths_from_output(record, output.path)
    before = module_bytes(job.source.model)
    job.source.model.config.save_pretrained(str(folder))
    job.source.tokenizer.save_pretrained(str(folder))
    inc_saved.save_inc(outcome.quantized, folder)
    solution = outcome.quantized.la_aciq
    inc_saved.save_solution(solution.weights, folder / inc_saved.SCALES, folds=solution.folds)
    if job.run.approach == "post_training_weight_only":
        deployed = folder / inc_saved.PACKED
        inc_saved.save_packed(inc_saved.pack(outcome.quantized), deployed)
    else:
        deployed = folder / inc_saved.INC_MODEL
    for name, content in (("baseline.json", outcome.baseline), ("results.json", outcome.results)):
        if content is not None:
            write_json_atomic(folder / name, content)
    solved = {layer.name: layer.n_weights for layer in job.layers if layer.name in outcome.quantized.la_aciq.weights}
    report["bytes"] = {
        "before": before,
        "after": deployed.stat().st_size,
        "packed_layers_before": 4 * sum(solved.values()),
        "packed_layers_after": deployed.stat().st_size - (before - 4 * sum(solved.values())),
    }
    # Without the results, which hold the time of the run: the record of equal runs is equal.
    report["files"] = {
        path.name: sha256_of_files([path])
        for path in sorted(folder.iterdir())
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

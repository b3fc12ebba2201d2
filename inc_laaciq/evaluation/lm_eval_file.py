"""The results file of lm-evaluation-harness, and the samples files that belong to it."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inc_laaciq.errors import DataError, IntegrityError
from inc_laaciq.evaluation.foreign_files import read_object, shown
from inc_laaciq.evaluation.lm_eval_samples import NO_FILTER

# Two hundred languages of a task with sixty parts make some tens of megabytes.
MAX_RESULTS_BYTES = 200_000_000

_DATE = re.compile(r"\d{4}-\d\d-\d\dT\d\d[-:.\d]*")
# As the harness looks for it: an adapter is named together with the model that it adapts.
_MODEL_KEYS = ("peft", "delta", "pretrained", "model", "path", "engine")
_MAX_NAME = 120
_KEYS_OF_MODEL = ("model_dtype", "model_revision", "model_sha")


@dataclass(frozen=True, kw_only=True)
class ResultsFile:
    """A results file.

    Parameters
    ----------
    path : path
    results : mapping of task or group -> mapping
        Figures, by `metric,filter`.
    tasks : tuple of str
        What was run, without groups.
    groups : mapping of group -> tuple of str
    content : mapping
        The whole file.
    """

    path: Path
    results: Mapping[str, Mapping[str, Any]]
    tasks: tuple[str, ...]
    groups: Mapping[str, tuple[str, ...]]
    content: Mapping[str, Any]

    def section(self, name: str, task: str) -> Any:
        """What a section such as `versions` says of a task; None if nothing."""
        found = self.content.get(name)
        return found.get(task) if isinstance(found, dict) else None

    def figures(self, task: str, metric: str) -> dict[str, Any]:
        """Value of a metric over all documents of a task, by filter."""
        entry = self.results.get(task, {})
        found = {key.partition(",")[2]: value for key, value in entry.items() if key.partition(",")[0] == metric}
        return {name or NO_FILTER: value for name, value in found.items()}

    def metrics(self, task: str) -> tuple[str, ...]:
        """Metrics that there are figures of."""
        keys = [key.partition(",")[0] for key in self.results.get(task, {}) if "," in key]
        return tuple(dict.fromkeys(key for key in keys if not key.endswith("_stderr")))

    def higher_is_better(self, task: str, metric: str) -> bool | None:
        """Whether more of a metric is better; None if the file does not say."""
        said = self.section("higher_is_better", task)
        value = said.get(metric) if isinstance(said, dict) else None
        return value if isinstance(value, bool) else None

    def aggregation(self, task: str, metric: str) -> str | None:
        """How a task's value is made of those of its documents; None if the file does not say."""
        config = self.section("configs", task)
        metrics = config.get("metric_list") if isinstance(config, dict) else None
        for entry in metrics if isinstance(metrics, list) else ():
            if isinstance(entry, dict) and entry.get("metric") == metric:
                said = entry.get("aggregation")
                return said if isinstance(said, str) else None
        return None

    def model(self) -> dict[str, str]:
        """What is known of the model, without any path of a machine."""
        config = self.content.get("config")
        found = config if isinstance(config, dict) else {}
        known = {key.removeprefix("model_"): found.get(key) for key in _KEYS_OF_MODEL}
        texts = {key: _printable(value) for key, value in known.items() if isinstance(value, str) and value}
        return {"name": _model_name(found.get("model_args"), self.content.get("model_name")), **texts}


def is_lm_eval(content: Mapping[str, Any]) -> bool:
    """Whether a JSON object is the results of lm-evaluation-harness."""
    return isinstance(content.get("results"), dict) and any(
        isinstance(content.get(key), dict) for key in ("configs", "versions")
    )


def read_results_file(path: Path) -> ResultsFile:
    """Read a results file.

    Parameters
    ----------
    path : path
        The file, the folder that it is in, or the folder above, which `--output_path` names.

    Raises
    ------
    DataError
        If there is no such file, or several, or it is something else.
    IntegrityError
        If it is damaged.
    """
    file = _only_results(path) if path.is_dir() else path
    content = read_object(file, MAX_RESULTS_BYTES)
    if not is_lm_eval(content):
        hint = " It looks like a samples file; give the results file beside it." if "doc_id" in content else ""
        raise DataError(
            f"{file}: is not a results file of lm-evaluation-harness, which has `results` and `configs`.{hint}"
        )
    results = content["results"]
    for name, entry in results.items():
        _check_name(name, file)
        if not isinstance(entry, dict):
            raise IntegrityError(f"{file}: the results of {shown(name)} must be an object.")
    groups = _groups(content, file)
    return ResultsFile(
        path=file,
        results=results,
        tasks=tuple(name for name in results if name not in groups),
        groups=groups,
        content=content,
    )


def samples_path(results: ResultsFile, task: str) -> Path | None:
    """Path of the samples file of a task, of the same run as the results; None if there is none.

    Raises
    ------
    DataError
        If the results file was renamed, and there are several samples files of the task.
    """
    folder = results.path.parent
    date = results.path.stem.rpartition("_")[2]
    # Names from the file are only compared with those in the folder: none of them can lead out of it.
    try:
        there = os.listdir(folder)
    except OSError as error:
        raise DataError(f"{folder}: cannot be listed: {error.strerror}.") from None
    if _DATE.fullmatch(date):
        name = f"samples_{task}_{date}.jsonl"
        return folder / name if name in there else None
    pattern = re.compile(rf"samples_{re.escape(task)}(_{_DATE.pattern})?\.jsonl")
    found = sorted(name for name in there if pattern.fullmatch(name))
    if len(found) > 1:
        raise DataError(
            f"{results.path}: has no date in its name, so which of these samples files belongs to it is not known: "
            f"{', '.join(found)}. Give the file its name back, such as results_2026-01-31T12-00-00.json."
        )
    return folder / found[0] if found else None


def _only_results(folder: Path) -> Path:
    """The one results file of a folder or of the folders in it."""
    for pattern in ("results_*.json", "*/results_*.json"):
        found = sorted(folder.glob(pattern))
        if len(found) == 1:
            return found[0]
        if found:
            names = ", ".join(str(file.relative_to(folder)) for file in found[:10])
            raise DataError(f"{folder}: holds {len(found)} results files: {names}. Give the path of one of them.")
    raise DataError(f"{folder}: holds no results_*.json of lm-evaluation-harness.")


def _groups(content: Mapping[str, Any], file: Path) -> dict[str, tuple[str, ...]]:
    """Group -> its parts.  Old versions list every task as a group without parts."""
    parts, summaries = content.get("group_subtasks", {}), content.get("groups", {})
    if not (isinstance(parts, dict) and isinstance(summaries, dict)):
        raise IntegrityError(f"{file}: `groups` and `group_subtasks` must be objects.")
    found: dict[str, tuple[str, ...]] = dict.fromkeys(summaries, ())
    for name, names in parts.items():
        if not isinstance(names, list) or not all(isinstance(part, str) for part in names):
            raise IntegrityError(f"{file}: the parts of the group {shown(name)} must be a list of names.")
        if names:
            found[name] = tuple(names)
    for name in (*found, *(part for names in found.values() for part in names)):
        _check_name(name, file)
    return found


def _check_name(name: str, file: Path) -> None:
    if not name.isprintable() or len(name) > 250:
        raise IntegrityError(f"{file}: {shown(name)} is not the name of a task.")


def _model_name(arguments: Any, name: Any) -> str:
    """Last part of the name or path of the model."""
    if isinstance(arguments, str):
        pairs = (part.partition("=") for part in arguments.split(","))
        arguments = {key.strip(): value for key, _, value in pairs}
    candidates = [arguments.get(key) for key in _MODEL_KEYS] if isinstance(arguments, dict) else []
    full = next((value for value in (*candidates, name) if isinstance(value, str) and value.strip()), "")
    return _printable(re.split(r"[/\\]", full.strip().rstrip("/\\"))[-1])


def _printable(text: str) -> str:
    return "".join(letter for letter in text if letter.isprintable())[:_MAX_NAME]

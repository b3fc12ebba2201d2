"""Write one document in any number of formats."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from inc_laaciq.errors import SpecError
from inc_laaciq.output import write_json_atomic, write_text_atomic
from inc_laaciq.output.disk import disk_errors
from inc_laaciq.report.csv_file import to_csv
from inc_laaciq.report.html import to_html
from inc_laaciq.report.junit import to_junit
from inc_laaciq.report.markdown import to_markdown
from inc_laaciq.report.model_card import to_model_card
from inc_laaciq.report.sarif import to_sarif
from inc_laaciq.report.summary import LIMIT, to_summary

#: Where GitHub says which file is shown beside the step.
STEP_SUMMARY = "GITHUB_STEP_SUMMARY"

_TEXTS: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "junit": to_junit,
    "summary": to_summary,
    "markdown": to_markdown,
    "csv": to_csv,
    "html": to_html,
    "model_card": to_model_card,
}

#: Every format that `write_reports` knows.
FORMATS = ("json", "sarif", *_TEXTS)


def write_reports(document: Mapping[str, Any], paths: Mapping[str, str | Path]) -> None:
    """Write a document in several formats, each file in one step.

    Parameters
    ----------
    document : mapping
        Schema `inc-laaciq/gate/1` or `inc-laaciq/run/1`.
    paths : mapping of format -> path
        Of `FORMATS`.  A summary whose path is that in the environment variable GITHUB_STEP_SUMMARY is added to what
        earlier commands of the step wrote there.

    Raises
    ------
    SpecError
        If a format is not known.
    IntegrityError
        If the document's schema is another one, or a section has the wrong type.
    NumericError
        If the document holds NaN or an infinity and is to be written as JSON.
    ResourceError
        If a file cannot be written.
    """
    for kind in paths:
        if kind not in FORMATS:
            raise SpecError(f"format {kind!r} is not known. Allowed: {', '.join(FORMATS)}.")
    # Everything is rendered before anything is written: a damaged document leaves no half of its reports.
    texts = {kind: _TEXTS[kind](document) for kind in paths if kind in _TEXTS}
    logs = {"sarif": to_sarif(document)} if "sarif" in paths else {}
    if "json" in paths:
        logs["json"] = dict(document)
    for kind, log in logs.items():
        write_json_atomic(paths[kind], log)
    for kind, text in texts.items():
        if kind == "summary" and _is_step_summary(paths[kind]):
            _append_summary(document, Path(paths[kind]))
        else:
            write_text_atomic(paths[kind], text)


def _is_step_summary(path: str | Path) -> bool:
    given = os.environ.get(STEP_SUMMARY)
    return bool(given) and os.path.realpath(path) == os.path.realpath(given or "")


def _append_summary(document: Mapping[str, Any], path: Path) -> None:
    with disk_errors(path, needed=LIMIT):
        written = path.read_bytes() if path.exists() else b""
        between = b"" if not written else b"\n" if written.endswith(b"\n") else b"\n\n"
        # The limit is that of the step, whoever wrote to it.
        text = to_summary(document, limit=max(0, LIMIT - len(written) - len(between)))
        with path.open("ab") as file:
            file.write(between + text.encode("utf-8"))

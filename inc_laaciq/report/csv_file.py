"""The languages as CSV, one row each, with all digits: for spreadsheets and data frames.

A spreadsheet runs a cell that begins with `=`, `+`, `-` or `@` as a formula, so a text of others that does gets an
apostrophe in front, which spreadsheets hide.  Numbers stay numbers.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from inc_laaciq.report import numbers
from inc_laaciq.report.characters import visible
from inc_laaciq.report.checks import language_checks, texts_of
from inc_laaciq.report.document import Document, check_schema, section, sections

_NUMBERS = (
    "baseline_loss", "loss", "degradation", "standard_error", "low", "high",
    "relative_perplexity", "relative_low", "relative_high", "baseline_perplexity", "perplexity",
    "baseline_bits_per_byte", "bits_per_byte", "per_sentence", "detectable",
    "sentences", "documents", "tokens", "bytes", "fertility", "flip_rate", "kl", "calibration_tokens",
)  # fmt: skip
_LIMITS = ("limit", "limit_value", "limit_unit")
_TEXTS = ("tag", "name", "script", "family", "direction", "groups", "verdict", "waived", "missing")

# The last four are the same in full width, which some spreadsheets read alike.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def to_csv(document: Mapping[str, Any]) -> str:
    """Render the languages as CSV (RFC 4180), in the order of their tags.

    Parameters
    ----------
    document : mapping
        Schema `inc-laaciq/gate/1` or `inc-laaciq/run/1`.

    Returns
    -------
    str
        With a header and CRLF line ends; degradations in nats per UTF-8 byte, shares as fractions, empty where there
        is no number.  One column for each task, `max_degradation:TASK`, holds the loss of accuracy.

    Raises
    ------
    IntegrityError
        If the schema is another one, or a section has the wrong type.
    """
    run = check_schema(document)
    languages = section(run, "languages")
    limits = language_checks(run)
    kinds = (entry.get("kind") for entry in sections(run, "checks"))
    tasks = sorted({kind for kind in kinds if isinstance(kind, str) and kind.startswith("max_degradation:")})
    by_task = [language_checks(run, kind) for kind in tasks]
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow([*_TEXTS, *_LIMITS, *_NUMBERS, *(_cell(task) for task in tasks)])
    for tag in sorted(languages, key=str):
        writer.writerow(_row(tag, section(languages, tag), limits.get(tag), [found.get(tag) for found in by_task]))
    return out.getvalue()


def _row(tag: str, entry: Document, check: Document | None, tasks: Sequence[Document | None]) -> list[str]:
    is_missing = "missing" in entry
    texts = {"tag": tag, "groups": ", ".join(texts_of(entry, "groups")), "waived": _truth(entry.get("waived"))}
    limit = check or {}
    return [
        *(_cell(texts.get(key, entry.get(key))) for key in _TEXTS),
        _cell(limit.get("limit")),
        numbers.exact(limit.get("limit_value")),
        _cell(limit.get("unit")),
        *("" if is_missing and key != "calibration_tokens" else numbers.exact(entry.get(key)) for key in _NUMBERS),
        *(numbers.exact(task.get("value")) if task is not None else "" for task in tasks),
    ]


def _truth(value: object) -> str:
    return {True: "true", False: "false"}.get(value, "") if isinstance(value, bool) else ""


def _cell(value: object) -> str:
    text = visible(value)
    return f"'{text}" if text.startswith(_FORMULA) else text

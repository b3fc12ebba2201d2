"""What a CI server shows beside a job: a summary that is never too large for it, and annotations.

GitHub drops a step's summary of more than 1 MiB and shows about ten annotations of a step, so the summary is built
within a budget, the worst languages first, and the annotations are the worst ten.
"""

# Not `from __future__ import annotations`: that name is taken here by what it means on GitHub.
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from inc_laaciq.report.checks import CheckRow, Level, worst_first
from inc_laaciq.report.markdown import (
    bullets,
    check_table,
    code,
    escape,
    folded,
    language_table,
    verdict_line,
    waiver_table,
)
from inc_laaciq.report.rows import LanguageRow
from inc_laaciq.report.view import UNIT_MEANING, VERDICT_MEANING, View, view

#: Largest summary in bytes; GitHub takes 1024 KiB for a step, which other tools may write to as well.
LIMIT = 900_000

#: Languages that are shown without a click.
N_WORST = 10

#: GitHub shows about this many annotations of a step.
N_ANNOTATIONS = 10

_LONGEST = 300
_N_REASONS = 20
_COMMANDS: Mapping[Level, str] = {"error": "error", "warning": "warning", "note": "notice"}


def to_summary(document: Mapping[str, Any], *, limit: int = LIMIT) -> str:
    """Render a summary for a step of a CI job, in GitHub-flavoured Markdown.

    Parameters
    ----------
    document : mapping
        Schema `inc-laaciq/gate/1` or `inc-laaciq/run/1`.
    limit : int
        Most bytes of the result in UTF-8.

    Returns
    -------
    str
        The verdict and its reasons, the worst languages, then the rest folded; parts that do not fit are left out,
        and the summary says so.  The same for the same input.

    Raises
    ------
    IntegrityError
        If the schema is another one, or a section has the wrong type.
    """
    shown = _clipped(view(document))
    summary = _Summary(limit)
    summary.add(f"## {shown.verdict}: {escape(shown.title)}")
    summary.add(verdict_line(shown))
    summary.add(_reasons(shown))
    summary.add(_worst(shown))
    summary.add(escape(UNIT_MEANING) if shown.languages else "")
    open_checks = worst_first([row for row in shown.checks if row.level != "none"])
    summary.add_rows("Checks to look at", open_checks, check_table, is_folded=False)
    summary.add(f"### Waivers\n\n{waiver_table(shown)}" if shown.waivers else "")
    rest = shown.languages[N_WORST:]
    summary.add_rows(
        f"{len(rest)} more languages", rest, lambda rows: language_table(shown, rows, totals=False), is_folded=True
    )
    passed = [row for row in shown.checks if row.level == "none"]
    summary.add_rows(f"{len(passed)} checks passed", passed, check_table, is_folded=True)
    meanings = (shown.interval_meaning, VERDICT_MEANING if shown.has_verdicts else "")
    summary.add(escape(" ".join(meaning for meaning in meanings if meaning)))
    summary.add(f"Signature: {code(shown.signature)}" if shown.signature else "")
    return summary.text()


def annotations(document: Mapping[str, Any]) -> list[str]:
    """Workflow commands that mark the policy's lines in a pull request, the worst first.

    Parameters
    ----------
    document : mapping
        Schema `inc-laaciq/gate/1` or `inc-laaciq/run/1`.

    Returns
    -------
    list of str
        At most ten lines such as `::error title=...::...`; of more findings the last line tells how many.

    Raises
    ------
    IntegrityError
        If the schema is another one, or a section has the wrong type.
    """
    shown = view(document)
    place = dict(shown.provenance).get("policy", "")
    found = [row for row in worst_first(shown.checks) if row.level in ("error", "warning")]
    lines = [_command(row.level, _title(row), row.reason, place, row.line) for row in found]
    if (shown.is_failed or shown.verdict == "INCONCLUSIVE") and not any(row.level == "error" for row in found):
        level: Level = "error" if shown.is_failed else "warning"
        reason = shown.reasons[0] if shown.reasons else f"{shown.verdict}: no reason was recorded"
        lines.insert(0, _command(level, f"{shown.verdict}: {shown.title}", reason, place, None))
    if len(lines) <= N_ANNOTATIONS:
        return lines
    n_more = len(lines) - (N_ANNOTATIONS - 1)
    more = _command("warning", f"{n_more} more findings", "The report lists all of them.", "", None)
    return [*lines[: N_ANNOTATIONS - 1], more]


def _title(row: CheckRow) -> str:
    return f"{row.outcome} {row.subject}: {row.kind}{f' {row.task}' if row.task else ''}"


def _command(level: Level, title: str, message: str, place: str, line: int | None) -> str:
    properties = {"file": place, "line": str(line) if place and line else "", "title": _short(title)}
    written = ",".join(f"{name}={_property(text)}" for name, text in properties.items() if text)
    return f"::{_COMMANDS[level]} {written}::{_message(_short(message))}"


def _message(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _message(text).replace(":", "%3A").replace(",", "%2C")


def _reasons(shown: View) -> str:
    listed = shown.reasons[:_N_REASONS]
    n_more = len(shown.reasons) - len(listed)
    return bullets([*listed, *([f"and {n_more} more"] if n_more else [])])


def _worst(shown: View) -> str:
    if not shown.languages:
        return ""
    return f"### Worst languages\n\n{language_table(shown, shown.languages[:N_WORST])}"


def _clipped(shown: View) -> View:
    """The same with every text short enough that no row of a table is long."""
    return replace(
        shown,
        title=_short(shown.title),
        method=_short(shown.method),
        reasons=tuple(_short(reason) for reason in shown.reasons),
        comparisons=tuple(_short(name) for name in shown.comparisons[:3]),
        languages=tuple(_clipped_language(row) for row in shown.languages),
        summary=tuple(replace(row, label=_short(row.label), against=row.against[:3]) for row in shown.summary),
        checks=tuple(_clipped_check(row) for row in shown.checks),
        waivers=tuple(
            replace(
                row,
                language=_short(row.language),
                limit=_short(row.limit),
                owner=_short(row.owner),
                reason=_short(row.reason),
                ticket=_short(row.ticket),
                expires=_short(row.expires),
            )
            for row in shown.waivers[:100]
        ),
        signature=_short(shown.signature),
    )


def _clipped_language(row: LanguageRow) -> LanguageRow:
    return replace(
        row,
        tag=_short(row.tag),
        name=_short(row.name),
        missing=_short(row.missing),
        limit=_short(row.limit),
        against=row.against[:3],
    )


def _clipped_check(row: CheckRow) -> CheckRow:
    return replace(
        row,
        kind=_short(row.kind),
        task=_short(row.task),
        subject=_short(row.subject),
        limit=_short(row.limit),
        source=_short(row.source),
    )


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


class _Summary:
    """Blocks of Markdown that together stay within a limit; the closing line is always kept free for."""

    _CLOSING = "_Parts of this summary were left out, because it would be too large; the report has all of them._"

    def __init__(self, limit: int) -> None:
        self._blocks: list[str] = []
        self._left = limit - len(self._CLOSING) - 2
        self._is_cut = False

    def add(self, block: str) -> bool:
        """Add a block if it fits."""
        size = len(block.encode("utf-8")) + 2
        if not block or size > self._left:
            self._is_cut |= bool(block)
            return False
        self._left -= size
        self._blocks.append(block)
        return True

    def add_rows(self, title: str, rows: Sequence[Any], render: Any, *, is_folded: bool) -> None:
        """Add as many rows of a table as fit: all, or half of what was tried, until it fits."""
        n = len(rows)
        while n:
            content = render(rows[:n])
            block = folded(title, content) if is_folded else f"### {title}\n\n{content}"
            if len(block.encode("utf-8")) + 2 <= self._left:
                self.add(block)
                break
            n //= 2
        self._is_cut |= n < len(rows)

    def text(self) -> str:
        blocks = [*self._blocks, *([self._CLOSING] if self._is_cut else [])]
        return "\n\n".join(blocks) + "\n"

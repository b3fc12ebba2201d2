"""A run as GitHub-flavoured Markdown, for pull requests, step summaries and model cards.

Texts of others cannot become markup: HTML is written as entities, Markdown's own characters are escaped, and links
and mentions are broken with a zero-width space, so that a report neither calls people nor leads anywhere.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from inc_laaciq.report import numbers
from inc_laaciq.report.checks import CheckRow, worst_first
from inc_laaciq.report.rows import LanguageRow, SummaryRow
from inc_laaciq.report.view import RATIO_MEANING, UNIT_MEANING, VERDICT_MEANING, View, view

_BREAK = "&#8203;"
# Entities never act as markup. A pipe, a backslash and a backtick have to be entities: in a table, renderers disagree
# on a backslash in front of them.
_ESCAPES = str.maketrans(
    {character: f"\\{character}" for character in "*_[]~#!$"}
    | {"&": "&amp;", "<": "&lt;", ">": "&gt;", "|": "&#124;", "\\": "&#92;", "`": "&#96;", "@": f"@{_BREAK}"}
)
_LINKS = re.compile(r"://|(?<=www)\.", re.IGNORECASE)
_LIST_MARKER = re.compile(r"^(?:([-+])(?!\d)|(\d+)([.)])(?!\d))")
_SAFE_CODE = re.compile(r"[A-Za-z0-9 ./:_+,=()*-]*")
_BACKTICKS = re.compile(r"`+")


def to_markdown(run: Mapping[str, Any]) -> str:
    """Render the content of `laaciq.json`, or the document of a gate, as Markdown.

    Parameters
    ----------
    run : mapping
        Schema `inc-laaciq/run/1` or `inc-laaciq/gate/1`.

    Returns
    -------
    str
        The same for the same input; encode it as UTF-8.

    Raises
    ------
    IntegrityError
        If the schema is another one, or a section has the wrong type.
    """
    shown = view(run)
    blocks = [
        f"# {escape(shown.title)}",
        verdict_line(shown),
        bullets(shown.reasons),
        *_languages(shown),
        bullets(_sizes(shown)),
        _heading("Checks", check_table(worst_first(shown.checks))),
        _heading("Waivers", waiver_table(shown)),
        _heading("Groups", _groups(shown)),
        _heading("Trials", _trials(shown)),
        _heading("Notes", bullets(shown.notes)),
        _heading(
            "How it was made",
            table(("what", "value"), [(escape(label), code(text)) for label, text in shown.provenance]),
        ),
        f"Signature: {code(shown.signature)}" if shown.signature else "",
        _layers(shown),
        _block("Policy", shown.policy, ""),
        _block("Configuration", shown.configuration, "yaml"),
    ]
    return "\n\n".join(block for block in blocks if block) + "\n"


def escape(text: str) -> str:
    r"""Text that Markdown shows as it is, in a paragraph, a list or a table.

    Examples
    --------
    >>> escape("a|b <b>*c*</b> @d"), escape("1. e")
    ('a&#124;b &lt;b&gt;\\*c\\*&lt;/b&gt; @&#8203;d', '1&#46; e')
    """
    escaped = _LINKS.sub(lambda found: f"{found[0][0]}{_BREAK}{found[0][1:]}", text.translate(_ESCAPES))
    return _LIST_MARKER.sub(lambda found: f"{found[2] or ''}&#{ord(found[1] or found[3])};", escaped)


def code(text: str) -> str:
    r"""Text in a monospaced face that Markdown shows as it is, in a paragraph, a list or a table.

    Examples
    --------
    >>> code("h.0.mlp"), code("a|b"), code("")
    ('`h.0.mlp`', '<code>a&#124;b</code>', '')
    """
    if not text:
        return ""
    if _SAFE_CODE.fullmatch(text):
        return f"`{text}`"
    return f"<code>{escape(text)}</code>"


def verdict_line(shown: View) -> str:
    """Write the verdict of the gate, and what was judged."""
    return f"**{shown.verdict}**" + (f" ({escape(shown.method)})" if shown.method else "")


def _languages(shown: View) -> list[str]:
    if not shown.languages:
        return []
    meanings = [
        shown.noise,
        UNIT_MEANING,
        shown.interval_meaning,
        VERDICT_MEANING if shown.has_verdicts else "",
        RATIO_MEANING if shown.comparisons else "",
    ]
    return [language_table(shown), escape(" ".join(meaning for meaning in meanings if meaning))]


def language_table(shown: View, languages: Sequence[LanguageRow] | None = None, *, totals: bool = True) -> str:
    """Table of languages, with the columns that the document has figures for.

    Parameters
    ----------
    shown : View
    languages : sequence of LanguageRow, optional
        Only these; all of them unless given.
    totals : bool
        Whether the figures over all languages follow.
    """
    header = ["language", *(["verdict"] if shown.has_verdicts else []), "float loss", f"degradation, {numbers.UNIT}"]
    header += [*([f"{shown.level} interval"] if shown.has_intervals else []), "perplexity"]
    header += ["limit", f"detectable, {numbers.UNIT}"] if shown.has_verdicts else []
    for name in shown.comparisons:
        header += [escape(name), "ratio"]
    chosen = shown.languages if languages is None else languages
    rows = [_language_cells(shown, row, len(header)) for row in chosen]
    rows += [_summary_cells(shown, row) for row in shown.summary] if totals else []
    return table(header, rows)


def named(row: LanguageRow) -> str:
    """Name of a language and its tag."""
    return f"{escape(row.name)} ({escape(row.tag)})" if row.name != row.tag else escape(row.tag)


def _language_cells(shown: View, row: LanguageRow, n_columns: int) -> list[str]:
    cells = [named(row), *([row.outcome] if shown.has_verdicts else [])]
    if row.missing:
        cells.append(f"not evaluated: {escape(row.missing)}")
        return [*cells, *[""] * (n_columns - len(cells))]
    cells += [row.baseline_loss, row.degradation.text]
    cells += [*([row.degradation.interval] if shown.has_intervals else []), row.relative_perplexity]
    cells += [escape(row.limit), row.detectable] if shown.has_verdicts else []
    for other in row.against:
        cells += [other.degradation.text, other.ratio]
    return cells


def _summary_cells(shown: View, row: SummaryRow) -> list[str]:
    cells = [f"**{escape(row.label)}**", *([""] if shown.has_verdicts else []), "", row.degradation.text]
    cells += [*([row.degradation.interval] if shown.has_intervals else []), row.relative_perplexity]
    cells += ["", ""] if shown.has_verdicts else []
    for other in row.against:
        cells += [other.degradation.text, f"{other.ratio} {other.interval}".strip()]
    return cells


def check_table(checks: Sequence[CheckRow]) -> str:
    """Table of checks, in the given order; empty without one."""
    rows = [
        (
            escape(f"{row.kind}:{row.task}" if row.task else row.kind),
            escape(row.subject),
            row.outcome,
            "" if row.value == numbers.UNKNOWN else row.value,
            row.interval,
            escape(row.limit),
            "" if row.detectable == numbers.UNKNOWN else row.detectable,
            escape(row.source),
        )
        for row in checks
    ]
    return table(("check", "of", "verdict", "value", "bounds", "limit", "detectable", "set by"), rows)


def waiver_table(shown: View) -> str:
    """Table of every waiver of the policy, those that expired too; empty without one."""
    rows = [
        (
            escape(row.language),
            escape(row.state),
            *(escape(text) for text in (row.limit, row.owner, row.reason, row.ticket, row.expires)),
        )
        for row in shown.waivers
    ]
    return table(("language", "state", "limit", "owner", "reason", "ticket", "last day"), rows)


def _groups(shown: View) -> str:
    rows = [
        (f"{row.kind} {escape(row.name)}", row.languages, row.verdicts, row.mean, escape(row.worst))
        for row in shown.groups
    ]
    return table(("group", "languages", "verdicts", f"mean, {numbers.UNIT}", f"worst, {numbers.UNIT}"), rows)


def _trials(shown: View) -> str:
    rows = [
        (
            row.number,
            escape(row.description),
            row.verdict,
            escape(row.worst),
            row.disparity,
            row.bytes,
            escape("; ".join(row.reasons)),
        )
        for row in shown.trials
    ]
    header = ("trial", "what", "verdict", f"worst, {numbers.UNIT}", f"disparity, {numbers.UNIT}", "size", "reasons")
    return table(header, rows)


def _sizes(shown: View) -> list[str]:
    if shown.size is None:
        return []
    layers = f" (quantized layers {shown.size.layers})" if shown.size.layers else ""
    return [f"size: {shown.size.whole}{layers}"]


def _layers(shown: View) -> str:
    if not shown.layers:
        return ""
    rows = [(code(layer.name), escape(layer.grid), layer.weights) for layer in shown.layers]
    return folded(shown.layer_summary, table(("layer", "grid", "weights"), rows))


def _block(title: str, text: str, language: str) -> str:
    if not text:
        return ""
    fence = "`" * max(3, 1 + max((len(run) for run in _BACKTICKS.findall(text)), default=0))
    return folded(title, f"{fence}{language}\n{text}\n{fence}")


def folded(summary: str, content: str) -> str:
    """Content that a reader opens with a click."""
    # Between HTML tags Markdown's escapes would be shown, so this text is escaped for HTML.
    escaped = html.escape(summary).replace("@", f"@{_BREAK}")
    return f"<details><summary>{escaped}</summary>\n\n{content}\n\n</details>"


def _heading(title: str, content: str) -> str:
    return f"## {title}\n\n{content}" if content else ""


def bullets(texts: Iterable[str]) -> str:
    """List of texts; empty without one."""
    return "\n".join(f"- {escape(text)}" for text in texts)


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Table whose first column is left-aligned and whose other columns are right-aligned, if there are many."""
    aligned = [":--", *["--:" if len(header) > 3 else ":--"] * (len(header) - 1)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, aligned, *rows)) if rows else ""

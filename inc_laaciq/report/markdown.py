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
from inc_laaciq.report.view import RATIO_MEANING, UNIT_MEANING, LanguageRow, SummaryRow, View, view

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
    """Render the content of `laaciq.json` as Markdown.

    Parameters
    ----------
    run : mapping
        Content of `laaciq.json`, schema `inc-laaciq/run/1`.

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
        f"**{shown.verdict}**" + (f" ({escape(shown.method)})" if shown.method else ""),
        _list(shown.reasons),
        *_languages(shown),
        _list(_sizes(shown)),
        _heading("Notes", _list(shown.notes)),
        _heading(
            "How it was made",
            _table(("what", "value"), [(escape(label), code(text)) for label, text in shown.provenance]),
        ),
        _layers(shown),
        _configuration(shown.configuration),
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


def _languages(shown: View) -> list[str]:
    if not shown.languages:
        return []
    header = ["language", "float loss", f"degradation, {numbers.UNIT}", "perplexity"]
    for name in shown.comparisons:
        header += [escape(name), "ratio"]
    rows = [_language_cells(row, len(header)) for row in shown.languages]
    rows += [_summary_cells(row) for row in shown.summary]
    meanings = [shown.noise, UNIT_MEANING, RATIO_MEANING if shown.comparisons else ""]
    return [_table(header, rows), escape(" ".join(meaning for meaning in meanings if meaning))]


def _language_cells(row: LanguageRow, n_columns: int) -> list[str]:
    name = f"{escape(row.name)} ({escape(row.tag)})" if row.name != row.tag else escape(row.tag)
    if row.missing:
        return [name, f"not evaluated: {escape(row.missing)}", *[""] * (n_columns - 2)]
    cells = [name, row.baseline_loss, row.degradation.text, row.relative_perplexity]
    for other in row.against:
        cells += [other.degradation.text, other.ratio]
    return cells


def _summary_cells(row: SummaryRow) -> list[str]:
    cells = [f"**{escape(row.label)}**", "", row.degradation.text, row.relative_perplexity]
    for other in row.against:
        cells += [other.degradation.text, f"{other.ratio} {other.interval}".strip()]
    return cells


def _sizes(shown: View) -> list[str]:
    if shown.size is None:
        return []
    layers = f" (quantized layers {shown.size.layers})" if shown.size.layers else ""
    return [f"size: {shown.size.whole}{layers}"]


def _layers(shown: View) -> str:
    if not shown.layers:
        return ""
    rows = [(code(layer.name), escape(layer.grid), layer.weights) for layer in shown.layers]
    return _folded(shown.layer_summary, _table(("layer", "grid", "weights"), rows))


def _configuration(text: str) -> str:
    if not text:
        return ""
    fence = "`" * max(3, 1 + max((len(run) for run in _BACKTICKS.findall(text)), default=0))
    return _folded("Configuration", f"{fence}yaml\n{text}\n{fence}")


def _folded(summary: str, content: str) -> str:
    # Between HTML tags Markdown's escapes would be shown, so this text is escaped for HTML.
    escaped = html.escape(summary).replace("@", f"@{_BREAK}")
    return f"<details><summary>{escaped}</summary>\n\n{content}\n\n</details>"


def _heading(title: str, content: str) -> str:
    return f"## {title}\n\n{content}" if content else ""


def _list(texts: Iterable[str]) -> str:
    return "\n".join(f"- {escape(text)}" for text in texts)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Table whose first column is left-aligned text and whose other columns are right-aligned, if there are many."""
    aligned = [":--", *["--:" if len(header) > 3 else ":--"] * (len(header) - 1)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, aligned, *rows)) if rows else ""

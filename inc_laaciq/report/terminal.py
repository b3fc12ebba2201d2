"""A run on a terminal: the tables, the verdict and the size, within 80 columns and in any encoding.

No text is parsed as markup, so a `[` in a layer's name stays one.  What the console's encoding cannot write is
replaced by something it can, because a report that dies on its own output after hours of work helps nobody.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from inc_laaciq.report import numbers
from inc_laaciq.report.view import RATIO_MEANING, UNIT_MEANING, LanguageRow, SummaryRow, View, view

_STYLES = {"PASS": "bold green", "FAIL": "bold red"}
_DOUBTFUL = "bold yellow"
_UNLIMITED = 10_000
_PLAIN = {numbers.PLUS_MINUS: "+-"}


def print_run(run: Mapping[str, Any], console: Console) -> None:
    """Print the content of `laaciq.json`.

    Parameters
    ----------
    run : mapping
        Content of `laaciq.json`, schema `inc-laaciq/run/1`.
    console : rich.console.Console
        Where to; its width, its colours and its encoding are respected.

    Raises
    ------
    IntegrityError
        If the schema is another one, or a section has the wrong type.
    """
    _Printer(console).print(view(run))


class _Printer:
    def __init__(self, console: Console) -> None:
        self._console = console

    def print(self, shown: View) -> None:
        self._line(shown.title, "bold")
        if shown.method:
            self._line(shown.method)
        if shown.languages:
            self._line("")
            self._tables(shown)
            self._line("")
            for row in shown.languages:
                if row.missing:
                    self._line(f"{row.name} ({row.tag}) was not evaluated: {row.missing}", _DOUBTFUL)
            self._ratios(shown)
            self._line(f"{UNIT_MEANING} {RATIO_MEANING if shown.comparisons else ''}".rstrip(), "dim", wrap=True)
        self._line("")
        for note in shown.notes:
            self._line(f"note: {note}")
        if shown.layer_summary:
            self._line(shown.layer_summary)
        if shown.size is not None:
            layers = f" (quantized layers {shown.size.layers})" if shown.size.layers else ""
            self._line(f"size: {shown.size.whole}{layers}")
        self._line(f"verdict: {shown.verdict}", _STYLES.get(shown.verdict, _DOUBTFUL))
        for reason in shown.reasons:
            self._line(f"  {reason}")

    def _tables(self, shown: View) -> None:
        every = tuple(range(len(shown.comparisons)))
        whole = self._table(shown, every, whole=True)
        if not every or self._fits(whole):
            self._console.print(whole)
            return
        # Too wide: this run by itself, then each comparison in a table of its own.
        self._console.print(self._table(shown, (), whole=True))
        for number in every:
            self._line("")
            self._console.print(self._table(shown, (number,), whole=False))

    def _fits(self, table: Table) -> bool:
        """Whether only names would have to be wrapped."""
        options = self._console.options.update(max_width=_UNLIMITED)
        return Measurement.get(self._console, options, table).minimum <= self._console.width

    def _table(self, shown: View, comparisons: tuple[int, ...], *, whole: bool) -> Table:
        """Table of languages and aggregates; not `whole`: without what this run's own table has shown already."""
        table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
        table.add_column("tag", no_wrap=True)
        table.add_column("language")
        headers = ["float loss", "degradation", "perplexity"] if whole else ["degradation"]
        for number in comparisons:
            headers += [shown.comparisons[number], "ratio"]
        for header in headers:
            table.add_column(self._text(header), justify="right", no_wrap=True)
        for row in shown.languages:
            numeric = ["", "not evaluated"] if row.missing else _numbers(row, row.baseline_loss, comparisons)
            if not whole:
                numeric = numeric[1:2] + numeric[3:]
            table.add_row(*(self._text(cell) for cell in (row.tag, row.name, *numeric)))
        table.add_section()
        for total in shown.summary:
            numeric = _numbers(total, "", comparisons)
            if not whole:
                numeric = numeric[1:2] + numeric[3:]
            table.add_row("", *(self._text(cell, "bold") for cell in (total.label, *numeric)))
        return table

    def _ratios(self, shown: View) -> None:
        """One line for each comparison: the ratios that were measured, with their intervals."""
        for number, name in enumerate(shown.comparisons):
            against = [(total.label, total.against[number]) for total in shown.summary]
            found = [f"{label} {other.ratio} {other.interval}" for label, other in against if other.interval]
            if found:
                self._line(f"ratio to {name}: {', '.join(found)}")

    def _line(self, text: str, style: str = "", *, wrap: bool = False) -> None:
        # What may hold a path or a name is not broken: a terminal folds it, and a log keeps it searchable.
        self._console.print(self._text(text, style), soft_wrap=not wrap)

    def _text(self, text: str, style: str = "") -> Text:
        return Text(self._encodable(text), style=style)

    def _encodable(self, text: str) -> str:
        encoding = self._console.encoding
        return "".join(_replaced(character, encoding) for character in text)


def _numbers(row: LanguageRow | SummaryRow, loss: str, comparisons: tuple[int, ...]) -> list[str]:
    cells = [loss, row.degradation.text, row.relative_perplexity]
    for number in comparisons:
        cells += [row.against[number].degradation.text, row.against[number].ratio]
    return cells


def _replaced(character: str, encoding: str) -> str:
    try:
        character.encode(encoding)
    except UnicodeEncodeError:
        return _PLAIN.get(character) or character.encode(encoding, "backslashreplace").decode(encoding)
    return character

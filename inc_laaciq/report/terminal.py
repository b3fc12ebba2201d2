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
            self._tables(shown)
            self._line(UNIT_MEANING, "dim")
            if shown.comparisons:
                self._line(f"{RATIO_MEANING}.", "dim")
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
        whole = self._table(shown, every, with_losses=True)
        if not every or self._fits(whole):
            self._console.print(whole)
            return
        # Too wide: this run by itself, then each comparison in a table of its own.
        self._console.print(self._table(shown, (), with_losses=True))
        for number in every:
            self._console.print(self._table(shown, (number,), with_losses=False))

    def _fits(self, table: Table) -> bool:
        return Measurement.get(self._console, self._console.options, table).maximum <= self._console.width

    def _table(self, shown: View, comparisons: tuple[int, ...], *, with_losses: bool) -> Table:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
        table.add_column(self._text("language"), overflow="fold")
        if with_losses:
            self._numeric(table, "float loss")
        self._numeric(table, f"degradation, {numbers.UNIT}")
        if with_losses:
            self._numeric(table, "perplexity")
        for number in comparisons:
            self._numeric(table, shown.comparisons[number])
            self._numeric(table, "ratio")
        for row in shown.languages:
            table.add_row(*self._language_cells(row, comparisons, with_losses=with_losses))
        table.add_section()
        for total in shown.summary:
            table.add_row(*self._summary_cells(total, comparisons, with_losses=with_losses))
        return table

    def _numeric(self, table: Table, header: str) -> None:
        table.add_column(self._text(header), justify="right", overflow="fold")

    def _language_cells(self, row: LanguageRow, comparisons: tuple[int, ...], *, with_losses: bool) -> list[Text]:
        name = f"{row.name} ({row.tag})" if row.name != row.tag else row.tag
        if row.missing:
            return [self._text(f"{name}: not evaluated, {row.missing}", "yellow")]
        cells = [name]
        if with_losses:
            cells.append(row.baseline_loss)
        cells.append(row.degradation.text)
        if with_losses:
            cells.append(row.relative_perplexity)
        for number in comparisons:
            cells += [row.against[number].degradation.text, row.against[number].ratio]
        return [self._text(cell) for cell in cells]

    def _summary_cells(self, row: SummaryRow, comparisons: tuple[int, ...], *, with_losses: bool) -> list[Text]:
        cells = [row.label]
        if with_losses:
            cells.append("")
        cells.append(row.degradation.text)
        if with_losses:
            cells.append(row.relative_perplexity)
        for number in comparisons:
            cells += [row.against[number].degradation.text, row.against[number].ratio]
        return [self._text(cell, "bold") for cell in cells]

    def _line(self, text: str, style: str = "") -> None:
        self._console.print(self._text(text, style), soft_wrap=not self._console.is_terminal)

    def _text(self, text: str, style: str = "") -> Text:
        return Text(self._encodable(text), style=style)

    def _encodable(self, text: str) -> str:
        encoding = self._console.encoding
        return "".join(self._replaced(character, encoding) for character in text)

    def _replaced(self, character: str, encoding: str) -> str:
        try:
            character.encode(encoding)
        except UnicodeEncodeError:
            return _PLAIN.get(character) or character.encode(encoding, "backslashreplace").decode(encoding)
        return character

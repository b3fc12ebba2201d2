"""A run or a gate on a terminal: the tables, the verdict and the size, within 80 columns and in any encoding.

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
from inc_laaciq.report.rows import LanguageRow, SummaryRow
from inc_laaciq.report.view import RATIO_MEANING, UNIT_MEANING, View, view

_STYLES = {"PASS": "bold green", "FAIL": "bold red"}
_DOUBTFUL = "bold yellow"
_UNLIMITED = 10_000
_PLAIN = {numbers.PLUS_MINUS: "+-"}


def print_run(run: Mapping[str, Any], console: Console) -> None:
    """Print the content of `laaciq.json`, or the document of a gate.

    Parameters
    ----------
    run : mapping
        Schema `inc-laaciq/run/1` or `inc-laaciq/gate/1`.
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
            if shown.has_verdicts:
                self._verdicts(shown)
            if shown.comparisons or not shown.has_verdicts:
                self._tables(shown)
            self._line("")
            for row in shown.languages:
                if row.missing:
                    self._line(f"{row.name} ({row.tag}) was not evaluated: {row.missing}", _DOUBTFUL)
            self._ratios(shown)
            if shown.noise:
                self._line(shown.noise)
            meanings = (
                UNIT_MEANING,
                shown.interval_meaning,
                RATIO_MEANING if shown.comparisons else "",
            )
            self._line(" ".join(meaning for meaning in meanings if meaning), "dim", wrap=True)
        self._line("")
        for note in shown.notes:
            self._line(f"note: {note}")
        if shown.layer_summary:
            self._line(shown.layer_summary)
        if shown.size is not None:
            layers = f" (quantized layers {shown.size.layers})" if shown.size.layers else ""
            self._line(f"size: {shown.size.whole}{layers}")
        for waiver in shown.waivers:
            self._line(f"waiver of {waiver.language}, {waiver.limit}: {waiver.words}", _DOUBTFUL)
        for trial in shown.trials:
            self._line(f"trial {trial.number}: {trial.verdict}, {trial.description}, worst {trial.worst}")
        if shown.signature:
            self._line(f"signature: {shown.signature}", "dim")
        self._line(f"verdict: {shown.verdict}", _STYLES.get(shown.verdict, _DOUBTFUL))
        for reason in shown.reasons:
            self._line(reason)  # it begins its line with the verdict, so that it can be searched for

    def _verdicts(self, shown: View) -> None:
        """One line a language, which begins with its verdict, worst first; then the figures over all of them."""
        headers = ["verdict", "tag", "language", "degradation", "perplexity", "limit"]
        cells = [_verdict_cells(row) for row in shown.languages]
        rows = [[self._text(line[0], _STYLES.get(line[0], _DOUBTFUL)), *map(self._text, line[1:])] for line in cells]
        totals = [
            self._row("", "", [row.label, row.degradation.short, row.relative_perplexity, ""], "bold")
            for row in shown.summary
        ]
        table = self._laid_out(headers, rows, totals, names=2)
        if self._fits(table):
            self._console.print(table)
            return
        for verdict, tag, name, degradation, perplexity, limit in cells:
            figures = (degradation, perplexity, f"limit {limit}" if limit else "")
            self._line(f"{verdict} {tag} {name}: {', '.join(figure for figure in figures if figure)}")
        for row in shown.summary:
            self._line(f"{row.label}: {row.degradation.short}")

    def _tables(self, shown: View) -> None:
        every = tuple(range(len(shown.comparisons)))
        tables = [self._table(shown, every, whole=True)]
        if every and not self._fits(tables[0]):
            # This run by itself, then each comparison in a table of its own.
            tables = [self._table(shown, (), whole=True)]
            tables += [self._table(shown, (number,), whole=False) for number in every]
        if not all(self._fits(table) for table in tables):
            self._plain_lines(shown)
            return
        for number, table in enumerate(tables):
            if number:
                self._line("")
            self._console.print(table)

    def _fits(self, table: Table) -> bool:
        """Whether nothing would have to be cut: names may be wrapped between words, numbers may not."""
        options = self._console.options.update(max_width=_UNLIMITED)
        return Measurement.get(self._console, options, table).minimum <= self._console.width

    def _table(self, shown: View, comparisons: tuple[int, ...], *, whole: bool) -> Table:
        """Table of languages and aggregates; not `whole`: without what this run's own table has shown already."""
        headers = ["tag", "language", *_headers(shown, comparisons, whole=whole)]
        rows = [self._row(row.tag, row.name, self._numbers(row, comparisons, whole=whole)) for row in shown.languages]
        totals = [
            self._row("", total.label, self._numbers(total, comparisons, whole=whole), "bold")
            for total in shown.summary
        ]
        return self._laid_out(headers, rows, totals, names=1)

    def _laid_out(self, headers: list[str], rows: list[list[Text]], totals: list[list[Text]], *, names: int) -> Table:
        """Table whose column number `names` may be wrapped; what follows it are numbers."""
        table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
        for number, header in enumerate(headers):
            widths = [row[number].cell_len for row in (*rows, *totals) if number < len(row)]
            table.add_column(
                self._text(header),
                justify="right" if number > names else "left",
                overflow="fold",
                no_wrap=number != names,
                min_width=None if number == names else max([*widths, self._text(header).cell_len]),
            )
        for row in rows:
            table.add_row(*row)
        table.add_section()
        for row in totals:
            table.add_row(*row)
        return table

    def _row(self, tag: str, name: str, cells: list[str], style: str = "") -> list[Text]:
        return [self._text(cell, style) for cell in (tag, name, *cells)]

    def _numbers(self, row: LanguageRow | SummaryRow, comparisons: tuple[int, ...], *, whole: bool) -> list[str]:
        """Cells of a row under `_headers`."""
        is_missing = isinstance(row, LanguageRow) and bool(row.missing)
        degradation = "not evaluated" if is_missing else row.degradation.text
        cells = [row.baseline_loss if isinstance(row, LanguageRow) and not is_missing else "", degradation]
        cells.append("" if is_missing else row.relative_perplexity)
        if not whole:
            cells = [degradation]
        for number in () if is_missing else comparisons:
            cells += [row.against[number].degradation.text, row.against[number].ratio]
        return cells

    def _plain_lines(self, shown: View) -> None:
        """Print the same, a line for each language and aggregate, where the console is too narrow for a table."""
        every = tuple(range(len(shown.comparisons)))
        headers = _headers(shown, every, whole=True)
        rows: list[LanguageRow | SummaryRow] = [*shown.languages, *shown.summary]
        for row in rows:
            name = f"{row.tag} {row.name}" if isinstance(row, LanguageRow) else row.label
            cells = zip(headers, self._numbers(row, every, whole=True), strict=False)
            self._line(f"{name}: {', '.join(f'{header} {cell}' for header, cell in cells if cell)}")

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
        # GitHub takes a line of a log that begins with `::`, or holds `##[`, as a command; any word can begin a line.
        text = text.replace("::", ": :").replace("##[", "## [")
        encoding = self._console.encoding
        return text if _can_write(text, encoding) else "".join(_replaced(character, encoding) for character in text)


def _verdict_cells(row: LanguageRow) -> list[str]:
    name = f"{row.name} (waived)" if row.is_waived else row.name
    if row.missing:
        return [row.verdict, row.tag, name, "not evaluated", "", ""]
    return [row.verdict, row.tag, name, row.degradation.short, row.relative_perplexity, row.limit]


def _headers(shown: View, comparisons: tuple[int, ...], *, whole: bool) -> list[str]:
    headers = ["float loss", "degradation", "perplexity"] if whole else ["degradation"]
    for number in comparisons:
        headers += [shown.comparisons[number], "ratio"]
    return headers


def _can_write(text: str, encoding: str) -> bool:
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True


def _replaced(character: str, encoding: str) -> str:
    if _can_write(character, encoding):
        return character
    return _PLAIN.get(character) or character.encode(encoding, "backslashreplace").decode(encoding)

"""A table of losses by language, as any tool or spreadsheet can write it.

The header names the columns, in any order: `language`; one of `loss` (mean nats per token) and `perplexity` (its
exponential); and optionally `tokens`, `bytes` (UTF-8), `sentence` (what a row is paired by) and `document`.  Commas,
semicolons or tabs are between them.

What the rows become: the loss of a sentence is `loss` times `tokens`.  Without `tokens` every row counts as one token,
and `bytes` are set aside, because a mean per token cannot be turned into nats per byte without the number of tokens.
A language with one row has a value and no interval, if all have one row and none is named; else it is a language with
one sentence.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from inc_laaciq.errors import DataError, SpecError
from inc_laaciq.evaluation.foreign_files import open_results, shown
from inc_laaciq.evaluation.losses import SentenceLosses
from inc_laaciq.evaluation.measured import Evaluation
from inc_laaciq.evaluation.results import canonical_sha256
from inc_laaciq.languages import canonical, canonical_languages

COLUMNS = ("language", "loss", "perplexity", "tokens", "bytes", "sentence", "document")
MAX_ROWS = 2_000_000

_SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab"}
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,4})?", re.ASCII)
_WHOLE = re.compile(r"\d{1,15}(\.0*)?", re.ASCII)
_NO_VALUE = {"", "nan", "na", "n/a", "null", "none", "-nan"}
_INFINITE = {"inf", "infinity"}


@dataclass(frozen=True)
class _Row:
    line: int
    loss: float  # mean nats per token; NaN or infinite where there is no value
    tokens: int | None
    n_bytes: int | None
    sentence: str | None
    document: str | None

    @property
    def is_unnamed(self) -> bool:
        return self.sentence is None and self.document is None


def read_csv(path: Path | str) -> Evaluation:
    """Read a table of losses.

    Parameters
    ----------
    path : path
        CSV in UTF-8, at most `MAX_ROWS` rows; the module says which columns.

    Returns
    -------
    Evaluation
        A language with a row that has no finite value is in `missing`, with the line.

    Raises
    ------
    DataError
        If the file cannot be read, or a cell is malformed; with the line.
    """
    path = Path(path)
    rows, has_tokens = _read_rows(path)
    losses: dict[str, SentenceLosses] = {}
    missing: dict[str, str] = {}
    content: dict[str, object] = {}
    is_single = all(len(found) == 1 for found in rows.values())
    for tag, found in rows.items():
        bad = next((row for row in found if not math.isfinite(row.loss)), None)
        if bad is not None:
            what = "infinite" if math.isinf(bad.loss) else "empty or NaN"
            missing[tag] = f"the value in line {bad.line} is {what}"
            content[tag] = None
            continue
        losses[tag] = _losses(tag, found, path, is_point=is_single and found[0].is_unnamed)
        content[tag] = [losses[tag].fingerprint, losses[tag].loss.tolist()]
    return Evaluation(
        source=str(path),
        id=canonical_sha256({"kind": "csv", "languages": content}),
        losses=losses,
        missing=missing,
        notes=_notes(rows, losses, has_tokens),
    )


def is_header(line: str) -> bool:
    """Whether a line can be the header of such a table."""
    cells = re.split("[,;\t]", line)
    return "language" in {cell.strip().strip('"').strip().lower() for cell in cells}


def _notes(rows: dict[str, list[_Row]], losses: dict[str, SentenceLosses], has_tokens: bool) -> tuple[str, ...]:
    points = [tag for tag, found in losses.items() if found.is_point]
    by_sentence = [tag for tag, found in losses.items() if not found.is_point]
    notes = []
    if points:
        notes.append(f"there is one value for {', '.join(points)}, so no interval is known")
    if by_sentence and not has_tokens:
        notes.append("the number of tokens is not given, so every sentence counts as one token")
    if not has_tokens and any(row.n_bytes is not None for found in rows.values() for row in found):
        notes.append("without the number of tokens, the number of bytes cannot be used")
    if any(rows[tag][0].sentence is None for tag in by_sentence):
        notes.append("sentences have no names, so they are paired in the order of the rows")
    return tuple(notes)


def _losses(tag: str, rows: Sequence[_Row], path: Path, *, is_point: bool) -> SentenceLosses:
    """Losses of one language; in the order of the sentences' names, if they have any."""
    if rows[0].sentence is not None:
        rows = sorted(rows, key=lambda row: row.sentence or "")
    has_bytes = rows[0].tokens is not None and rows[0].n_bytes is not None
    document: dict[str, int] = {}
    loss = [row.loss * (row.tokens or 1) for row in rows]
    for row, value in zip(rows, loss, strict=True):
        if not math.isfinite(value):
            raise DataError(f"{path}:{row.line}: the loss times the tokens is too large a number.")
    return SentenceLosses(
        tag=tag,
        loss=loss,  # type: ignore[arg-type]
        tokens=[row.tokens or 1 for row in rows],  # type: ignore[arg-type]
        n_bytes=[row.n_bytes or 0 if has_bytes else 0 for row in rows],  # type: ignore[arg-type]
        document=[  # type: ignore[arg-type]
            number if row.document is None else document.setdefault(row.document, len(document))
            for number, row in enumerate(rows)
        ],
        text_sha256="" if rows[0].sentence is None else canonical_sha256([row.sentence for row in rows]),
        is_point=is_point,
    )


def _read_rows(path: Path) -> tuple[dict[str, list[_Row]], bool]:
    """Rows of every language, and whether tokens are given."""
    found: dict[str, list[_Row]] = defaultdict(list)
    tags: dict[str, str] = {}
    sentences: set[tuple[str, str]] = set()
    columns: tuple[str, ...] = ()
    for count, (line, cells) in enumerate(_cells(path)):
        where = f"{path}:{line}"
        if not columns:
            columns = _columns(cells, where)
            continue
        if count > MAX_ROWS:
            raise DataError(f"{where}: more than {MAX_ROWS} rows. Measure fewer sentences of each language.")
        if len(cells) != len(columns):
            raise DataError(f"{where}: {len(cells)} cells, and the header has {len(columns)}.")
        values = dict(zip(columns, cells, strict=True))
        tag = _tag(values["language"], tags, where)
        row = _row(values, line, where)
        if row.sentence is not None and (tag, row.sentence) in sentences:
            raise DataError(f"{where}: the sentence {shown(row.sentence)} of {tag} is there twice.")
        sentences.add((tag, row.sentence or ""))
        if found[tag] and (found[tag][0].n_bytes is None) != (row.n_bytes is None):
            raise DataError(f"{where}: some rows of {tag} have bytes and others have none. Give all or none.")
        found[tag].append(row)
    if not found:
        raise DataError(f"{path}: there are no rows below the header.")
    return dict(found), "tokens" in columns


def _cells(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Line number and cells of every row that is not empty, the header first."""
    with open_results(path) as file:
        head = file.read(4)
        if head.startswith((b"\xff\xfe", b"\xfe\xff")):
            raise DataError(f"{path}: is UTF-16. Save it as CSV in UTF-8.")
        file.seek(0)
        text = io.TextIOWrapper(file, encoding="utf-8-sig", newline="")
        try:
            separator = _separator(text.readline(csv.field_size_limit()), path)
            text.seek(0)
            reader = csv.reader(text, delimiter=separator, strict=True)
            for cells in reader:
                stripped = [cell.strip() for cell in cells]
                if any("\0" in cell for cell in cells):
                    raise DataError(f"{path}:{reader.line_num}: there is a NUL character.")
                if any(stripped):
                    yield reader.line_num, stripped
        except UnicodeDecodeError as error:
            raise DataError(f"{path}: is not UTF-8: {error.reason}. Save it as CSV in UTF-8.") from None
        except csv.Error as error:
            raise DataError(f"{path}:{reader.line_num}: is not CSV: {error}.") from None
        finally:
            text.detach()


def _separator(header: str, path: Path) -> str:
    there = [mark for mark in _SEPARATORS if mark in header]
    if len(there) > 1:
        names = " and ".join(_SEPARATORS[mark] for mark in there)
        raise DataError(f"{path}:1: the header has more than one separator: {names}. Use commas throughout.")
    return there[0] if there else ","


def _columns(cells: Sequence[str], where: str) -> tuple[str, ...]:
    columns = tuple(cell.lower() for cell in cells)
    allowed = f"Columns are {', '.join(COLUMNS)}"
    unknown = [shown(column, 40) for column in columns if column not in COLUMNS]
    if unknown:
        raise DataError(f"{where}: the header has the unknown column {' and '.join(unknown[:10])}. {allowed}.")
    twice = [column for column in COLUMNS if columns.count(column) > 1]
    if twice:
        raise DataError(f"{where}: the header has the column {twice[0]} twice.")
    if "language" not in columns or ("loss" in columns) == ("perplexity" in columns):
        raise DataError(f"{where}: the header must have language and one of loss and perplexity. {allowed}.")
    return columns


def _tag(spelling: str, tags: dict[str, str], where: str) -> str:
    """Canonical tag; each language in one spelling, so that none is counted twice."""
    if spelling not in tags:
        try:
            canonical_languages([*tags, spelling])
            tags[spelling] = canonical(spelling)
        except SpecError as error:
            raise DataError(f"{where}: {error}") from None
    return tags[spelling]


def _row(values: dict[str, str], line: int, where: str) -> _Row:
    return _Row(
        line=line,
        loss=_loss(values, where),
        tokens=_count(values, "tokens", where, may_be_empty=False),
        n_bytes=_count(values, "bytes", where, may_be_empty=True),
        sentence=_text(values, "sentence", where),
        document=_text(values, "document", where),
    )


def _loss(values: dict[str, str], where: str) -> float:
    """Mean nats per token; NaN or infinite where the cell says so."""
    column = "loss" if "loss" in values else "perplexity"
    cell = values[column]
    if cell.lower() in _NO_VALUE:
        return math.nan
    if cell.lower().lstrip("+") in _INFINITE:
        return math.inf
    if not _NUMBER.fullmatch(cell):
        hint = " Write a point before the decimals." if re.fullmatch(r"[+-]?\d+,\d+", cell) else ""
        raise DataError(f"{where}: {column} is {shown(cell, 40)}, and must be a number.{hint}")
    value = float(cell)
    if column == "loss":
        if value < 0:
            raise DataError(f"{where}: loss is {cell}, and must not be negative: it is a mean negative log-likelihood.")
        return value
    if value < 1:
        raise DataError(f"{where}: perplexity is {cell}, and cannot be below 1.")
    return math.log(value)


def _count(values: dict[str, str], column: str, where: str, *, may_be_empty: bool) -> int | None:
    cell = values.get(column)
    if cell is None or (may_be_empty and not cell):
        return None
    if not _WHOLE.fullmatch(cell) or float(cell) < 1:
        raise DataError(f"{where}: {column} is {shown(cell, 40)}, and must be a whole number from 1.")
    return int(float(cell))


def _text(values: dict[str, str], column: str, where: str) -> str | None:
    cell = values.get(column)
    if cell == "":
        raise DataError(f"{where}: {column} is empty. Fill it in every row, or leave the column out.")
    return cell

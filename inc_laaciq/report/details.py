"""Parts that only some documents have, as texts: trials of a tuning loop, worst sentences, and damage by layer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from inc_laaciq.report import numbers
from inc_laaciq.report.characters import visible
from inc_laaciq.report.checks import known_verdict, texts_of
from inc_laaciq.report.document import Document, items, section, sections

#: Shades of the heat map on either side of zero.
SHADES = 6

# A map with more than this cannot be read, and would make a page of many megabytes.
_MAX_LAYERS = 200
_MAX_LANGUAGES = 60
_MAX_SENTENCES = 20
_MAX_SENTENCE = 600


@dataclass(frozen=True, kw_only=True)
class TrialRow:
    """One setting that a tuning loop tried."""

    number: str
    description: str
    verdict: str
    worst: str
    disparity: str
    bytes: str
    reasons: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class SentenceRow:
    """One sentence; `text` is empty where the document holds none."""

    index: str
    degradation: str
    text: str


@dataclass(frozen=True, kw_only=True)
class SentenceList:
    """Worst sentences of a language, worst first; `tag` is that of the document, for matching."""

    tag: str
    name: str
    rows: tuple[SentenceRow, ...]


@dataclass(frozen=True, kw_only=True)
class HeatCell:
    """A number and its shade: 0 for none, up to `SHADES`; `is_gain` where the number is below zero."""

    text: str
    shade: int
    is_gain: bool


@dataclass(frozen=True, kw_only=True)
class Heat:
    """Damage of each layer to each language."""

    unit: str
    languages: tuple[str, ...]
    layers: tuple[tuple[str, tuple[HeatCell, ...]], ...]
    omitted: str


def trial_rows(document: Document, decimals: int) -> tuple[TrialRow, ...]:
    """Trials in the order in which they were made."""
    return tuple(_trial(entry, decimals) for entry in sections(document, "trials"))


def _trial(entry: Document, decimals: int) -> TrialRow:
    worst = numbers.millinats(entry.get("worst"), decimals, signed=True)
    tag = visible(entry.get("worst_language"))
    return TrialRow(
        number=numbers.count(entry.get("number")),
        description=visible(entry.get("description")),
        verdict=known_verdict(entry.get("verdict")),
        worst=f"{tag} {worst}" if tag and worst != numbers.UNKNOWN else worst,
        disparity=numbers.millinats(entry.get("disparity"), decimals),
        bytes=numbers.size(entry.get("bytes")),
        reasons=texts_of(entry, "reasons"),
    )


def sentence_lists(document: Document, order: Sequence[str], names: Mapping[str, str]) -> tuple[SentenceList, ...]:
    """Worst sentences of each language that has some, languages in the given order."""
    lists = section(document, "sentences")
    decimals = 1
    found = []
    for tag in order:
        rows = sorted(sections(lists, tag), key=_sentence_order)[:_MAX_SENTENCES]
        if rows:
            shown = tuple(
                SentenceRow(
                    index=numbers.count(row.get("index")),
                    degradation=numbers.millinats(row.get("degradation"), decimals, signed=True),
                    text=_clipped(visible(row.get("text"))),
                )
                for row in rows
            )
            found.append(SentenceList(tag=visible(tag), name=names.get(tag) or visible(tag), rows=shown))
    return tuple(found)


def _sentence_order(row: Document) -> tuple[float, float]:
    value, index = numbers.as_float(row.get("degradation")), numbers.as_float(row.get("index"))
    return (-value if value is not None and math.isfinite(value) else -math.inf), index or 0.0


def _clipped(text: str) -> str:
    return text if len(text) <= _MAX_SENTENCE else text[: _MAX_SENTENCE - 3] + "..."


def heat(document: Document) -> Heat | None:
    """Arrange the map of layers and languages; None if there is none."""
    given = section(document, "heat")
    layers, languages, values = items(given, "layers"), items(given, "languages"), items(given, "values")
    if not layers or not languages or not values:
        return None
    rows = [_numbers(values[n] if n < len(values) else (), len(languages)) for n in range(len(layers))]
    # What is left out is the least: rows by their largest number, columns as the document has them.
    kept = sorted(sorted(range(len(rows)), key=lambda n: (-_size(rows[n]), n))[:_MAX_LAYERS])
    columns = range(min(len(languages), _MAX_LANGUAGES))
    top = max((_size([rows[n][c] for c in columns]) for n in kept), default=0.0)
    n_rows, n_columns = len(rows) - len(kept), len(languages) - len(columns)
    omitted = [f"{n_rows} layers with less damage" if n_rows else "", f"{n_columns} languages" if n_columns else ""]
    return Heat(
        unit=visible(given.get("unit")),
        languages=tuple(visible(languages[c]) for c in columns),
        layers=tuple((visible(layers[n]), tuple(_cell(rows[n][c], top) for c in columns)) for n in kept),
        omitted=" and ".join(part for part in omitted if part),
    )


def _numbers(row: object, n: int) -> list[float | None]:
    given = list(row) if isinstance(row, Sequence) and not isinstance(row, (str, bytes)) else []
    return [numbers.as_float(given[c]) if c < len(given) else None for c in range(n)]


def _size(row: Sequence[float | None]) -> float:
    return max((abs(value) for value in row if value is not None and math.isfinite(value)), default=0.0)


def _cell(value: float | None, top: float) -> HeatCell:
    if value is None:
        return HeatCell(text="", shade=0, is_gain=False)
    share = abs(value) / top if top > 0.0 and math.isfinite(value) else 0.0
    return HeatCell(text=numbers.short(value), shade=min(SHADES, round(SHADES * share)), is_gain=value < 0.0)

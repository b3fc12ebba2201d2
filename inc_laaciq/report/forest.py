"""Geometry of the forest plot: where each degradation, its error bar and each tick stand, in percent of the width.

Percentages let one plot fit a desktop and a phone without scaling its text, and need no script.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from inc_laaciq.report import numbers
from inc_laaciq.report.view import Estimate, LanguageRow

#: Standard errors on either side of a mark: a 95 % interval of a normal estimate.
BAR = 1.96

#: Height of the line of one mark, in pixels.
MARK_HEIGHT = 14

# Beyond this many nats per byte the axis would overflow, and nothing could be read off it.
_PLOTTABLE = 1e6
_MAX_TICKS = 8
_COMPARISON_SHAPES = 3
# Above the first mark and below the last, in pixels.
_PADDING = 6
# Share of the width that is kept free at either end, in percent, so that no mark is cut.
_MARGIN = 3.0


@dataclass(frozen=True, kw_only=True)
class Mark:
    """One estimate; places are in percent of the width, `y` in pixels. `shape` is that of `shape_of`."""

    shape: int
    x: str
    low: str
    high: str
    y: float


@dataclass(frozen=True, kw_only=True)
class PlotRow:
    """Marks of one language, and the same in words."""

    row: LanguageRow
    marks: tuple[Mark, ...]
    words: str


@dataclass(frozen=True, kw_only=True)
class Tick:
    """A grid line and its number in millinats per byte."""

    x: str
    label: str
    is_zero: bool


@dataclass(frozen=True, kw_only=True)
class Forest:
    """The whole plot; `height` is that of a row in pixels."""

    rows: tuple[PlotRow, ...]
    ticks: tuple[Tick, ...]
    height: int


def forest(rows: Sequence[LanguageRow], comparisons: Sequence[str]) -> Forest | None:
    """Place the languages of a view on one axis.

    Parameters
    ----------
    rows : sequence of LanguageRow
        In the order of the plot.
    comparisons : sequence of str
        Names, in the order of each row's `against`.

    Returns
    -------
    Forest or None
        None if there is nothing to place.
    """
    estimates = [estimate for row in rows for estimate in _estimates(row) if _is_plottable(estimate)]
    if not estimates:
        return None
    axis = _Axis(estimates)
    return Forest(
        rows=tuple(PlotRow(row=row, marks=_marks(row, axis), words=_words(row, comparisons)) for row in rows),
        ticks=axis.ticks(),
        height=2 * _PADDING + MARK_HEIGHT * (1 + len(comparisons)),
    )


def shape_of(number: int) -> int:
    """Shape of a mark: 0 for this run, then 1 to 3 in turn for comparison 1, 2, ...

    Examples
    --------
    >>> [shape_of(number) for number in range(5)]
    [0, 1, 2, 3, 1]
    """
    return 1 + (number - 1) % _COMPARISON_SHAPES if number else 0


def _estimates(row: LanguageRow) -> tuple[Estimate, ...]:
    return (row.degradation, *(other.degradation for other in row.against))


def _is_plottable(estimate: Estimate) -> bool:
    return estimate.value is not None and abs(estimate.value) + _bar(estimate) <= _PLOTTABLE


def _bar(estimate: Estimate) -> float:
    return BAR * abs(estimate.standard_error or 0.0)


class _Axis:
    """From nats per byte to percent of the width."""

    def __init__(self, estimates: Iterable[Estimate]) -> None:
        ends = [end for e in estimates if e.value is not None for end in (e.value - _bar(e), e.value + _bar(e))]
        self._low, self._high = min(0.0, *ends), max(0.0, *ends)
        if self._high - self._low < 1e-9:  # all zero: any width will do
            self._low, self._high = -0.001, 0.001

    def place(self, nats: float) -> str:
        share = (nats - self._low) / (self._high - self._low)
        return f"{_MARGIN + (100.0 - 2.0 * _MARGIN) * share:.2f}%"

    def ticks(self) -> tuple[Tick, ...]:
        low, high = 1000.0 * self._low, 1000.0 * self._high
        rough = (high - low) / (_MAX_TICKS - 1)
        magnitude = 10.0 ** math.floor(math.log10(rough))
        step = magnitude * next(factor for factor in (1, 2, 5, 10) if factor * magnitude >= rough * (1 - 1e-9))
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        return tuple(
            Tick(x=self.place(k * step / 1000.0), label=f"{k * step:.6g}", is_zero=k == 0)
            for k in range(first, last + 1)
        )


def _marks(row: LanguageRow, axis: _Axis) -> tuple[Mark, ...]:
    marks = []
    for number, estimate in enumerate(_estimates(row)):
        if estimate.value is None or not _is_plottable(estimate):
            continue
        bar = _bar(estimate)
        marks.append(
            Mark(
                shape=shape_of(number),
                x=axis.place(estimate.value),
                low=axis.place(estimate.value - bar),
                high=axis.place(estimate.value + bar),
                y=_PADDING + MARK_HEIGHT * (number + 0.5),
            )
        )
    return tuple(marks)


def _words(row: LanguageRow, comparisons: Sequence[str]) -> str:
    if row.missing:
        return f"{row.name}: not evaluated, {row.missing}"
    others = "".join(f"; {name} {other.degradation.text}" for name, other in zip(comparisons, row.against, strict=True))
    return f"{row.name}: {row.degradation.text} {numbers.UNIT}{others}"

"""Geometry of the plots: where each degradation, its interval, its limit and each tick stand, in percent."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from inc_laaciq.report import numbers
from inc_laaciq.report.axis import Axis, Tick
from inc_laaciq.report.rows import Estimate, LanguageRow

#: Standard errors on either side of a mark: a 95 % interval of a normal estimate.
BAR = 1.96

#: Height of the line of one mark, in pixels.
MARK_HEIGHT = 14

# Beyond this many nats per byte the axis would overflow, and nothing could be read off it.
_PLOTTABLE = 1e6
_COMPARISON_SHAPES = 3
# Above the first mark and below the last, in pixels.
_PADDING = 6
# A limit further away than this many times the range of the figures is not drawn: it would flatten the plot.
_FAR = 1.5


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
    """Marks of one language, its limit (None: none, or too far to draw), and the same in words."""

    row: LanguageRow
    marks: tuple[Mark, ...]
    bound: str | None
    words: str


@dataclass(frozen=True, kw_only=True)
class Forest:
    """The whole plot; `height` is that of a row in pixels."""

    rows: tuple[PlotRow, ...]
    ticks: tuple[Tick, ...]
    height: int

    @property
    def has_bounds(self) -> bool:
        """Whether the limit of any language is drawn."""
        return any(row.bound is not None for row in self.rows)


@dataclass(frozen=True, kw_only=True)
class Dumbbell:
    """Loss of one language before and after, and the same in words."""

    row: LanguageRow
    before: str
    after: str
    words: str


@dataclass(frozen=True, kw_only=True)
class Dumbbells:
    """Losses of all languages before and after, in bits per byte."""

    rows: tuple[Dumbbell, ...]
    ticks: tuple[Tick, ...]


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
    ends = [end for estimate in estimates for end in _ends(estimate)]
    low, high = min(0.0, *ends), max(0.0, *ends)
    reach = _FAR * max(high - low, 1e-9)
    bounds = [row.bound for row in rows if row.bound is not None and low - reach <= row.bound <= high + reach]
    axis = Axis([*ends, *bounds], scale=1000.0)
    return Forest(
        rows=tuple(_plot_row(row, axis, comparisons) for row in rows),
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
    return estimate.value is not None and all(abs(end) <= _PLOTTABLE for end in _ends(estimate))


def _ends(estimate: Estimate) -> tuple[float, float]:
    """The interval, or what a standard error makes of one; the value is inside."""
    value = estimate.value or 0.0
    bar = BAR * abs(estimate.standard_error or 0.0)
    low = value - bar if estimate.low is None else estimate.low
    high = value + bar if estimate.high is None else estimate.high
    return min(low, value), max(high, value)


def _plot_row(row: LanguageRow, axis: Axis, comparisons: Sequence[str]) -> PlotRow:
    is_drawn = row.bound is not None and math.isfinite(row.bound) and axis.holds(row.bound)
    return PlotRow(
        row=row,
        marks=_marks(row, axis),
        bound=axis.place(row.bound) if is_drawn and row.bound is not None else None,
        words=_words(row, comparisons),
    )


def _marks(row: LanguageRow, axis: Axis) -> tuple[Mark, ...]:
    marks = []
    for number, estimate in enumerate(_estimates(row)):
        if estimate.value is None or not _is_plottable(estimate):
            continue
        low, high = _ends(estimate)
        marks.append(
            Mark(
                shape=shape_of(number),
                x=axis.place(estimate.value),
                low=axis.place(low),
                high=axis.place(high),
                y=_PADDING + MARK_HEIGHT * (number + 0.5),
            )
        )
    return tuple(marks)


def _words(row: LanguageRow, comparisons: Sequence[str]) -> str:
    if row.missing:
        return f"{row.name}: not evaluated, {row.missing}"
    others = "".join(f"; {name} {other.degradation.text}" for name, other in zip(comparisons, row.against, strict=True))
    verdict = f", {row.outcome}" if row.verdict else ""
    limit = f", limit {row.limit}" if row.limit else ""
    return f"{row.name}: {row.degradation.short} {numbers.UNIT}{limit}{verdict}{others}"


def dumbbells(rows: Sequence[LanguageRow]) -> Dumbbells | None:
    """Place the losses of all languages before and after on one axis; None if there is nothing to place.

    Parameters
    ----------
    rows : sequence of LanguageRow
        In the order of the plot; those without both losses are left out.
    """
    known = [
        (row, row.bits.before_value, row.bits.after_value)
        for row in rows
        if row.bits.before_value is not None and row.bits.after_value is not None
    ]
    placed = [(row, before, after) for row, before, after in known if max(abs(before), abs(after)) <= _PLOTTABLE]
    if not placed:
        return None
    axis = Axis((loss for _, before, after in placed for loss in (before, after)), include_zero=False)
    return Dumbbells(
        rows=tuple(
            Dumbbell(
                row=row,
                before=axis.place(before),
                after=axis.place(after),
                words=f"{row.name}: {row.bits.before} bits per byte before, {row.bits.after} after",
            )
            for row, before, after in placed
        ),
        ticks=axis.ticks(),
    )

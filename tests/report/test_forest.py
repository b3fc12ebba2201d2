from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_runs import language, sample_run

from inc_laaciq.report.forest import BAR, Forest, forest
from inc_laaciq.report.view import view


def plot_of(run: dict) -> Forest | None:
    shown = view(run)
    return forest(shown.languages, shown.comparisons)


def percent(place: str) -> float:
    assert place.endswith("%")
    return float(place[:-1])


def run_of(*estimates: tuple[float | None, float]) -> dict:
    languages = {
        f"l{number}": language(f"L{number}", 0.0) | {"degradation": value, "standard_error": error}
        for number, (value, error) in enumerate(estimates)
    }
    return sample_run(languages=languages, comparisons={})


def scale_of(plot: Forest) -> tuple[float, float]:
    """Place of zero, and percent of the width per nat, read off the ticks."""
    first, last = plot.ticks[0], plot.ticks[-1]
    slope = (percent(last.x) - percent(first.x)) / (float(last.label) - float(first.label)) * 1000
    return percent(first.x) - slope * float(first.label) / 1000, slope


def test_marks_and_bars_stand_where_the_ticks_say() -> None:
    plot = plot_of(sample_run())
    assert plot is not None
    zero, slope = scale_of(plot)
    ours, theirs = plot.rows[0].marks
    for mark, value in ((ours, 0.0124), (theirs, 0.0248)):
        assert percent(mark.x) == pytest.approx(zero + slope * value, abs=0.02)
        assert percent(mark.low) == pytest.approx(zero + slope * (value - BAR * 0.0021), abs=0.02)
        assert percent(mark.high) == pytest.approx(zero + slope * (value + BAR * 0.0021), abs=0.02)
    assert (ours.shape, theirs.shape) == (0, 1)
    assert 0 < ours.y < theirs.y < plot.height


@given(
    st.lists(
        st.tuples(st.floats(-10, 10) | st.floats(-1e-6, 1e-6), st.floats(0, 5) | st.floats(0, 1e-9)),
        min_size=1,
        max_size=5,
    )
)
def test_everything_stands_inside_and_in_order(estimates: list[tuple[float, float]]) -> None:
    plot = plot_of(run_of(*estimates))
    assert plot is not None
    ticks = [percent(tick.x) for tick in plot.ticks]
    assert ticks == sorted(ticks)
    assert 1 <= len(ticks) <= 9
    assert [tick.is_zero for tick in plot.ticks].count(True) == 1
    assert len({tick.label for tick in plot.ticks}) == len(ticks)
    for row in plot.rows:
        for mark in row.marks:
            assert 0 <= percent(mark.low) <= percent(mark.x) <= percent(mark.high) <= 100


@pytest.mark.parametrize("value", [math.nan, math.inf, None, 1e300], ids=str)
def test_what_cannot_be_placed_is_left_out_of_the_plot_but_not_of_the_rows(value: float | None) -> None:
    plot = plot_of(run_of((0.01, 0.001), (value, 0.001)))
    assert plot is not None
    assert sorted((row.row.tag, len(row.marks)) for row in plot.rows) == [("l0", 1), ("l1", 0)]


def test_without_a_number_there_is_no_plot() -> None:
    assert plot_of(sample_run(languages={"he": {"missing": "no text"}}, comparisons={})) is None
    assert plot_of(run_of((math.nan, 0.1))) is None


def test_all_zero_is_plotted() -> None:
    plot = plot_of(run_of((0.0, 0.0)))
    assert plot is not None
    assert plot.rows[0].marks[0].x == next(tick.x for tick in plot.ticks if tick.is_zero)


def test_each_row_is_said_in_words() -> None:
    plot = plot_of(sample_run())
    assert plot is not None
    assert plot.rows[0].words == "Swahili: +12.4 ± 2.1 mnat/B; INC RTN +24.8 ± 2.1"
    assert plot.rows[-1].words == "Hebrew: not evaluated, no text was found"

import time

import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st

from inc_laaciq.calibration.lines import Collector, cut, is_blank
from inc_laaciq.errors import DataError

GRAPHEMES = ("e\u0301", "👨‍👩‍👧‍👦", "🇰🇪", "👍🏽", "क्षि", "กำ", "각", "ñ", "\u0600١", "ᄀ" + "ᅡ" + "ᆨ")


@given(st.text(min_size=1), st.integers(1, 9))
def test_pieces_join_to_the_line_again(line, limit):
    pieces = list(cut(line, limit))
    assert "".join(pieces) == line
    assert all(0 < len(piece) <= limit for piece in pieces)


@pytest.mark.parametrize("grapheme", GRAPHEMES, ids=ascii)
def test_no_cut_falls_inside_a_visible_character_row19(grapheme):
    for inside in range(1, len(grapheme)):
        line = "x" * (60 - inside) + grapheme + "x" * 60
        boundaries = {match.end() for match in regex.finditer(r"\X", line)}  # independent: the rules of Unicode
        first, *_ = cut(line, 60)
        assert 45 <= len(first) <= 60
        assert len(first) in boundaries


def test_cut_prefers_white_space():
    pieces = list(cut("word " * 100, 23))
    assert all(piece.endswith(" ") for piece in pieces)


@pytest.mark.parametrize("line", ["x" * 10_000_000, "e\u0301" * 5_000_000, "\u0301" * 10_000_000], ids=len)
def test_ten_megabytes_are_cut_in_linear_time_row19(line):
    started = time.process_time()
    pieces = list(cut(line))
    assert time.process_time() - started < 3
    assert len(pieces) < 1.4 * len(line) / 4096 + 1
    assert sum(map(len, pieces)) == len(line)


@pytest.mark.parametrize("line", ["", " \t", "\u3000\u00a0", "\ufeff", "\u200b \u200d", "\u200b \u200d \u200b"])
def test_invisible_lines_are_blank_row14(line):
    assert is_blank(line)
    assert not is_blank(line + "a")


def test_damage_is_counted_up_to_one_percent_row17():
    collector = Collector("sw.txt")
    for number in range(99):
        collector.add("good", document=number, where=f"sw.txt:{number}")
    collector.add("a\0b", document=99, where="sw.txt:100")
    assert collector.text("sw").n_skipped == 1
    assert len(collector.text("sw").lines) == 99
    assert collector.notes() == [
        "sw.txt: 1 damaged line was skipped of 100; the first is sw.txt:100: a NUL character in column 2."
    ]
    collector.add("lone \ud800", document=100, where="sw.txt:101")
    with pytest.raises(DataError, match=r"2 of 101 lines are damaged, more than 1%. The first is sw.txt:100: a NUL"):
        collector.text("sw")


def test_a_lone_surrogate_is_damage_row17():
    collector = Collector("x")
    collector.add("ab\udc80", document=0, where="x:1")
    with pytest.raises(DataError, match=r"x:1: a lone surrogate, U\+DC80, in column 3"):
        collector.text("sw")

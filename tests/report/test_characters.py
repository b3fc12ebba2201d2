from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_runs import hostile_texts

from inc_laaciq.report.characters import visible, visible_lines

JOINERS = "\u200c\u200d"


@pytest.mark.parametrize(
    ("given_text", "shown"),
    [
        ("\x1b[31mred", "\\x1b[31mred"),
        ("\x9b2J", "\\x9b2J"),
        ("a\u202eb\u2066c\u200f", "a\\u202eb\\u2066c\\u200f"),
        ("\U000e0041", "\\U000e0041"),
        ("\ud800", "\\ud800"),
        ("\ufeffx\u200b", "\\ufeffx\\u200b"),
        (" a\t\r\n b ", "a b"),
        ("می\u200cخواهم", "می\u200cخواهم"),
        ("नी\u200dक", "नी\u200dक"),
        ("Bokmål 中文 العربية", "Bokmål 中文 العربية"),
        (None, ""),
        (4096, "4096"),
    ],
    ids=["ansi", "c1", "bidi", "tag", "surrogate", "zero-width", "white", "zwnj", "zwj", "scripts", "none", "number"],
)
def test_hidden_characters_are_shown_and_text_of_any_script_is_kept(given_text: object, shown: str) -> None:
    assert visible(given_text) == shown


@given(hostile_texts() | st.text())
def test_nothing_hidden_is_left(text: str) -> None:
    for shown, allowed in ((visible(text), JOINERS), (visible_lines(text), JOINERS + "\n")):
        hidden = {"Cc", "Cf", "Cs", "Zl", "Zp"}
        assert [c for c in shown if unicodedata.category(c) in hidden and c not in allowed] == []
        shown.encode("utf-8")


@given(st.text())
def test_showing_twice_changes_nothing(text: str) -> None:
    assert visible(visible(text)) == visible(text)


def test_lines_and_indents_are_kept() -> None:
    assert visible_lines("a:\n  b: 1\r\n\n") == "a:\n  b: 1\\x0d"

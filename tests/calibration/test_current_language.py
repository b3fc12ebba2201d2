"""The language of a batch, told around the call that runs it."""

from __future__ import annotations

import threading

import pytest

import inc_laaciq
from inc_laaciq.calibration.current_language import calibration_language, current_language
from inc_laaciq.errors import SpecError


def test_tags_are_canonical_blocks_nest_and_end():
    assert inc_laaciq.calibration_language is calibration_language
    assert current_language() is None
    with calibration_language("swh_Latn") as outer:
        assert outer == current_language() == "sw"
        with calibration_language("EN"):
            assert current_language() == "en"
        assert current_language() == "sw"
    assert current_language() is None


def test_a_block_that_fails_ends_too():
    with pytest.raises(RuntimeError, match="out of memory"), calibration_language("fi"):
        raise RuntimeError("out of memory")
    assert current_language() is None


def test_an_unknown_language_changes_nothing():
    with calibration_language("fi"):
        with pytest.raises(SpecError, match="not a known language"), calibration_language("klingonish"):
            pass
        assert current_language() == "fi"


def test_a_block_holds_in_its_own_thread():
    found = []
    with calibration_language("fi"):
        thread = threading.Thread(target=lambda: found.append(current_language()))
        thread.start()
        thread.join()
    assert found == [None]

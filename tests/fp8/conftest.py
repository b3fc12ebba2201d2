"""Measurements of two languages."""

from __future__ import annotations

import pytest
from fp8_dumps import measurement, write


@pytest.fixture
def dumps(tmp_path):
    """A folder of English and Swahili; the ranges of Swahili are 4 and 2 times as large, and half as large."""
    write(tmp_path / "dumps/en", measurement(3.0, 1.0, samples=4))
    write(tmp_path / "dumps/sw", measurement(12.0, 0.5, samples=5))
    return tmp_path / "dumps"

"""The shipped model, and a small part of its text."""

from __future__ import annotations

from pathlib import Path

import pytest

from inc_laaciq.checkpoint import load_model

SMALL = Path(__file__).parents[2] / "recipes/small_bloom"


@pytest.fixture(scope="session")
def small():
    return load_model(SMALL / "model")


@pytest.fixture(scope="session")
def texts():
    return SMALL / "text/calibration"

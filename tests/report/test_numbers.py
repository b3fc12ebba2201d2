from __future__ import annotations

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inc_laaciq.report import numbers

WRITERS = {
    "millinats": lambda value: numbers.millinats(value, 1),
    "signed": lambda value: numbers.millinats(value, 1, signed=True),
    "degradation": lambda value: numbers.degradation(value, value, 1),
    "percent": numbers.percent,
    "points": numbers.points,
    "ratio": numbers.ratio,
    "interval": lambda value: numbers.interval(value, value),
    "count": numbers.count,
    "size": numbers.size,
    "seconds": numbers.seconds,
}


@pytest.mark.parametrize("writer", WRITERS.values(), ids=WRITERS)
@pytest.mark.parametrize("value", [None, "0.5", "<b>", True, [1.0], {}, 1j], ids=repr)
def test_what_is_no_number_is_never_written_as_one(writer, value) -> None:
    assert writer(value) in (numbers.UNKNOWN, "")


@pytest.mark.parametrize("writer", WRITERS.values(), ids=WRITERS)
@given(value=st.floats() | st.integers() | st.sampled_from([10**400, -(10**400), 1e308, 5e-324]))
def test_any_number_is_written_in_few_plain_characters(writer, value) -> None:
    written = writer(value)
    assert len(written) <= 45
    assert re.fullmatch(r"[-+0-9.,e±ainfpxskMGTBbytes%/ \[\]]*", written)


@given(st.floats(-100, 100))
def test_a_written_degradation_reads_back(value: float) -> None:
    assert float(numbers.millinats(value, 3)) == pytest.approx(1000 * value, abs=0.00051)


def test_not_a_number_says_so() -> None:
    assert numbers.degradation(math.nan, 0.001, 1) == "nan ± 1.0"
    assert numbers.percent(math.inf) == "+inf"
    assert numbers.percent(-math.inf) == "-inf"


@pytest.mark.parametrize(("value", "shown"), [(-0.00001, "+0.0"), (-0.0, "+0.0"), (0.0, "+0.0"), (-0.0001, "-0.1")])
def test_there_is_no_negative_zero(value: float, shown: str) -> None:
    assert numbers.millinats(value, 1, signed=True) == shown


def test_a_number_that_would_be_long_gets_an_exponent() -> None:
    assert numbers.percent(1234567.0) == "+1.23e+08%"


@pytest.mark.parametrize(
    ("errors", "decimals"),
    [
        ([0.0013], 1),
        ([0.00099], 2),
        ([0.00013], 2),
        ([0.000013], 3),
        ([1e-9], 4),
        ([0.5], 1),
        ([], 2),
        ([math.nan, None, -1.0, 0.0, math.inf, "1"], 2),
        ([1e-9, 0.0013, 0.0013], 1),
        ([1e308], 1),
    ],
    ids=str,
)
def test_decimals_follow_the_usual_standard_error(errors: list[object], decimals: int) -> None:
    assert numbers.decimals_for(errors) == decimals


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0, "0 bytes"), (999, "999 bytes"), (1000, "1.0 kB"), (999_949, "999.9 kB"), (999_951, "1.0 MB"), (-1, "n/a"),
     (7_600_000_000, "7.6 GB"), (math.nan, "n/a"), (10**19, "10000000.0 TB".replace("10000000.0", "1e+07"))],
)  # fmt: skip
def test_sizes(value: float, shown: str) -> None:
    assert numbers.size(value) == shown

"""Row 10 of the table of faults: a bound has one meaning, and cannot be one that never fails."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inc_laaciq.config import Bound, format_bound, parse_bound
from inc_laaciq.errors import SpecError


@pytest.mark.parametrize(
    ("text", "value", "unit"),
    [
        ("10%", 0.10, "%"),
        ("0%", 0.0, "%"),
        ("100%", 1.0, "%"),
        (" 2.50 % ", 0.025, "%"),
        (".5%", 0.005, "%"),
        ("+1%", 0.01, "%"),
        ("0.02npb", 0.02, "npb"),
        ("2e-3npb", 0.002, "npb"),
        ("0 npb", 0.0, "npb"),
        ("0.5nps", 0.5, "nps"),
        ("12 nps", 12.0, "nps"),
        ("2pp", 0.02, "pp"),
        ("0.5 pp", 0.005, "pp"),
        ("100pp", 1.0, "pp"),
    ],
)
def test_bound_is_read(text: str, value: float, unit: str) -> None:
    assert parse_bound(text) == Bound(value=value, unit=unit)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given_bound", "reason"),
    [
        (0.1, r"has no unit. Write '10%' for relative perplexity or '0.1npb' for nats per UTF-8 byte"),
        (10, r"has no unit. Write '1000%' .* or '10npb'"),
        (float("nan"), "is not a finite number of 0 or more with a unit"),
        (float("inf"), "is not a finite number"),
        (-0.1, "is not a finite number of 0 or more"),
        ("10", "is not a bound. Write a number with a unit, such as '10%' or '0.02npb'"),
        ("nan%", "is not a bound"),
        ("inf%", "is not a bound"),
        ("10 percent", "is not a bound"),
        ("1O%", "is not a bound"),
        ("١٠%", "is not a bound"),
        ("1,5%", "is not a bound"),
        ("", "is not a bound"),
        (None, "is not a bound"),
        (True, "is not a bound"),
        (["10%"], "is not a bound"),
        ("-5%", "is negative"),
        ("-0.1npb", "is negative"),
        ("101%", "is out of range. Allowed: 0% to 100%"),
        ("1e999npb", "is out of range. Allowed: 0npb or more"),
        ("101pp", "is out of range. Allowed: 0pp to 100pp"),
        ("-1nps", "is negative"),
        ("1e999nps", "is out of range. Allowed: 0nps or more"),
        ("2p", r"is not a bound. .*'0.5nps' per aligned sentence, '2pp' for the accuracy of a task"),
        ("2 p p", "is not a bound"),
        ("2PP", "is not a bound"),
    ],
)
def test_row_10_wrong_bound_is_refused(given_bound: object, reason: str) -> None:
    with pytest.raises(SpecError, match=reason):
        parse_bound(given_bound)


@pytest.mark.parametrize(
    ("value", "unit"),
    [(float("nan"), "%"), (-0.1, "npb"), (1.1, "%"), (float("inf"), "npb"), (1.1, "pp"), (-1.0, "nps")],
)
def test_row_10_wrong_bound_cannot_be_made(value: float, unit: str) -> None:
    with pytest.raises(SpecError, match="out of range"):
        Bound(value=value, unit=unit)  # type: ignore[arg-type]


def test_unit_must_be_known() -> None:
    with pytest.raises(SpecError, match="unit='bits' of a bound is not known"):
        Bound(value=0.1, unit="bits")  # type: ignore[arg-type]
    with pytest.raises(SpecError, match="Allowed: '%', 'npb', 'nps', 'pp'"):
        Bound(value=0.1, unit="")  # type: ignore[arg-type]


@pytest.mark.parametrize("value", ["0.1", None, True])
def test_value_must_be_a_number(value: object) -> None:
    with pytest.raises(SpecError, match=f"value={value!r} of a bound is not a number"):
        Bound(value=value, unit="%")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10%", "10%"),
        ("2.50%", "2.5%"),
        ("0.10npb", "0.1npb"),
        ("1e-7npb", "0.0000001npb"),
        ("100%", "100%"),
        ("2.0pp", "2pp"),
        ("3nps", "3nps"),
    ],
)
def test_bound_is_written_plainly(text: str, expected: str) -> None:
    assert format_bound(parse_bound(text)) == expected
    assert str(parse_bound(text)) == expected


@given(st.sampled_from(["%", "npb", "nps", "pp"]), st.floats(0, 1))
def test_written_bound_is_read_back(unit: str, value: float) -> None:
    bound = Bound(value=value, unit=unit)  # type: ignore[arg-type]
    assert parse_bound(format_bound(bound)) == bound


@given(st.sampled_from(["npb", "nps"]), st.floats(0, allow_infinity=False))
def test_written_bound_is_read_back_however_large(unit: str, value: float) -> None:
    bound = Bound(value=value, unit=unit)  # type: ignore[arg-type]
    assert parse_bound(format_bound(bound)) == bound


@given(st.text(max_size=12) | st.floats() | st.integers())
def test_anything_gives_a_bound_or_a_spec_error(value: object) -> None:
    try:
        bound = parse_bound(value)
    except SpecError:
        return
    assert bound.value >= 0

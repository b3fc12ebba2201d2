"""Bounds of the gate: one syntax for every file and option that holds one.

`10%` means relative perplexity, which is how users think; `0.02npb` means nats per UTF-8 byte, and `0.5nps` nats per
aligned sentence, which is what languages can be compared on; `2pp` means percentage points of a task's accuracy.  A
bare number could be any of them, or a fraction, so it is refused.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal, cast, get_args

from inc_laaciq.errors import SpecError

Unit = Literal["%", "npb", "nps", "pp"]

UNITS: tuple[Unit, ...] = get_args(Unit)
#: Units of a bound on likelihood, and those of a bound on a task's accuracy.
LIKELIHOOD_UNITS: tuple[Unit, ...] = ("%", "npb", "nps")
TASK_UNITS: tuple[Unit, ...] = ("pp",)

# Their values are fractions of one, written as hundredths.
_HUNDREDTHS = ("%", "pp")
_BOUND = re.compile(r"\s*([+-]?)((?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?)\s*(%|npb|nps|pp)\s*")
_EXAMPLES = "'10%' or '0.02npb' ('0.5nps' per aligned sentence, '2pp' for the accuracy of a task)"


@dataclass(frozen=True, kw_only=True)
class Bound:
    """Largest degradation or disparity that the gate lets pass.

    Parameters
    ----------
    value : float
        For `%` a fraction from 0 to 1 (`10%` is 0.10): relative perplexity; for a disparity, points of it.
        For `npb` nats per UTF-8 byte, for `nps` nats per aligned sentence: 0 or more.
        For `pp` a fraction from 0 to 1 (`2pp` is 0.02): percentage points of accuracy.
    unit : "%", "npb", "nps" or "pp"

    Raises
    ------
    SpecError
        If `value` is not finite, is negative, or is above 1 for `%` or `pp`.
    """

    value: float
    unit: Unit

    def __post_init__(self) -> None:
        if self.unit not in UNITS:
            raise SpecError(
                f"unit={self.unit!r} of a bound is not known. Allowed: {', '.join(repr(unit) for unit in UNITS)}."
            )
        if isinstance(self.value, bool) or not isinstance(self.value, (int, float)):
            raise SpecError(f"value={self.value!r} of a bound is not a number.")
        most = 1.0 if self.unit in _HUNDREDTHS else math.inf
        if not math.isfinite(self.value) or not 0 <= self.value <= most:
            allowed = f"0{self.unit} to 100{self.unit}" if self.unit in _HUNDREDTHS else f"0{self.unit} or more"
            raise SpecError(f"is out of range. Allowed: {allowed}.")

    def __str__(self) -> str:
        return format_bound(self)


def parse_bound(given: object) -> Bound:
    """Bound from its text.

    Parameters
    ----------
    given : str
        A number and a unit: `"10%"`, `"0.02npb"`, `"0.5nps"` or `"2pp"`.

    Raises
    ------
    SpecError
        If there is no unit or no number, or if the number is out of range; the reason reads on from `key=value`.

    Examples
    --------
    >>> parse_bound("10%"), parse_bound("0.02npb"), parse_bound("2pp")
    (Bound(value=0.1, unit='%'), Bound(value=0.02, unit='npb'), Bound(value=0.02, unit='pp'))
    """
    if isinstance(given, (int, float)) and not isinstance(given, bool):
        if not math.isfinite(given) or given < 0:
            raise SpecError(f"is not a finite number of 0 or more with a unit. Write a bound such as {_EXAMPLES}.")
        percent = Decimal(repr(given)) * 100
        raise SpecError(
            f"has no unit. Write '{percent.normalize():f}%' for relative perplexity "
            f"or '{given}npb' for nats per UTF-8 byte."
        )
    match = _BOUND.fullmatch(given) if isinstance(given, str) else None
    if match is None:
        raise SpecError(f"is not a bound. Write a number with a unit, such as {_EXAMPLES}.")
    sign, digits, unit = match.groups()
    value = Decimal(digits) / 100 if unit in _HUNDREDTHS else Decimal(digits)
    if sign == "-":
        raise SpecError("is negative. Allowed: 0 or more.")
    return Bound(value=float(value), unit=cast(Unit, unit))


def format_bound(bound: Bound) -> str:
    """Text of a bound, which `parse_bound` reads back to an equal one.

    Examples
    --------
    >>> format_bound(parse_bound("2.50%"))
    '2.5%'
    """
    value = Decimal(repr(float(bound.value)))
    if bound.unit in _HUNDREDTHS:
        value *= 100
    digits = f"{value:f}"
    return f"{digits.rstrip('0').rstrip('.') if '.' in digits else digits}{bound.unit}"

"""Bounds of the gate: one syntax for every file and option that holds one.

`10%` means relative perplexity, which is how users think; `0.02npb` means nats per UTF-8 byte, which is what languages
can be compared on.  A bare number could be either, or a fraction, so it is refused.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from inc_laaciq.errors import SpecError

_BOUND = re.compile(r"\s*([+-]?)((?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?)\s*(%|npb)\s*")


@dataclass(frozen=True, kw_only=True)
class Bound:
    """Largest degradation or disparity that the gate lets pass.

    Parameters
    ----------
    value : float
        For `%` a fraction from 0 to 1 (`10%` is 0.10): relative perplexity; for a disparity, points of it.
        For `npb` nats per UTF-8 byte, 0 or more.
    unit : "%" or "npb"

    Raises
    ------
    SpecError
        If `value` is not finite, is negative, or is above 1 for `%`.
    """

    value: float
    unit: Literal["%", "npb"]

    def __post_init__(self) -> None:
        if self.unit not in ("%", "npb"):
            raise SpecError(f"unit={self.unit!r} of a bound is not known. Allowed: '%', 'npb'.")
        if not math.isfinite(self.value) or self.value < 0 or (self.unit == "%" and self.value > 1):
            raise SpecError(f"is out of range. Allowed: {'0% to 100%' if self.unit == '%' else '0npb or more'}.")

    def __str__(self) -> str:
        return format_bound(self)


def parse_bound(given: object) -> Bound:
    """Bound from its text.

    Parameters
    ----------
    given : str
        A number and a unit: `"10%"` or `"0.02npb"`.

    Raises
    ------
    SpecError
        If there is no unit or no number, or if the number is out of range; the reason reads on from `key=value`.

    Examples
    --------
    >>> parse_bound("10%"), parse_bound("0.02npb")
    (Bound(value=0.1, unit='%'), Bound(value=0.02, unit='npb'))
    """
    if isinstance(given, (int, float)) and not isinstance(given, bool):
        if not math.isfinite(given) or given < 0:
            raise SpecError(
                "is not a finite number of 0 or more with a unit. Write a bound such as '10%' or '0.02npb'."
            )
        percent = Decimal(repr(given)) * 100
        raise SpecError(
            f"has no unit. Write '{percent.normalize():f}%' for relative perplexity "
            f"or '{given}npb' for nats per UTF-8 byte."
        )
    match = _BOUND.fullmatch(given) if isinstance(given, str) else None
    if match is None:
        raise SpecError("is not a bound. Write a number with a unit, such as '10%' or '0.02npb'.")
    sign, digits, unit = match.groups()
    value = Decimal(digits) / 100 if unit == "%" else Decimal(digits)
    if sign == "-":
        raise SpecError("is negative. Allowed: 0 or more.")
    return Bound(value=float(value), unit="%" if unit == "%" else "npb")


def format_bound(bound: Bound) -> str:
    """Text of a bound, which `parse_bound` reads back to an equal one.

    Examples
    --------
    >>> format_bound(parse_bound("2.50%"))
    '2.5%'
    """
    value = Decimal(repr(float(bound.value)))
    if bound.unit == "%":
        value *= 100
    digits = f"{value:f}"
    return f"{digits.rstrip('0').rstrip('.') if '.' in digits else digits}{bound.unit}"

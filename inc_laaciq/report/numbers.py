"""How a number is written: the one place for units, signs and decimals, so that no two reports can differ.

Losses are stored in nats per UTF-8 byte and shown in thousandths of it (millinats per byte, mnat/B): a degradation is
then a number such as 3.4 and not 0.0034.  A bound of `0.01npb` is 10 mnat/B.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

#: Shown where there is no number.
UNKNOWN = "n/a"

#: Stands between a value and its standard error.
PLUS_MINUS = "\u00b1"

#: Unit of every loss shown.
UNIT = "mnat/B"

_MILLI = 1000.0
_TOO_LONG = 1e7
_SIZES = ("bytes", "kB", "MB", "GB", "TB")


def as_float(value: object) -> float | None:
    """Give a number as a float, NaN and infinities too, and None for all else; a truth value is no number."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        return float(value)
    except OverflowError:  # an integer of more than 308 digits
        return math.inf if value > 0 else -math.inf


def decimals_for(standard_errors: Iterable[object]) -> int:
    """Decimals of a millinat with which a usual standard error has two significant digits; 1 to 4.

    Parameters
    ----------
    standard_errors : iterable of object
        Nats per byte; what is not a positive finite number is left out.

    Examples
    --------
    >>> decimals_for([0.0013, 0.0021]), decimals_for([0.00002]), decimals_for([])
    (1, 3, 2)
    """
    numbers = [as_float(error) for error in standard_errors]
    usable = sorted(_MILLI * number for number in numbers if number is not None and 0.0 < number < math.inf)
    if not usable:
        return 2
    usual = usable[len(usable) // 2]
    return min(4, max(1, 1 - math.floor(math.log10(usual)))) if math.isfinite(usual) else 1


def millinats(value: object, decimals: int, *, signed: bool = False) -> str:
    """Write a loss in millinats per byte, without the unit.

    Parameters
    ----------
    value : object
        Nats per byte.
    decimals : int
        As `decimals_for` gives it.
    signed : bool
        Whether a positive number gets its sign too.

    Examples
    --------
    >>> millinats(0.01234, 1), millinats(-0.00001, 1, signed=True), millinats(None, 1)
    ('12.3', '+0.0', 'n/a')
    """
    number = as_float(value)
    return UNKNOWN if number is None else _fixed(number * _MILLI, decimals, signed=signed)


def degradation(value: object, standard_error: object, decimals: int) -> str:
    """Write a degradation and its standard error in millinats per byte, without the unit.

    Examples
    --------
    >>> degradation(0.01234, 0.0013, 1), degradation(0.01234, None, 1), degradation(None, 0.1, 1)
    ('+12.3 ± 1.3', '+12.3 ± n/a', 'n/a')
    """
    if as_float(value) is None:
        return UNKNOWN
    return f"{millinats(value, decimals, signed=True)} {PLUS_MINUS} {millinats(standard_error, decimals)}"


def percent(value: object) -> str:
    """Write a relative change of perplexity.

    Examples
    --------
    >>> percent(0.03), percent(-0.00123), percent(float("nan"))
    ('+3.00%', '-0.12%', 'nan')
    """
    number = as_float(value)
    if number is None:
        return UNKNOWN
    written = _fixed(100.0 * number, 2, signed=True)
    return f"{written}%" if math.isfinite(number) else written


def points(value: object) -> str:
    """Write a difference between two relative changes, in percentage points.

    Examples
    --------
    >>> points(0.0312)
    '3.12 pp'
    """
    number = as_float(value)
    return UNKNOWN if number is None else f"{_fixed(100.0 * number, 2)} pp"


def ratio(value: object) -> str:
    """Write a ratio of two degradations.

    Examples
    --------
    >>> ratio(0.314), ratio(None)
    ('0.31x', 'n/a')
    """
    number = as_float(value)
    return UNKNOWN if number is None else f"{_fixed(number, 2)}x"


def interval(low: object, high: object) -> str:
    """Write the interval of a ratio; empty unless both ends are numbers.

    Examples
    --------
    >>> interval(0.25, 0.381), interval(0.25, None)
    ('[0.25, 0.38]', '')
    """
    ends = (as_float(low), as_float(high))
    written = [_fixed(end, 2) for end in ends if end is not None]
    return f"[{', '.join(written)}]" if len(written) == len(ends) else ""


def count(value: object) -> str:
    """Write a whole number with separators.

    Examples
    --------
    >>> count(1234567)
    '1,234,567'
    """
    number = as_float(value)
    if number is None or not math.isfinite(number):
        return UNKNOWN
    return f"{number:,.0f}" if abs(number) < 1e15 else f"{number:.3g}"


def size(value: object) -> str:
    """Write a number of bytes in decimal units.

    Examples
    --------
    >>> size(812), size(4_812_000)
    ('812 bytes', '4.8 MB')
    """
    number = as_float(value)
    if number is None or not math.isfinite(number) or number < 0:
        return UNKNOWN
    power = 0
    while number >= 999.95 and power < len(_SIZES) - 1:
        number /= 1000.0
        power += 1
    return f"{number:.0f} bytes" if power == 0 else f"{_fixed(number, 1)} {_SIZES[power]}"


def seconds(value: object) -> str:
    """Write a duration.

    Examples
    --------
    >>> seconds(12.345)
    '12.3 s'
    """
    number = as_float(value)
    return UNKNOWN if number is None else f"{_fixed(number, 1)} s"


def _fixed(number: float, decimals: int, *, signed: bool = False) -> str:
    """Write with fixed decimals; three digits and a power of ten where that would be long; no negative zero."""
    sign = "+" if signed else ""
    if not math.isfinite(number):
        return f"{number:{sign}}" if math.isinf(number) else "nan"
    if abs(number) >= _TOO_LONG:
        return f"{number:{sign}.3g}"
    return f"{round(number, decimals) + 0.0:{sign}.{decimals}f}"

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

# What stands behind a value and behind an interval in the unit of a bound.
_SUFFIXES = {"npb": f" {UNIT}", "nps": " nats/sentence", "pp": " pp"}

_MILLI = 1000.0
_SMALLEST_P = 1e-4
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


def span(low: object, high: object, decimals: int) -> str:
    """Write the interval of a degradation in millinats per byte; empty unless both ends are numbers.

    Examples
    --------
    >>> span(0.0083, 0.0165, 1), span(None, 0.1, 1)
    ('[+8.3, +16.5]', '')
    """
    if as_float(low) is None or as_float(high) is None:
        return ""
    return f"[{millinats(low, decimals, signed=True)}, {millinats(high, decimals, signed=True)}]"


def relative_span(low: object, high: object) -> str:
    """Write the interval of a relative change of perplexity; empty unless both ends are numbers.

    Examples
    --------
    >>> relative_span(-0.01, 0.0381), relative_span(0.25, None)
    ('[-1.00%, +3.81%]', '')
    """
    if as_float(low) is None or as_float(high) is None:
        return ""
    return f"[{percent(low)}, {percent(high)}]"


def in_unit(value: object, unit: object, decimals: int, *, signed: bool = True) -> str:
    """Write what a bound is held against, with the unit of the bound.

    Parameters
    ----------
    value : object
        In `unit`; a fraction for `%` and `pp`.
    unit : object
        `%`, `npb`, `nps` or `pp`; anything else is a number without a unit.
    decimals : int
        Of a millinat, as `decimals_for` gives it.
    signed : bool
        Whether a positive number gets its sign too.

    Examples
    --------
    >>> in_unit(0.08, "%", 1), in_unit(0.0123, "npb", 1), in_unit(0.5, "nps", 1), in_unit(-0.02, "pp", 1)
    ('+8.00%', '+12.3 mnat/B', '+0.500 nats/sentence', '-2.00 pp')
    """
    if as_float(value) is None:
        return UNKNOWN
    return f"{_bare(value, unit, decimals, signed=signed)}{_SUFFIXES.get(str(unit), '')}"


def span_in_unit(low: object, high: object, unit: object, decimals: int) -> str:
    """Write two one-sided bounds of what a bound is held against; empty unless there is one.

    Examples
    --------
    >>> span_in_unit(0.05, 0.11, "%", 1), span_in_unit(None, 0.11, "npb", 1), span_in_unit(None, None, "%", 1)
    ('[+5.00%, +11.00%]', '[n/a, +110.0] mnat/B', '')
    """
    if as_float(low) is None and as_float(high) is None:
        return ""
    return f"[{_bare(low, unit, decimals)}, {_bare(high, unit, decimals)}]{_SUFFIXES.get(str(unit), '')}"


def _bare(value: object, unit: object, decimals: int, *, signed: bool = True) -> str:
    """Number as it stands before its unit; the sign of percent belongs to the number."""
    number = as_float(value)
    if number is None:
        return UNKNOWN
    if unit == "npb":
        return millinats(number, decimals, signed=signed)
    if unit == "pp":
        return _fixed(100.0 * number, 2, signed=signed)
    if unit != "%":
        return _fixed(number, 3, signed=signed)
    written = _fixed(100.0 * number, 2, signed=signed)
    return f"{written}%" if math.isfinite(number) else written


def share(value: object) -> str:
    """Write a part of a whole.

    Examples
    --------
    >>> share(0.0123), share(None)
    ('1.23%', 'n/a')
    """
    number = as_float(value)
    if number is None:
        return UNKNOWN
    written = _fixed(100.0 * number, 2)
    return f"{written}%" if math.isfinite(number) else written


def plain(value: object, decimals: int) -> str:
    """Write a number without a sign or a unit.

    Examples
    --------
    >>> plain(1.23456, 3), plain(None, 3)
    ('1.235', 'n/a')
    """
    number = as_float(value)
    return UNKNOWN if number is None else _fixed(number, decimals)


def short(value: object) -> str:
    """Write a number with two significant digits, for a cell of a map.

    Examples
    --------
    >>> short(0.0), short(12.34), short(-0.01234), short(1234.5)
    ('0', '12', '-0.012', '1234')
    """
    number = as_float(value)
    if number is None:
        return UNKNOWN
    return f"{number:.0f}" if 100.0 <= abs(number) < 1e5 else f"{number + 0.0:.2g}"


def probability(value: object) -> str:
    """Write a p value.

    Examples
    --------
    >>> probability(0.0312), probability(1e-9), probability(None)
    ('0.031', '<0.0001', 'n/a')
    """
    number = as_float(value)
    if number is None or not 0.0 <= number <= 1.0:
        return UNKNOWN
    return f"<{_SMALLEST_P:.4f}" if number < _SMALLEST_P else f"{number:.2g}"


def exact(value: object) -> str:
    """Write a number with all its digits, for programs; empty if it is none.

    Examples
    --------
    >>> exact(0.1 + 0.2), exact(4096), exact(None), exact(True)
    ('0.30000000000000004', '4096', '', '')
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return ""
    return repr(value) if isinstance(value, float) else _whole(value)


def _whole(value: int) -> str:
    return str(value) if abs(value) < 10**300 else repr(as_float(value))


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

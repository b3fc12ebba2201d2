"""What a plain YAML scalar means: the core schema of YAML 1.2.

YAML 1.1, which PyYAML follows, turns the language code `no` into a boolean, `010` into eight and a date into an object.
In YAML 1.2 only `true` and `false` are booleans.
"""

from __future__ import annotations

import re

from inc_laaciq.errors import SpecError

MAX_DIGITS = 100

_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_BOOLEANS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
# What YAML 1.1 reads as a boolean and YAML 1.2 as text.
YAML_1_1_BOOLEANS = frozenset(
    spelling for word in ("y", "n", "yes", "no", "on", "off") for spelling in (word, word.capitalize(), word.upper())
)
_INTEGER = re.compile(r"[-+]?[0-9]+")
_BASED_INTEGER = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"([-+]?)\.(inf|Inf|INF)|\.(nan|NaN|NAN)")


def resolve_plain(text: str) -> str | int | float | bool | None:
    """Value of an unquoted scalar.

    Raises
    ------
    SpecError
        If a number is longer than a hundred characters: nothing here needs one, and reading it takes quadratic time.

    Examples
    --------
    >>> [resolve_plain(text) for text in ("no", "true", "010", "1e-3", "0x1F", "~", "2020-01-01")]
    ['no', True, 10, 0.001, 31, None, '2020-01-01']
    """
    if text in _NULL:
        return None
    if text in _BOOLEANS:
        return _BOOLEANS[text]
    if special := _NOT_FINITE.fullmatch(text):
        return float(text.replace(".", "", 1)) if special[2] else float("nan")
    if not (_INTEGER.fullmatch(text) or _BASED_INTEGER.fullmatch(text) or _FLOAT.fullmatch(text)):
        return text
    if len(text) > MAX_DIGITS:
        raise SpecError(f"a number has more than {MAX_DIGITS} characters")
    if _INTEGER.fullmatch(text):
        return int(text)
    return int(text, 0) if _BASED_INTEGER.fullmatch(text) else float(text)

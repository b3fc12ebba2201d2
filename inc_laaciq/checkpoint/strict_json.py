"""Parse JSON from a stranger in bounded memory, with no two readings of one text.

Python's parser keeps the last of two equal keys, other parsers the first: a header with both means two different
models.  Deep nesting, endless integers and millions of empty lists are ways to exhaust a reader; none of them occurs in
an honest file.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from typing import Any

from inc_laaciq.errors import IntegrityError

# Each JSON value but the outermost follows one of these characters.  The largest public checkpoints have well under a
# million tensors, each with about nine.
MAX_VALUES = 8_000_000
# Every size and offset of a file fits in 64 bits, which is 20 digits.
MAX_DIGITS = 20


def parse_object(raw: bytes, *, where: str, floats: bool = False, nonfinite: bool = False) -> dict[str, Any]:
    """Parse a JSON object.

    Parameters
    ----------
    raw : bytes
        UTF-8, with no byte order mark.
    where : str
        What is being read, for the message.
    floats : bool
        Whether a number may have a fraction or an exponent.
    nonfinite : bool
        Whether NaN and infinity may stand for numbers, as Python's own writer emits them, and an endless integer is
        read as a float.  Only for results of other tools.

    Raises
    ------
    IntegrityError
        If it is not a JSON object, holds a key twice or a number that is not allowed, or nests too deeply.
    """
    values = sum(raw.count(mark) for mark in (b"{", b"[", b","))
    if values > MAX_VALUES:
        raise IntegrityError(f"{where}: {values} JSON values, where at most {MAX_VALUES} are read.")
    try:
        found = json.loads(
            raw.decode("utf-8"),
            object_pairs_hook=lambda pairs: _without_duplicates(pairs, where),
            parse_int=lambda digits: _integer(digits, where, or_float=nonfinite),
            parse_float=lambda text: (
                float(text) if nonfinite else _float(text, where) if floats else _refuse(text, where)
            ),
            parse_constant=lambda text: float(text) if nonfinite else _refuse(text, where),
        )
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise IntegrityError(f"{where}: is not JSON in UTF-8: {error}.") from error
    except RecursionError as error:
        raise IntegrityError(f"{where}: the JSON is nested too deeply.") from error
    if not isinstance(found, dict):
        raise IntegrityError(f"{where}: must be a JSON object, and is a {type(found).__name__}.")
    return found


def shorten(name: str, limit: int = 120) -> str:
    """Quote a name from a file so that it fits on a line and cannot hide control characters."""
    return ascii(name if len(name) <= limit else name[:limit] + "...")


def _without_duplicates(pairs: list[tuple[str, Any]], where: str) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        twice = next(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)
        raise IntegrityError(f"{where}: the key {shorten(twice)} occurs twice.")
    return found


def _integer(digits: str, where: str, *, or_float: bool = False) -> float:
    if len(digits.lstrip("-")) > MAX_DIGITS:
        if or_float:
            return float(digits)
        raise IntegrityError(f"{where}: an integer of {len(digits)} digits, where 64 bits are the limit.")
    return int(digits)


def _float(text: str, where: str) -> float:
    # 1e999 is a number to JSON, and infinity to Python.
    return number if math.isfinite(number := float(text)) else _refuse(text, where)


def _refuse(text: str, where: str) -> float:
    raise IntegrityError(f"{where}: the number {shorten(text)} is not allowed here.")

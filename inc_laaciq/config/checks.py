"""Checks of single values: each takes a value of any type and returns it as the right one, or says what is wrong.

A check raises SpecError with a reason that reads on from `key=value`, such as "is out of range"; whoever knows the key
and the line puts them in front.
"""

from __future__ import annotations

import difflib
import math
import re
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from inc_laaciq.config.core_schema import YAML_1_1_BOOLEANS
from inc_laaciq.errors import SpecError

T = TypeVar("T")
W = TypeVar("W", bound=str)


def shown(value: object) -> str:
    """Value as an error message shows it: short, on one line."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Sentence that names the nearest known word, with a space before it, or nothing."""
    close = difflib.get_close_matches(word.lower().replace("-", "_"), list(known), n=1, cutoff=0.6)
    return f" Did you mean {close[0]!r}?" if close else ""


def check_fields(spec: object, **rules: Callable[[object], object]) -> None:
    """Run a check on each named field; an error gets the name of class and field."""
    for name, check in rules.items():
        value = getattr(spec, name)
        try:
            check(value)
        except SpecError as error:
            raise SpecError(f"{type(spec).__name__}.{name}={shown(value)} {error}") from None


def integer(low: int, high: int | None = None) -> Callable[[object], int]:
    """Check for a whole number from `low` to `high`, both included."""
    allowed = f"{low} or more" if high is None else f"{low}..{high}"

    def check(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise SpecError(f"is {_kind(value)}, not a whole number. Write one of {allowed}, without quotes.")
        if value < low or (high is not None and value > high):
            raise SpecError(f"is out of range. Allowed: {allowed}.")
        return value

    return check


def number(value: object) -> float:
    """Check for a finite number."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise SpecError(f"is {_kind(value)}, not a number.")
    try:
        result = float(value)
    except OverflowError:
        result = math.inf
    if not math.isfinite(result):
        raise SpecError("is not a finite number.")
    return result


def at_least_zero(value: object) -> float:
    """Check for a finite number that is not negative."""
    result = number(value)
    if result < 0:
        raise SpecError("is negative. Allowed: 0 or more.")
    return result


def fraction(value: object) -> float:
    """Check for a number from 0 to 1, both included."""
    result = number(value)
    if not 0 <= result <= 1:
        raise SpecError("is not a fraction. Allowed: 0 to 1.")
    return result


def open_fraction(value: object) -> float:
    """Check for a number between 0 and 1, both excluded."""
    result = number(value)
    if not 0 < result < 1:
        raise SpecError("is out of range. Allowed: above 0 and below 1.")
    return result


def boolean(value: object) -> bool:
    """Check for true or false."""
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value in YAML_1_1_BOOLEANS:
        raise SpecError("is not read as a boolean here. Write true or false.")
    raise SpecError(f"is {_kind(value)}, not a boolean. Write true or false.")


def text(value: object) -> str:
    """Check for text with something in it."""
    if not isinstance(value, str):
        raise SpecError(f"is {_kind(value)}, not text.")
    if not value.strip() or "\0" in value:
        raise SpecError("is empty or holds a NUL character.")
    return value


def word(allowed: tuple[W, ...], *, refused: Mapping[str, str] | None = None) -> Callable[[object], W]:
    """Check for one of the `allowed` words; a `refused` one gets its own reason."""

    def check(value: object) -> W:
        for known in allowed:
            if known == value:
                return known
        if isinstance(value, str) and refused and value in refused:
            raise SpecError(f"is not possible here: {refused[value]}.")
        hint = did_you_mean(value, allowed) if isinstance(value, str) else ""
        raise SpecError(f"is not known.{hint} Allowed: {', '.join(allowed)}.")

    return check


def one(check: Callable[[object], T]) -> Callable[[object], T]:
    """Make a check accept a list of one as well, as INC writes settings."""
    return lambda value: check(single(value))


def single(value: object) -> object:
    """Unwrap a list of one, as INC writes settings; other values pass as they are."""
    if isinstance(value, list) and len(value) == 1:
        return value[0]
    if isinstance(value, list) or (isinstance(value, str) and "," in value):
        raise SpecError("gives several choices or none. la_aciq solves one setting, so write a single one.")
    return value


def group_size(value: object) -> int:
    """Check for the number of weights that share a scale, or -1 for a whole channel."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise SpecError(f"is {_kind(value)}, not a whole number. Write -1 or a number of 8 or more, without quotes.")
    if value != -1 and value < 8:
        raise SpecError("is out of range. Allowed: -1 for one scale per channel, or 8 or more weights per scale.")
    return value


def pattern(value: str) -> str:
    """Check for a regular expression that Python can compile without doubt about its meaning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            re.compile(value)
        except (re.error, Warning, OverflowError, RecursionError) as error:
            raise SpecError(f"is not a regular expression: {error}.") from None
    return value


def _kind(value: Any) -> str:
    """Words for the type of a value that is of the wrong type."""
    names = {bool: "a boolean", str: "text", int: "a whole number", float: "a decimal number", list: "a list"}
    if isinstance(value, dict):
        return "a mapping"
    return "empty" if value is None else names.get(type(value), type(value).__name__)

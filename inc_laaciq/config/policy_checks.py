"""Checks of the single values of a policy, for those read from a file and for those given in Python.

As in `checks`: each returns the value, or raises SpecError with a reason that reads on from `key=value`.
"""

from __future__ import annotations

import datetime
import difflib
import re
from collections.abc import Callable
from typing import Any, cast

from inc_laaciq.config import checks
from inc_laaciq.config.bounds import LIKELIHOOD_UNITS, TASK_UNITS, Bound, Unit, parse_bound
from inc_laaciq.errors import SpecError
from inc_laaciq.languages import canonical, canonical_script, families

#: What stands for the language in the name of a task.
LANGUAGE_PLACEHOLDER = "{language}"

_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_PERCENT = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*%")

min_sentences = checks.integer(2)


def bound(units: tuple[Unit, ...]) -> Callable[[object], Bound]:
    """Check for a Bound in one of the units."""

    def check(value: object) -> Bound:
        if not isinstance(value, Bound):
            raise SpecError("is not a Bound. Give parse_bound('10%'), for instance.")
        if value.unit in units:
            return value
        if value.unit in TASK_UNITS:
            raise SpecError(
                "is in percentage points of accuracy, which bound tasks. Write it under tasks, or write a bound on "
                "likelihood such as '10%' or '0.02npb'."
            )
        raise SpecError(f"is in {value.unit}, which bounds likelihood, not a task. Write percentage points: '2pp'.")

    return check


likelihood_bound = bound(LIKELIHOOD_UNITS)
task_bound = bound(TASK_UNITS)


def parse_likelihood_bound(value: object) -> Bound:
    """Bound on likelihood from its text."""
    return likelihood_bound(parse_bound(value))


def parse_task_bound(value: object) -> Bound:
    """Bound on a task's accuracy from its text."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        raise SpecError("has no unit. Write percentage points of accuracy, such as '2pp'.")
    return task_bound(parse_bound(value))


def optional(check: Callable[[object], object]) -> Callable[[object], object]:
    """Make a check let None through."""
    return lambda value: None if value is None else check(value)


def confidence(value: object) -> float:
    """Check for a number above 0.5 and below 1."""
    result = checks.number(value)
    if 50 < result < 100:
        raise SpecError(f"is out of range. Allowed: above 0.5 and below 1; write {result / 100:g} or '{result:g}%'.")
    if not 0.5 < result < 1:
        raise SpecError("is out of range. Allowed: above 0.5 and below 1, such as 0.95 or '95%'.")
    return result


def parse_confidence(value: object) -> float:
    """Confidence from a number, or from text in per cent."""
    if isinstance(value, str):
        match = _PERCENT.fullmatch(value.strip())
        if match is None:
            raise SpecError("is not a confidence. Write a number such as 0.95, or '95%'.")
        percent = match[1]
        # Through one decimal number, so that 99.9% is exactly 0.999.
        return confidence(float(f"{percent}e-2"))
    return confidence(value)


def script(value: object) -> str:
    """Check for the code of a script; in its usual case."""
    return canonical_script(cast(str, value))  # which says what is wrong with a value that is no text


def family(value: object) -> str:
    """Check for the name of a language family, as `languages.family` writes it."""
    if isinstance(value, str) and value in families():
        return value
    hint = ""
    if isinstance(value, str):
        by_letters = {name.lower(): name for name in families()}
        close = difflib.get_close_matches(value.lower(), by_letters, n=1, cutoff=0.6)
        hint = "".join(f" Did you mean {by_letters[letters]!r}?" for letters in close)
    raise SpecError(f"{checks.shown(value)} is not a known language family.{hint} Known: {', '.join(families())}.")


def day(value: object) -> datetime.date:
    """Check for a day without a time."""
    if type(value) is not datetime.date:
        raise SpecError("is not a day. Give datetime.date(2027, 1, 31), for instance.")
    return value


def parse_day(value: object) -> datetime.date:
    """Day from text such as 2027-01-31."""
    if not isinstance(value, str) or not _DAY.fullmatch(value):
        raise SpecError("is not a day. Write year, month and day, such as 2027-01-31.")
    try:
        return datetime.date.fromisoformat(value)
    except ValueError as error:
        raise SpecError(f"is not a day: {error}. Write year, month and day, such as 2027-01-31.") from None


def baseline_id(value: object) -> str:
    """Check for a content hash."""
    if not isinstance(value, str) or not _SHA256.fullmatch(value):
        raise SpecError(
            "is not a content hash. Write the 64 hexadecimal digits, in lower case, that a results file has as its id."
        )
    return value


def one_line(value: object) -> str:
    """Check for text on one line with something in it, such as a name."""
    result = checks.text(value)
    if not result.isprintable():
        raise SpecError("holds a line break or another control character.")
    return result


def task_pattern(value: object) -> str:
    """Check for the name of a task that holds the placeholder once."""
    result = one_line(value)
    around = result.split(LANGUAGE_PLACEHOLDER)
    if len(around) != 2 or any(brace in part for part in around for brace in "{}"):
        raise SpecError(
            f"is not the name of a task with {LANGUAGE_PLACEHOLDER} in it exactly once, such as "
            f"'belebele_{LANGUAGE_PLACEHOLDER}'. In YAML, quote it."
        )
    return result


def metric(value: object) -> str:
    """Check for the name of a metric, perhaps with a filter behind a comma: `acc` or `exact_match,flexible-extract`."""
    result = one_line(value)
    if result.count(",") > 1 or result.startswith(",") or result.endswith(","):
        raise SpecError("is not the name of a metric. Write it alone, or with one filter: 'exact_match,strict-match'.")
    return result


def canonical_tag(value: Any) -> str:
    """Check for a language tag that is canonical already."""
    if canonical(value) != value:
        raise SpecError(f"holds {value!r}, which is not canonical. Write {canonical(value)!r}.")
    return str(value)


def tuple_of(check: Callable[[object], object]) -> Callable[[object], object]:
    """Make a check look at each element of a tuple."""

    def check_all(values: object) -> object:
        if not isinstance(values, tuple):
            raise SpecError("is not a tuple.")
        for value in values:
            if check(value) != value:
                raise SpecError(f"holds {value!r}, which is not canonical. Write {check(value)!r}.")
        return values

    return check_all


def instance(kind: type) -> Callable[[object], object]:
    """Check for an object of a class."""

    def check(value: object) -> object:
        if not isinstance(value, kind):
            raise SpecError(f"is not a {kind.__name__}.")
        return value

    return check

"""Open and parse result files that other tools wrote: bounded in memory, and with every complaint naming its line.

Unlike our own files these may hold the words NaN and Infinity, which Python's JSON writer emits where a model broke;
they are read as numbers, so that the language can be reported and not the file refused.
"""

from __future__ import annotations

import json
import os
import stat
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from inc_laaciq.checkpoint.strict_json import shorten
from inc_laaciq.errors import DataError, IntegrityError

MAX_FILE_BYTES = 2_000_000_000
# A sample repeats its prompt once or twice; a prompt of a million tokens has some five million bytes.
MAX_LINE_BYTES = 32_000_000
# Every JSON value but the outermost follows one of `{[,`.  A results file of two hundred languages has some thousands.
MAX_VALUES = 8_000_000
_MAX_DIGITS = 20


@contextmanager
def open_results(path: Path, limit: int = MAX_FILE_BYTES) -> Iterator[BinaryIO]:
    """Open a regular file of at most `limit` bytes.

    Raises
    ------
    DataError
        If there is no such file, or it cannot be read, is no regular file, or is too large.
    """
    try:
        # Not blocking: a pipe that nobody writes to would hold the process for good.
        file = open(path, "rb", opener=lambda name, flags: os.open(name, flags | getattr(os, "O_NONBLOCK", 0)))  # noqa: SIM115
    except FileNotFoundError:
        raise DataError(f"{path}: no such file. Give the path of a results file.") from None
    except IsADirectoryError:
        raise DataError(f"{path}: is a folder. Give the path of a results file.") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise DataError(f"{path}: cannot be read: {reason}.") from None
    with file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise DataError(f"{path}: is not a regular file. Give the path of a results file.")
        if status.st_size > limit:
            raise DataError(f"{path}: has {status.st_size} bytes; at most {limit} are read.")
        yield file


def read_object(path: Path, limit: int = MAX_FILE_BYTES) -> dict[str, Any]:
    """JSON object that a file holds.

    Raises
    ------
    DataError
        As `open_results`.
    IntegrityError
        As `parse_object`.
    """
    with open_results(path, limit) as file:
        return parse_object(file.read(limit), str(path))


def json_lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Where each object of a JSON Lines file is, as `file:line`, and the object; empty lines are passed over.

    Raises
    ------
    DataError
        As `open_results`.
    IntegrityError
        As `parse_object`, or if a line is longer than `MAX_LINE_BYTES`.
    """
    with open_results(path) as file:
        number = 0
        while line := file.readline(MAX_LINE_BYTES + 1):
            number += 1
            where = f"{path}:{number}"
            if len(line) > MAX_LINE_BYTES:
                raise IntegrityError(f"{where}: the line has more than {MAX_LINE_BYTES} bytes.")
            if line.strip():
                yield where, parse_object(line, where)


def parse_object(raw: bytes, where: str) -> dict[str, Any]:
    """Parse a JSON object in UTF-8, with or without a byte order mark.

    Raises
    ------
    IntegrityError
        If it is not a JSON object, holds a key twice, too many values, or nests too deeply.
    """
    values = sum(raw.count(mark) for mark in (b"{", b"[", b","))
    if values > MAX_VALUES:
        raise IntegrityError(f"{where}: {values} JSON values, where at most {MAX_VALUES} are read.")
    try:
        found = json.loads(
            raw.decode("utf-8-sig"),
            object_pairs_hook=lambda pairs: _without_duplicates(pairs, where),
            parse_int=lambda digits: int(digits) if len(digits) <= _MAX_DIGITS else float(digits),
        )
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise IntegrityError(f"{where}: is not JSON in UTF-8: {error}.") from error
    except RecursionError as error:
        raise IntegrityError(f"{where}: the JSON is nested too deeply.") from error
    if not isinstance(found, dict):
        raise IntegrityError(f"{where}: must be a JSON object, and is a {type(found).__name__}.")
    return found


def shown(name: object, limit: int = 120) -> str:
    """Quote text of a file so that it fits on a line and cannot hide control characters."""
    return shorten(str(name), limit)


def _without_duplicates(pairs: list[tuple[str, Any]], where: str) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        twice = next(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)
        raise IntegrityError(f"{where}: the key {shown(twice)} occurs twice.")
    return found

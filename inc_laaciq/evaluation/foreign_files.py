"""Open and parse result files that other tools wrote: bounded in memory, and with every complaint naming its line.

Unlike our own files these may hold the words NaN and Infinity, which Python's JSON writer emits where a model broke;
they are read as numbers, so that the language can be reported and not the file refused.
"""

from __future__ import annotations

import codecs
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from inc_laaciq.checkpoint import strict_json
from inc_laaciq.errors import DataError, IntegrityError

MAX_FILE_BYTES = 2_000_000_000
# A sample repeats its prompt once or twice; a prompt of a million tokens has some five million bytes.
MAX_LINE_BYTES = 32_000_000


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
    return strict_json.parse_object(raw.removeprefix(codecs.BOM_UTF8), where=where, floats=True, nonfinite=True)


def shown(name: object, limit: int = 120) -> str:
    """Quote text of a file so that it fits on a line and cannot hide control characters."""
    return strict_json.shorten(str(name), limit)

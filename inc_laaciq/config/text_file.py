"""Text of a configuration file: a regular file, not too large, in UTF-8.

A configuration comes from a path that a user, a script or a web form gave; a folder, a device without end or a file in
another encoding must end in a sentence that says so, not in a traceback or a process that eats all memory.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from inc_laaciq.errors import SpecError

MAX_BYTES = 1_000_000


def read_text_file(path: Path | str) -> str:
    """Text of a file.

    Parameters
    ----------
    path : path
        A regular file of at most `MAX_BYTES` bytes, in UTF-8, with or without a byte order mark.

    Raises
    ------
    SpecError
        If there is no such file, or if it cannot be read, is no regular file, too large, or not UTF-8.
    """
    label = str(path)
    return _decode(_read_bytes(path, label), label)


def _read_bytes(path: Path | str, label: str) -> bytes:
    """Content of a regular file that is not too large."""
    try:
        with open(path, "rb", opener=_open_at_once) as file:
            is_regular = stat.S_ISREG(os.fstat(file.fileno()).st_mode)
            content = file.read(MAX_BYTES + 1) if is_regular else b""
    except FileNotFoundError:
        raise SpecError(f"{label}: no such file. Give the path of a YAML file.") from None
    except IsADirectoryError:
        raise SpecError(f"{label}: is a folder. Give the path of a YAML file.") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise SpecError(f"{label}: cannot be read: {reason}.") from None
    if not is_regular:
        raise SpecError(f"{label}: is not a regular file. Give the path of a YAML file.")
    if len(content) > MAX_BYTES:
        raise SpecError(f"{label}: is larger than {MAX_BYTES} bytes, the most a configuration may have.")
    return content


def _open_at_once(path: str, flags: int) -> int:
    """Open without waiting: a pipe that nobody writes to would hold the process for good."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _decode(content: bytes, label: str) -> str:
    """Text of UTF-8 bytes, without a byte order mark."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        found = "UTF-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else f"byte 0x{content[error.start]:02x}"
        raise SpecError(f"{label}:{line}: is not UTF-8 ({found} at offset {error.start}). Save it as UTF-8.") from None

"""Write a single file in one step."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from inc_laaciq.errors import NumericError, ResourceError
from inc_laaciq.output.checks import try_writing
from inc_laaciq.output.disk import disk_errors, sync_folder
from inc_laaciq.output.names import resolve, sibling


def check_file(path: str | Path) -> None:
    """Refuse a file that could not be written in the end; call it before the work starts.

    Raises
    ------
    ResourceError
        If the folder is missing or not writable, or `path` is a folder.
    """
    target = resolve(path)
    with disk_errors(target, needed=1):
        if not _is_device(path, target):
            try_writing(target)


def write_bytes_atomic(path: str | Path, data: bytes) -> None:
    """Write a file so that `path` holds the old content or the new, never a part.

    A link is followed; a device or pipe, such as /dev/stdout, is written directly.

    Raises
    ------
    ResourceError
        If the disk is full, the folder is missing or not writable, or `path` is a folder.
    """
    target = resolve(path)
    with disk_errors(target, needed=len(data)):
        if _is_device(path, target):
            with open(path, "wb") as device:
                device.write(data)
            return
        temporary = sibling(target, "tmp")
        try:
            with open(temporary, "xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, target)
            sync_folder(target.parent)
        finally:
            temporary.unlink(missing_ok=True)


def write_text_atomic(path: str | Path, text: str) -> None:
    r"""Write a text file in UTF-8, its line ends as they are; see `write_bytes_atomic`.

    A lone surrogate, which Python makes of a file name that is not UTF-8, is written as an escape such as `\udc80`.
    In JSON that is how to spell it.
    """
    write_bytes_atomic(path, text.encode("utf-8", "backslashreplace"))


def write_json_atomic(path: str | Path, obj: Any) -> None:
    """Write a JSON file with sorted keys and a newline at its end; see `write_bytes_atomic`.

    Raises
    ------
    NumericError
        If a number is NaN or infinite, naming where; JSON has no such number, and readers differ.
    """
    try:
        text = json.dumps(obj, sort_keys=True, ensure_ascii=False, allow_nan=False, indent=2)
    except ValueError as error:
        place = _nonfinite_place(obj)
        if place is None:
            raise
        raise NumericError(
            f"{path}: {place} is NaN or infinite, which JSON cannot hold. Write null and a reason instead."
        ) from error
    write_text_atomic(path, text + "\n")


def _is_device(path: str | Path, target: Path) -> bool:
    if os.path.isdir(path):
        raise ResourceError(f"{target}: is a folder, where a file is to be written. Give the name of a file.")
    return os.path.exists(path) and not os.path.isfile(path)


def _nonfinite_place(obj: Any, place: str = "$") -> str | None:
    if isinstance(obj, float):
        return None if math.isfinite(obj) else place
    items: Iterable[tuple[Any, Any]] = ()
    if isinstance(obj, dict):
        items = obj.items()
    elif isinstance(obj, (list, tuple)):
        items = enumerate(obj)
    return next((found for key, value in items if (found := _nonfinite_place(value, f"{place}.{key}"))), None)

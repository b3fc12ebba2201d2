"""Tensors whose memory is a file's: a copy is read from the file, so that its pages need not be resident beside it.

safetensors maps weights instead of reading them.  Copying from a mapping makes the whole file resident while the copies
fill up, which is twice the model; and it kills the process if the file was cut short, where reading gives an error.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inc_laaciq.errors import IntegrityError

if TYPE_CHECKING:
    import torch

_SMAPS = Path("/proc/self/smaps")


@dataclass(frozen=True, kw_only=True)
class FileMapping:
    """Addresses `start` to `end` of this process, which hold the bytes of a file from `offset` on, unchanged."""

    start: int
    end: int
    offset: int
    path: str


def file_mappings() -> list[FileMapping]:
    """The files that this process has mapped and not written to; empty where the system does not tell."""
    try:
        lines = _SMAPS.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return []
    found: list[FileMapping] = []
    mapping: FileMapping | None = None
    for line in lines:
        fields = line.split(maxsplit=5)
        if not fields[0].endswith(":"):
            mapping = _mapping(fields)
        elif fields[0] == "Anonymous:" and mapping is not None:
            if fields[1] == "0":  # else this process has pages of its own in place of the file's
                found.append(mapping)
            mapping = None
    return found


def _mapping(fields: Sequence[str]) -> FileMapping | None:
    """A mapping from its first line; None where there is no file behind it any more."""
    if len(fields) < 6 or not os.path.isfile(fields[5]) or os.stat(fields[5]).st_ino != int(fields[4]):
        return None
    start, end = (int(address, 16) for address in fields[0].split("-"))
    return FileMapping(start=start, end=end, offset=int(fields[2], 16), path=fields[5])


def copy_of(tensor: torch.Tensor, mappings: Sequence[FileMapping]) -> torch.Tensor:
    """A copy in memory of its own, read from the file where the tensor lies in one of the mappings.

    Raises
    ------
    IntegrityError
        If the file has become shorter.
    """
    import torch

    place, size = tensor.data_ptr(), tensor.nbytes
    for mapping in mappings if tensor.is_contiguous() and size else ():
        if mapping.start <= place and place + size <= mapping.end:
            copy = torch.empty_like(tensor, requires_grad=False)
            with open(mapping.path, "rb", buffering=0) as file:
                file.seek(mapping.offset + place - mapping.start)
                _fill(copy, file.fileno(), mapping.path)
            return copy
    return tensor.detach().clone()


def _fill(tensor: torch.Tensor, descriptor: int, path: str) -> None:
    import torch

    values: Any = tensor.reshape(-1).view(torch.uint8).numpy()
    buffer = memoryview(values)
    while buffer:  # one call reads two gigabytes at most
        done = os.readv(descriptor, [buffer])
        if not done:
            raise IntegrityError(f"{path} changed while the model was being loaded: it is shorter. Load it again.")
        buffer = buffer[done:]

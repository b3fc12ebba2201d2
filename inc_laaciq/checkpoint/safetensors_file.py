"""Read the header of a safetensors file without trusting a byte of it.

Layout: 8 bytes, the length N of the header as a little-endian integer; N bytes of JSON; the data.  Nothing is allocated
that the file itself does not hold, and the tensors must cover the data exactly, so a truncated, extended or overlapping
file is found before any weight is read. Source of the rules: https://huggingface.co/docs/safetensors, section Format.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inc_laaciq.checkpoint.strict_json import parse_object, shorten
from inc_laaciq.errors import IntegrityError

# The limit of the reference implementation.
MAX_HEADER_BYTES = 100_000_000
PREFIX_BYTES = 8
_MAX_U64 = 2**64 - 1

DTYPE_BITS: Mapping[str, int] = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8,
    "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
    "I16": 16, "U16": 16, "F16": 16, "BF16": 16,
    "I32": 32, "U32": 32, "F32": 32,
    "I64": 64, "U64": 64, "F64": 64, "C64": 64,
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class TensorEntry:
    """One tensor of a file; `start` and `end` are bytes from the beginning of the data."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


@dataclass(frozen=True, kw_only=True)
class Header:
    """A checked header: the tensors cover the `data_bytes` after `data_start` with no hole and no overlap."""

    path: Path
    data_start: int
    data_bytes: int
    tensors: Mapping[str, TensorEntry]
    metadata: Mapping[str, str]


def read_header(path: Path) -> Header:
    """Read and check the header of one safetensors file.

    Parameters
    ----------
    path : Path
        The file; links are followed.

    Raises
    ------
    IntegrityError
        If the file is not an ordinary file, is truncated, has bytes to spare, or its header breaks a rule of the
        format. The message names the file, and the bytes that were expected and found.
    """
    try:
        # Without O_NONBLOCK, opening a named pipe would wait for a writer for ever.
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise IntegrityError(f"{path}: is not an ordinary file.")
            length = _header_length(file.read(PREFIX_BYTES), status.st_size, path)
            raw = file.read(length)
    except OSError as error:
        raise IntegrityError(f"{path}: cannot be read: {error.strerror}.") from error
    if len(raw) != length:
        raise IntegrityError(f"{path}: shrank while it was read: {length} bytes of header expected, {len(raw)} found.")
    return _parse(raw, path, data_bytes=status.st_size - PREFIX_BYTES - length)


def _header_length(prefix: bytes, file_bytes: int, path: Path) -> int:
    if len(prefix) < PREFIX_BYTES:
        raise IntegrityError(
            f"{path}: truncated: at least {PREFIX_BYTES} bytes expected, {file_bytes} found. Copy or download it again."
        )
    length = int.from_bytes(prefix, "little")
    if length > MAX_HEADER_BYTES:
        raise IntegrityError(
            f"{path}: the header claims {length} bytes, where at most {MAX_HEADER_BYTES} are allowed; this is not an "
            "honest safetensors file."
        )
    if length > file_bytes - PREFIX_BYTES:
        raise IntegrityError(
            f"{path}: truncated: the header alone needs {PREFIX_BYTES + length} bytes, {file_bytes} found. Copy or "
            "download it again."
        )
    return length


def _parse(raw: bytes, path: Path, *, data_bytes: int) -> Header:
    where = f"{path}: header"
    if not raw.startswith(b"{"):
        raise IntegrityError(f"{where}: must begin with '{{'; this is not a safetensors file.")
    found = parse_object(raw, where=where)
    metadata = found.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise IntegrityError(f"{where}: __metadata__ must map names to text.")
    tensors = {name: _entry(value, f"{where}: tensor {shorten(name)}") for name, value in found.items()}
    for name in (*tensors, *metadata):
        # A lone surrogate is legal to Python's JSON parser and to no other one.
        if not name.isascii() and name != name.encode("utf-8", "replace").decode("utf-8"):
            raise IntegrityError(f"{where}: the name {shorten(name)} is not valid Unicode.")
    _check_coverage(tensors, path, data_bytes)
    return Header(
        path=path, data_start=PREFIX_BYTES + len(raw), data_bytes=data_bytes, tensors=tensors, metadata=metadata
    )


def _entry(value: Any, where: str) -> TensorEntry:
    if not isinstance(value, dict) or set(value) != {"dtype", "shape", "data_offsets"}:
        raise IntegrityError(f"{where}: must have dtype, shape and data_offsets, and nothing else.")
    dtype, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPE_BITS:
        raise IntegrityError(f"{where}: dtype {shorten(str(dtype))} is unknown; known are {', '.join(DTYPE_BITS)}.")
    if not _are_sizes(shape):
        raise IntegrityError(f"{where}: shape must be a list of integers from 0 to 2^64-1.")
    if not _are_sizes(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise IntegrityError(f"{where}: data_offsets must be two integers, the first not above the second.")
    bits = DTYPE_BITS[dtype]
    for size in shape:
        bits *= size
        if bits > _MAX_U64:
            raise IntegrityError(f"{where}: shape {shorten(str(shape))} overflows 64 bits.")
    start, end = offsets
    if bits != 8 * (end - start):
        raise IntegrityError(
            f"{where}: {dtype} of shape {shorten(str(shape))} needs {bits / 8:g} bytes, data_offsets give it "
            f"{end - start}."
        )
    return TensorEntry(dtype=dtype, shape=tuple(shape), start=start, end=end)


def _are_sizes(values: Any) -> bool:
    # `type is int`, because True and False are ints to isinstance.
    return isinstance(values, list) and all(type(value) is int and 0 <= value <= _MAX_U64 for value in values)


def _check_coverage(tensors: Mapping[str, TensorEntry], path: Path, data_bytes: int) -> None:
    position = 0
    for name, entry in sorted(tensors.items(), key=lambda item: (item[1].start, item[1].end)):
        if entry.start != position:
            fault = "overlaps the tensor before it" if entry.start < position else "leaves a hole before it"
            raise IntegrityError(
                f"{path}: tensor {shorten(name)} {fault}: it begins at byte {entry.start} of the data, {position} "
                "expected."
            )
        position = entry.end
    if position != data_bytes:
        fault = "truncated" if position > data_bytes else "has trailing bytes"
        raise IntegrityError(
            f"{path}: {fault}: the header describes {position} bytes of data, {data_bytes} found. Copy or download it "
            "again."
        )

"""Arrays in JSON: base64 of zlib of little-endian bytes, read back without trust in what the text claims."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inc_laaciq.errors import IntegrityError

FLOAT = "<f8"
INTEGERS = ("|u1", "<u2", "<u4", "<i8")
MAX_VALUES = 2**24
"""Values in one array; a text of so many sentences is no evaluation."""

_LEVEL = 9


def encode(values: NDArray[Any]) -> dict[str, Any]:
    """An array as plain data.

    Parameters
    ----------
    values : array, shape (n,)
        Floats are written as float64, integers in the smallest type that holds them all.

    Returns
    -------
    dict
        `dtype` as numpy spells it, `n`, and `zlib`.

    Examples
    --------
    >>> packed = encode(np.array([1, 2, 300]))
    >>> packed["dtype"], packed["n"], zlib.decompress(base64.b64decode(packed["zlib"])).hex(" ", 2)
    ('<u2', 3, '0100 0200 2c01')
    """
    dtype = FLOAT if values.dtype.kind == "f" else _smallest(values)
    raw = values.astype(dtype).tobytes()
    return {"dtype": dtype, "n": len(values), "zlib": base64.b64encode(zlib.compress(raw, _LEVEL)).decode("ascii")}


def decode(entry: Any, *, dtypes: Sequence[str], where: str) -> NDArray[Any]:
    """The array that `encode` wrote, as float64 or int64.

    Parameters
    ----------
    entry : object
        From JSON, of unknown origin. No more than n values and one byte are ever unpacked.
    dtypes : sequence of str
        Those that are allowed here.
    where : str
        File, language and array, for messages.

    Raises
    ------
    IntegrityError
        If it is not such an array, or is damaged.
    """
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "n", "zlib"}:
        raise IntegrityError(f"{where}: must hold exactly dtype, n and zlib.")
    dtype, n, packed = entry["dtype"], entry["n"], entry["zlib"]
    if dtype not in dtypes:
        raise IntegrityError(f"{where}: dtype is {str(dtype)[:20]!r}, and must be one of {', '.join(dtypes)}.")
    if not isinstance(n, int) or isinstance(n, bool) or not 0 <= n <= MAX_VALUES:
        raise IntegrityError(f"{where}: n is {str(n)[:20]}, and must be a whole number from 0 to {MAX_VALUES}.")
    if not isinstance(packed, str):
        raise IntegrityError(f"{where}: zlib must be text, and is {type(packed).__name__}.")
    raw = _unpack(packed, n * np.dtype(dtype).itemsize, where)
    return np.frombuffer(raw, dtype=dtype).astype(np.float64 if dtype == FLOAT else np.int64)


def _unpack(packed: str, size: int, where: str) -> bytes:
    unpacker = zlib.decompressobj()
    try:
        raw = unpacker.decompress(base64.b64decode(packed, validate=True), size + 1)
    except (ValueError, zlib.error) as error:  # base64 raises a kind of ValueError
        raise IntegrityError(f"{where}: is damaged: {error}.") from error
    if len(raw) != size:
        found = "more" if len(raw) > size else f"{len(raw)}"
        raise IntegrityError(f"{where}: n and dtype say {size} bytes, and there are {found}.")
    if not unpacker.eof or unpacker.unused_data:
        raise IntegrityError(f"{where}: the zlib data does not end where it should.")
    return raw


def _smallest(values: NDArray[Any]) -> str:
    least, most = (int(values.min()), int(values.max())) if len(values) else (0, 0)
    return next(dtype for dtype in INTEGERS if np.iinfo(dtype).min <= least and most <= np.iinfo(dtype).max)

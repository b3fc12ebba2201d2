"""Read the npz files in which Neural Compressor keeps FP8 measurements, without running what is in them.

They hold one pickled dict.  A pickle is a program, and this one comes from another machine, so Python's own reader of
pickles never sees it:

1. the zip archive must hold one array, not compressed, so that nothing in it is larger than the file;
2. `PickleProgram` carries out the few opcodes that a dict of arrays needs, with stand-ins for the four functions and
   types of numpy that it names;
3. arrays are made from what the stand-ins were given.

So no function of numpy or of anything else is ever called by the file.
"""

from __future__ import annotations

import io
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from inc_laaciq.backends.gaudi_fp8_pickle import Made, Name, PickleProgram
from inc_laaciq.checkpoint.foreign import foreign_errors
from inc_laaciq.errors import IntegrityError

# The largest models have a few thousand nodes of a few hundred bytes each.
MAX_BYTES = 1 << 28
_MAX_VALUES = 1_000_000
_MAX_DEPTH = 10
# Of one entry; by chance these four bytes may also be found among the numbers.
_CENTRAL_ENTRY, _MAX_ENTRIES = b"PK\x01\x02", 100
_HEADER = re.compile(
    rb"\x93NUMPY\x01\x00..\{'descr': '\|O', 'fortran_order': (?:False|True), 'shape': \(\), \} *\n", re.DOTALL
)
_DTYPES = frozenset(f"{order}{code}" for order in "<>|=" for code in ("f2", "f4", "f8", "i4", "i8"))


def read_pickled_dict(path: Path) -> dict[str, Any]:
    """Read the dict of an npz file that ``np.savez(file, dict)`` wrote.

    Parameters
    ----------
    path : Path

    Returns
    -------
    dict
        Of dicts, lists, tuples, text, numbers, None and arrays of numbers.

    Raises
    ------
    IntegrityError
        If the file is damaged, too large, or holds anything else; nothing in it has been run.
    """
    what = f"{path}: is not a measurement file of Neural Compressor, and was not read any further"
    with foreign_errors(what, kind=IntegrityError):
        raw = _only_array(path)
        header = _HEADER.match(raw)
        # numpy goes by the length that the header gives, and would begin elsewhere if it were another one.
        if header is None or header.end() != 10 + int.from_bytes(raw[8:10], "little"):
            raise IntegrityError(f"{what}: the array is not a single pickled object.")
        return _Plain(what).of_outer(PickleProgram(what).run(raw[header.end() :]))


def _only_array(path: Path) -> bytes:
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise IntegrityError(f"{path}: has {size} bytes, where at most {MAX_BYTES} are read.")
    content = path.read_bytes()
    # zipfile makes an object of every entry before it can be asked how many there are.
    if content.count(_CENTRAL_ENTRY) > _MAX_ENTRIES:
        raise IntegrityError(f"{path}: must hold one array, arr_0.npy, and nothing else.")
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        entries = archive.infolist()
        if [entry.filename for entry in entries] != ["arr_0.npy"]:
            raise IntegrityError(f"{path}: must hold one array, arr_0.npy, and nothing else.")
        entry = entries[0]
        if entry.compress_type != zipfile.ZIP_STORED or entry.file_size > size:
            raise IntegrityError(f"{path}: is compressed, which Neural Compressor's files are not.")
        return archive.read(entry)


class _Plain:
    """Arrays and plain containers from what the stand-ins noted.

    A list that is shared many times over is small in the file and endless when it is walked, so the walk is counted.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._left = _MAX_VALUES

    def of_outer(self, outer: Any) -> dict[str, Any]:
        """Give the dict in an array of objects without dimensions."""
        state = self._array_state(outer)
        values = state[4]
        if state[1] != () or self._dtype_name(state[2]) not in ("O", "O8", "O4") or not isinstance(values, list):
            raise self._refusal("the array is not a single object")
        if len(values) != 1 or not isinstance(values[0], dict):
            raise self._refusal("the object is not a dict")
        found: dict[str, Any] = self.of(values[0])
        return found

    def of(self, value: Any, depth: int = 0) -> Any:
        self._left -= 1
        if self._left < 0 or depth > _MAX_DEPTH:
            raise self._refusal("it holds too many values, or nests them too deeply")
        if value is None or isinstance(value, (bool, int, float, str)):
            return value
        if isinstance(value, dict):
            return {key: self.of(inner, depth + 1) for key, inner in value.items()}
        if isinstance(value, (list, tuple)):
            return type(value)(self.of(inner, depth + 1) for inner in value)
        if isinstance(value, Made) and value.name == "scalar" and len(value.arguments) == 2:
            return self._numbers(value.arguments[0], (), value.arguments[1])[()]
        state = self._array_state(value)
        return self._numbers(state[2], state[1], state[4])

    def _array_state(self, value: Any) -> tuple[Any, ...]:
        """State of an array: version, shape, dtype, whether in Fortran's order, bytes or objects."""
        if not isinstance(value, Made) or value.name != "_reconstruct" or len(value.arguments) != 3:
            raise self._refusal(f"a {type(value).__name__.strip('_')} is where an array or a plain value must be")
        kind = value.arguments[0]
        if not isinstance(kind, Name) or kind.name != "ndarray" or value.arguments[1:] != ((0,), b"b"):
            raise self._refusal("an array is not made as numpy makes one")
        state = value.state
        if not isinstance(state, tuple) or len(state) != 5 or not isinstance(state[1], tuple) or state[3] is not False:
            raise self._refusal("the state of an array is not as numpy writes it")
        return state

    def _dtype_name(self, value: Any) -> str:
        if not isinstance(value, Made) or value.name != "dtype" or not value.arguments:
            raise self._refusal("a dtype is not one")
        name, state = value.arguments[0], value.state
        # Version, byte order, and nothing of the parts that a structured type has.
        if not isinstance(name, str) or not isinstance(state, tuple) or state[2:5] != (None, None, None):
            raise self._refusal("a dtype is not that of plain numbers")
        return name if state[1] == "|" else f"{state[1]}{name}"

    def _numbers(self, dtype: Any, shape: tuple[Any, ...], raw: Any) -> Any:
        name = self._dtype_name(dtype)
        if name not in _DTYPES or not isinstance(raw, bytes) or len(shape) > 2:
            raise self._refusal(f"an array of dtype {ascii(name)[:40]} is not one of numbers")
        if not all(type(length) is int and length >= 0 for length in shape):
            raise self._refusal("a shape is not made of lengths")
        kind, length = np.dtype(name), 1
        for one in shape:
            length *= one
        if length * kind.itemsize != len(raw):
            raise self._refusal(f"an array of shape {shape} is given {len(raw)} bytes")
        return np.frombuffer(raw, dtype=kind).reshape(shape)

    def _refusal(self, why: str) -> IntegrityError:
        return IntegrityError(f"{self._what}: {why}.")

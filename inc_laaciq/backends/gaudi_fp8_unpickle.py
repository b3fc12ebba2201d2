"""Read the npz files in which Neural Compressor keeps FP8 measurements, without running what is in them.

They hold one pickled dict.  A pickle is a program, and this one comes from another machine, so it is read in three
steps, each of which can only refuse:

1. the zip archive must hold one array, not compressed, so that nothing in it is larger than the file;
2. the opcodes are listed without being run: only those that a dict of arrays needs, and the names of four functions and
   types, are let through;
3. the program is run with stand-ins for these names, and arrays are made from what the stand-ins were given.

So no function of numpy or of anything else is ever called by the file.
"""

from __future__ import annotations

import io
import pickle
import pickletools
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from inc_laaciq.checkpoint.foreign import foreign_errors
from inc_laaciq.errors import IntegrityError

# The largest models have a few thousand nodes of a few hundred bytes each.
MAX_BYTES = 1 << 28
_MAX_VALUES = 1_000_000
_MAX_DEPTH = 10
_HEADER = re.compile(
    rb"\x93NUMPY\x01\x00..\{'descr': '\|O', 'fortran_order': (?:False|True), 'shape': \(\), \} *\n", re.DOTALL
)
_OPCODES = frozenset(
    {"PROTO", "FRAME", "STOP", "MARK", "NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2", "LONG1"}
    | {"BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE", "BINBYTES", "SHORT_BINBYTES"}
    | {"EMPTY_DICT", "SETITEM", "SETITEMS", "EMPTY_LIST", "APPEND", "APPENDS"}
    | {"EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"}
    | {"BINPUT", "LONG_BINPUT", "MEMOIZE", "BINGET", "LONG_BINGET"}
    | {"GLOBAL", "STACK_GLOBAL", "REDUCE", "BUILD"}
)
_GLOBALS = {
    ("numpy", "ndarray"): "ndarray",
    ("numpy", "dtype"): "dtype",
    **{
        (module, name): name
        for module in ("numpy.core.multiarray", "numpy._core.multiarray")  # numpy 1, numpy 2
        for name in ("_reconstruct", "scalar")
    },
}
_DTYPES = frozenset(f"{order}{code}" for order in "<>|=" for code in ("f2", "f4", "f8", "i4", "i8"))


class _Name:
    """Stand-in for a function or type that the pickle names; calling it only notes the arguments."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, *arguments: Any) -> _Made:
        return _Made(self.name, arguments)

    def __setstate__(self, _state: Any) -> None:
        raise pickle.UnpicklingError(f"{self.name} is given a state")


class _Made:
    """What such a function would have made, and the state that it would have been given."""

    __slots__ = ("arguments", "name", "state")

    def __init__(self, name: str, arguments: tuple[Any, ...]) -> None:
        self.name = name
        self.arguments = arguments
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _GLOBALS:
            raise pickle.UnpicklingError(f"the name {module}.{name} is not one of an array")
        return _Name(_GLOBALS[module, name])


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
        if header is None:
            raise IntegrityError(f"{what}: the array is not a single pickled object.")
        pickled = raw[header.end() :]
        _check_opcodes(pickled, what)
        outer = _Unpickler(io.BytesIO(pickled)).load()
        return _Plain(what).of_outer(outer)


def _only_array(path: Path) -> bytes:
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise IntegrityError(f"{path}: has {size} bytes, where at most {MAX_BYTES} are read.")
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        if [entry.filename for entry in entries] != ["arr_0.npy"]:
            raise IntegrityError(f"{path}: must hold one array, arr_0.npy, and nothing else.")
        entry = entries[0]
        if entry.compress_type != zipfile.ZIP_STORED or entry.file_size > size:
            raise IntegrityError(f"{path}: is compressed, which Neural Compressor's files are not.")
        return archive.read(entry)


def _check_opcodes(pickled: bytes, what: str) -> None:
    """Refuse a program that could do more than build a dict, without running it."""
    end = 0
    for count, (opcode, argument, position) in enumerate(pickletools.genops(pickled)):
        end = (position or 0) + 1
        if opcode.name not in _OPCODES:
            raise IntegrityError(f"{what}: opcode {opcode.name} at byte {position} of the pickle is not allowed.")
        if opcode.name == "GLOBAL" and tuple(str(argument).split(" ", 1)) not in _GLOBALS:
            raise IntegrityError(f"{what}: the pickle names {argument!a}, which is not part of an array.")
        # The interpreter makes room for every index up to this one, and an honest program counts from 0.
        if opcode.name == "LONG_BINPUT" and int(argument or 0) > count:
            raise IntegrityError(f"{what}: memo index {argument} of the pickle is out of range.")
    # What comes after the end is not read by anyone, and so may hold anything.
    if end != len(pickled):
        raise IntegrityError(f"{what}: {len(pickled) - end} bytes follow the end of the pickle.")


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
            if not all(isinstance(key, str) for key in value):
                raise self._refusal("a key is not text")
            return {key: self.of(inner, depth + 1) for key, inner in value.items()}
        if isinstance(value, (list, tuple)):
            return type(value)(self.of(inner, depth + 1) for inner in value)
        if isinstance(value, _Made) and value.name == "scalar" and len(value.arguments) == 2:
            return self._numbers(value.arguments[0], (), value.arguments[1])[()]
        state = self._array_state(value)
        return self._numbers(state[2], state[1], state[4])

    def _array_state(self, value: Any) -> tuple[Any, ...]:
        """State of an array: version, shape, dtype, whether in Fortran's order, bytes or objects."""
        if not isinstance(value, _Made) or value.name != "_reconstruct" or len(value.arguments) != 3:
            raise self._refusal(f"a {type(value).__name__.strip('_')} is where an array or a plain value must be")
        kind = value.arguments[0]
        if not isinstance(kind, _Name) or kind.name != "ndarray" or value.arguments[1:] != ((0,), b"b"):
            raise self._refusal("an array is not made as numpy makes one")
        state = value.state
        if not isinstance(state, tuple) or len(state) != 5 or not isinstance(state[1], tuple) or state[3] is not False:
            raise self._refusal("the state of an array is not as numpy writes it")
        return state

    def _dtype_name(self, value: Any) -> str:
        if not isinstance(value, _Made) or value.name != "dtype" or not value.arguments:
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

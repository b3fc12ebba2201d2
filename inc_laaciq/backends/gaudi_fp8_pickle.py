"""Carry out the few opcodes of a pickle that build a dict of arrays, with stand-ins for the functions of numpy.

Python's own reader is not used: it can be made to call anything that is not forbidden to it, and to end the process by
hashing a deeply nested key.  Here there is nothing that could be called, and keys are text.
"""

from __future__ import annotations

import pickletools
from dataclasses import dataclass
from typing import Any

from inc_laaciq.errors import IntegrityError

# An array takes about 25, and each may make an object that is much larger than itself.
_MAX_OPCODES = 8_000_000
_GLOBALS = {
    ("numpy", "ndarray"): "ndarray",
    ("numpy", "dtype"): "dtype",
    **{
        (module, name): name
        for module in ("numpy.core.multiarray", "numpy._core.multiarray")  # numpy 1, numpy 2
        for name in ("_reconstruct", "scalar")
    },
}


@dataclass(frozen=True)
class Name:
    """Stand-in for a function or type that the pickle names."""

    name: str


@dataclass(eq=False)
class Made:
    """What such a function would have made of its arguments, and the state that it would have been given."""

    name: str
    arguments: tuple[Any, ...]
    state: Any = None


class PickleProgram:
    """A pickle that may build dicts of arrays, and nothing else.

    Parameters
    ----------
    what : str
        What is being read and what that means, for the message.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}

    def run(self, pickled: bytes) -> Any:
        """Give what the program leaves: plain values, dicts with text as keys, and `Made` where a function was named.

        Raises
        ------
        IntegrityError
            If it has any other opcode or name, too many opcodes, or ends early or late.
        """
        end = 0
        for count, (opcode, argument, position) in enumerate(pickletools.genops(pickled)):
            if count >= _MAX_OPCODES:
                raise self._refusal(f"the pickle has more than {_MAX_OPCODES} opcodes")
            end = (position or 0) + 1
            if not (self._put_value(opcode.name, argument) or self._fill(opcode.name) or self._stand_in(opcode.name)):
                raise self._refusal(f"opcode {opcode.name} at byte {position} of the pickle is not allowed")
        # What comes after the end is not read by anyone, and so may hold anything.
        if end != len(pickled):
            raise self._refusal(f"{len(pickled) - end} bytes follow the end of the pickle")
        return self._stack.pop()

    def _put_value(self, opcode: str, argument: Any) -> bool:
        """Opcodes that put something on the stack, or keep it for later."""
        match opcode:
            case "PROTO" | "FRAME" | "STOP":
                pass
            case "NONE":
                self._stack.append(None)
            case "NEWTRUE" | "NEWFALSE":
                self._stack.append(opcode == "NEWTRUE")
            case "BININT" | "BININT1" | "BININT2" | "LONG1" | "BINFLOAT":
                self._stack.append(argument)
            case "BINUNICODE" | "SHORT_BINUNICODE" | "BINBYTES" | "SHORT_BINBYTES":
                self._stack.append(argument)
            case "GLOBAL":
                self._stack.append(self._named(*str(argument).split(" ", 1)))
            case "BINPUT" | "LONG_BINPUT":
                self._memo[argument] = self._stack[-1]
            case "MEMOIZE":
                self._memo[len(self._memo)] = self._stack[-1]
            case "BINGET" | "LONG_BINGET":
                self._stack.append(self._memo[argument])
            case _:
                return False
        return True

    def _fill(self, opcode: str) -> bool:
        """Opcodes that make containers and fill them."""
        match opcode:
            case "MARK":
                self._marks.append(len(self._stack))
            case "EMPTY_DICT":
                self._stack.append({})
            case "EMPTY_LIST":
                self._stack.append([])
            case "EMPTY_TUPLE":
                self._stack.append(())
            case "TUPLE":
                self._stack.append(tuple(self._since_mark()))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                self._stack.append(tuple(self._top(int(opcode[-1]))))
            case "SETITEM" | "SETITEMS":
                values = self._top(2) if opcode == "SETITEM" else self._since_mark()
                self._items(self._stack[-1], values)
            case "APPEND" | "APPENDS":
                values = self._top(1) if opcode == "APPEND" else self._since_mark()
                if not isinstance(self._stack[-1], list):
                    raise self._refusal("something is appended to what is not a list")
                self._stack[-1].extend(values)
            case _:
                return False
        return True

    def _stand_in(self, opcode: str) -> bool:
        """Opcodes that would call something."""
        if opcode not in ("STACK_GLOBAL", "REDUCE", "BUILD"):
            return False
        first, second = self._top(2) if opcode != "BUILD" else (self._stack[-2], self._stack.pop())
        if opcode == "STACK_GLOBAL":
            self._stack.append(self._named(first, second))
        elif opcode == "REDUCE":
            if not isinstance(first, Name) or not isinstance(second, tuple):
                raise self._refusal("something is called that is not a function")
            self._stack.append(Made(first.name, second))
        elif isinstance(first, Made):
            first.state = second
        else:
            raise self._refusal("a state is given to what has none")
        return True

    def _named(self, module: Any, name: Any) -> Name:
        if not isinstance(module, str) or not isinstance(name, str) or (module, name) not in _GLOBALS:
            raise self._refusal(f"the name {ascii(f'{module}.{name}')[:80]} is not part of an array")
        return Name(_GLOBALS[module, name])

    def _items(self, target: Any, values: list[Any]) -> None:
        if not isinstance(target, dict) or len(values) % 2:
            raise self._refusal("keys and values are given to what is not a dict")
        if not all(isinstance(key, str) for key in values[::2]):
            raise self._refusal("a key is not text")
        target.update(zip(values[::2], values[1::2], strict=True))

    def _since_mark(self) -> list[Any]:
        start = self._marks.pop()
        found = self._stack[start:]
        del self._stack[start:]
        return found

    def _top(self, count: int) -> list[Any]:
        found = self._stack[-count:]
        if len(found) < count:
            raise self._refusal("the pickle takes more than it was given")
        del self._stack[-count:]
        return found

    def _refusal(self, why: str) -> IntegrityError:
        return IntegrityError(f"{self._what}: {why}.")

"""A mapping of the configuration that is read key by key, with file and line in every message.

Each section declares its keys in three classes: used; accepted without effect here, which is noted; refused with a
reason.  Any other key is a mistake, and is told so with the nearest known one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from inc_laaciq.config.checks import did_you_mean, shown
from inc_laaciq.config.strict_yaml import Document, child_path
from inc_laaciq.errors import SpecError

T = TypeVar("T")
D = TypeVar("D")
# A key, or a key and the place in the list that it holds.
Place = str | tuple[str, int]


@dataclass(frozen=True, kw_only=True)
class Keys:
    """Keys of a section.

    Parameters
    ----------
    used : tuple of str
    ignored : mapping of str to str
        Key -> why it has no effect here.
    refused : mapping of str to str
        Key -> why it is an error.
    """

    used: tuple[str, ...]
    ignored: Mapping[str, str] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)

    @property
    def known(self) -> tuple[str, ...]:
        """Keys that may be written."""
        return (*self.used, *self.ignored)


class Section:
    """A mapping of a document, at a path.

    Parameters
    ----------
    document : Document
    keys : Keys, or None
        None allows any key.
    path : str
        Where in the document; empty for its root.
    data : mapping
        What is there.
    line : int or None
        Where the mapping starts, for keys without a line of their own (behind an alias).
    notes : list of (line, str)
        Collects what the reader of the configuration should know; shared by all sections of a document.
    """

    def __init__(
        self,
        document: Document,
        keys: Keys | None,
        *,
        path: str = "",
        data: Mapping[str, Any] | None = None,
        line: int | None = None,
        notes: list[tuple[int, str]] | None = None,
    ) -> None:
        self.document = document
        self.path = path
        self.data: Mapping[str, Any] = document.data if data is None else data
        self.notes: list[tuple[int, str]] = [] if notes is None else notes
        self._line = line
        if keys is not None:
            self._sort_out(keys)

    def _sort_out(self, keys: Keys) -> None:
        for key in self.data:
            if key in keys.refused:
                raise self.error(key, f"is refused: {keys.refused[key]}.", with_value=False)
            if key in keys.ignored:
                self.note(key, f"has no effect here: {keys.ignored[key]}.")
            elif key not in keys.used:
                where = f"in {self.path}" if self.path else "at the top"
                hint = did_you_mean(key, keys.known)
                known = ", ".join(sorted(keys.known))
                raise self.error(key, f"is not a known key {where}.{hint} Known keys: {known}.", with_value=False)

    def __contains__(self, key: str) -> bool:
        return key in self.data

    def line_of(self, place: Place) -> int | None:
        """Line of a key or list item, or of the nearest thing around it that has one."""
        lines = self.document.lines
        key = place if isinstance(place, str) else place[0]
        return lines.get(self._path_of(place), lines.get(child_path(self.path, key), self._line))

    def child(self, key: str, keys: Keys | None, *, required: bool = False) -> Section:
        """Open the mapping below a key: an empty one if the key is absent, or has no value and is not `required`."""
        data = self.data.get(key)
        if data is None and not (required and key in self.data):
            data = {}
        if not isinstance(data, Mapping):
            raise self.error(key, "must be a mapping of keys to values.")
        path = child_path(self.path, key)
        return Section(self.document, keys, path=path, data=data, line=self.line_of(key), notes=self.notes)

    def item(self, key: str, place: int, keys: Keys | None) -> Section:
        """Open a mapping that is an element of the list below a key."""
        data = self.data[key][place]
        if not isinstance(data, Mapping):
            raise self.error((key, place), "must be a mapping of keys to values.")
        path = self._path_of((key, place))
        return Section(self.document, keys, path=path, data=data, line=self.line_of((key, place)), notes=self.notes)

    def require(self, key: str, check: Callable[[object], T], example: str) -> T:
        """Value of a key, checked; SpecError with an example, at the mapping's first line, if the key is absent."""
        if key in self.data:
            try:
                return check(self.data[key])
            except SpecError as error:
                raise self.error(key, str(error)) from None
        lines = self.document.lines
        first = min((lines[path] for path in map(self._path_of, self.data) if path in lines), default=self._line)
        where = "" if first is None else f"{self.document.label}:{first}: "
        raise SpecError(f"{where}{self.path or 'the file'} has no {key}. Write {key}: {example}.")

    def take(self, key: str, check: Callable[[object], T], default: D) -> T | D:
        """Value of a key, checked; `default` if the key is absent."""
        if key not in self.data:
            return default
        try:
            return check(self.data[key])
        except SpecError as error:
            raise self.error(key, str(error)) from None

    def error(self, place: Place, reason: str, *, with_value: bool = True) -> SpecError:
        """Error about a key: file and line, key, value and reason."""
        return SpecError(f"{self._where(place)}{self._written(place, with_value)} {reason}")

    def conflict(self, key: str, other: Section, other_key: str, reason: str) -> SpecError:
        """Error about two keys that contradict each other; both lines are named."""
        line = other.line_of(other_key)
        second = f"line {line}: " if line is not None else ""
        return SpecError(
            f"{self._where(key)}{self._written(key)} contradicts {second}{other._written(other_key)}: {reason}."
        )

    def note(self, place: Place, text: str) -> None:
        """Note something about a key."""
        self.notes.append((self.line_of(place) or 0, f"{self._where(place)}{self._path_of(place)} {text}"))

    def is_legacy_boolean(self, place: Place) -> bool:
        """Whether the key or list item is an unquoted word that YAML 1.1 reads as a boolean."""
        return self._path_of(place) in self.document.legacy_booleans

    def _path_of(self, place: Place) -> str:
        if isinstance(place, str):
            return child_path(self.path, place)
        key, item = place
        return child_path(child_path(self.path, key), item)

    def _where(self, place: Place) -> str:
        line = self.line_of(place)
        return "" if line is None else f"{self.document.label}:{line}: "

    def _written(self, place: Place, with_value: bool = True) -> str:
        path = self._path_of(place)
        value = self.data.get(place) if isinstance(place, str) else None
        if not with_value or isinstance(place, tuple) or isinstance(value, Mapping):
            return path
        return f"{path}={shown(value)}"

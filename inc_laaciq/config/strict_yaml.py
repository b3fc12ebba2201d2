"""A YAML reader that a configuration may be trusted to.

PyYAML's own loaders keep the last of two equal keys without a word, read `no` as False, and let a short file expand to
gigabytes.  This reader takes only PyYAML's parser events and builds the data itself: mappings, lists, text, numbers,
true, false and null, nothing else.  So no tag can run code, every value's line is known, and depth and aliases are
bounded while reading.

Plain scalars mean what `core_schema` says.  Mapping keys are always text, as written.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from inc_laaciq.config.core_schema import YAML_1_1_BOOLEANS, resolve_plain
from inc_laaciq.config.text_file import read_text_file
from inc_laaciq.errors import SpecError

MAX_DEPTH = 50
# Values, with aliases counted as often as they are used.  A rule for every layer of a large model makes some thousands.
MAX_NODES = 10_000
_SURROGATE = re.compile("[\ud800-\udfff]")

_TAG_PREFIX = "tag:yaml.org,2002:"
_ALLOWED_TAGS = {
    "scalar": (None, "!", _TAG_PREFIX + "str"),
    "sequence": (None, "!", _TAG_PREFIX + "seq"),
    "mapping": (None, "!", _TAG_PREFIX + "map"),
}


@dataclass(frozen=True, kw_only=True)
class Document:
    """What a YAML file holds, and where.

    Parameters
    ----------
    data : mapping
        The root: str, int, float, bool, None, list and dict, nested.
    lines : mapping of str to int
        Line (from 1) of every key and list item, by its path as `child_path` writes it, such as `la_aciq.languages[0]`.
    legacy_booleans : set of str
        Paths of the unquoted words that YAML 1.1 reads as booleans, such as `no`.
    label : str
        How error messages call the file.
    text : str
        The file, as read.
    """

    data: Mapping[str, Any]
    lines: Mapping[str, int]
    legacy_booleans: frozenset[str]
    label: str
    text: str


def child_path(path: str, key: str | int) -> str:
    """Path of a value below `path`.

    Examples
    --------
    >>> child_path("la_aciq", "mode"), child_path("la_aciq.languages", 0), child_path("op_wise", "h.0.mlp")
    ('la_aciq.mode', 'la_aciq.languages[0]', "op_wise['h.0.mlp']")
    """
    if isinstance(key, int):
        return f"{path}[{key}]"
    if not re.fullmatch(r"[\w-]+", key):
        return f"{path}[{key!r}]"
    return f"{path}.{key}" if path else key


def read_document(path: Path | str) -> Document:
    """Read a YAML file whose root is a mapping.

    Parameters
    ----------
    path : path
        As `read_text_file` takes it.

    Raises
    ------
    SpecError
        If the file cannot be read, or is not the YAML that this module's head describes.  The message starts with
        `path:line:`, for errors of syntax with `path:line:column:`.
    """
    return parse_document(read_text_file(path), str(path))


def parse_document(text: str, label: str = "configuration") -> Document:
    r"""Read YAML from a string; otherwise as `read_document`.

    Examples
    --------
    >>> document = parse_document("la_aciq:\n  languages: [en, no]\n")
    >>> document.data, document.lines["la_aciq.languages[1]"]
    ({'la_aciq': {'languages': ['en', 'no']}}, 2)
    """
    builder = _Builder(label, text)
    for event in _events(text, label):
        builder.add(event)
    if builder.documents != 1 or builder.root is None:
        raise SpecError(f"{label}: the file is empty. Write a mapping, such as 'la_aciq: {{mode: balanced}}'.")
    if not isinstance(builder.root, dict):
        raise SpecError(f"{label}:1: the file holds a {_kind(builder.root)}, not a mapping of keys to values.")
    return Document(
        data=builder.root,
        lines=builder.lines,
        legacy_booleans=frozenset(builder.legacy_booleans),
        label=label,
        text=text,
    )


def _events(text: str, label: str) -> Iterator[Any]:
    """PyYAML's events, its errors told as SpecError with line, column and excerpt."""
    try:
        yield from yaml.parse(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        reason = ", ".join(part for part in (error.context, error.problem) if part)
        raise _syntax_error(text, label, mark.index if mark else 0, reason) from None
    except yaml.reader.ReaderError as error:
        raise _syntax_error(text, label, error.position, f"character U+{error.character:04X} is not allowed") from None
    except (ValueError, OverflowError) as error:
        # The scanner lets Python's own errors through: an escape beyond Unicode, a version of thousands of digits.
        raise SpecError(f"{label}: is not valid YAML: {error}.") from None


def _syntax_error(text: str, label: str, index: int, reason: str) -> SpecError:
    """Error with the place as line and column, from 1, and the line around it."""
    index = min(index, len(text))
    start = text.rfind("\n", 0, index) + 1
    end = text.find("\n", index)
    line = text[start : end if end >= 0 else len(text)]
    number, column = text.count("\n", 0, index) + 1, index - start + 1
    first = max(0, column - 60)
    shown = "".join(letter if letter.isprintable() else " " for letter in line[first : first + 100])
    return SpecError(
        f"{label}:{number}:{column}: is not valid YAML: {reason}.\n    {shown}\n    {' ' * (column - 1 - first)}^"
    )


def _kind(value: object) -> str:
    """Name of a value's kind, in YAML's words."""
    names = {dict: "mapping", list: "list", str: "text", bool: "boolean", int: "number", float: "number"}
    return names.get(type(value), "null")


@dataclass
class _Open:
    """A mapping or sequence that is being read."""

    container: dict[str, Any] | list[Any]
    path: str
    anchor: str | None
    nodes_before: int
    key: str | None = None


@dataclass
class _Builder:
    """Turns events into data, with a stack of its own instead of recursion."""

    label: str
    text: str
    root: Any = None
    documents: int = 0
    lines: dict[str, int] = field(default_factory=dict)
    legacy_booleans: set[str] = field(default_factory=set)
    _stack: list[_Open] = field(default_factory=list)
    _nodes: int = 0
    # Anchor -> (value, number of nodes in it); None while the value is still being read.
    _anchors: dict[str, tuple[Any, int] | None] = field(default_factory=dict)

    def add(self, event: Any) -> None:
        """Take the next event."""
        line = event.start_mark.line + 1
        if isinstance(event, yaml.DocumentStartEvent):
            self.documents += 1
            if self.documents > 1:
                raise self._error(line, "a second document starts here. Keep one document, without '---' inside")
        elif isinstance(event, (yaml.MappingEndEvent, yaml.SequenceEndEvent)):
            done = self._stack.pop()
            if done.anchor is not None:
                self._anchors[done.anchor] = (done.container, self._nodes - done.nodes_before)
        elif isinstance(event, yaml.NodeEvent):
            self._node(event, line)

    def _node(self, event: Any, line: int) -> None:
        top = self._stack[-1] if self._stack else None
        if top is not None and isinstance(top.container, dict) and top.key is None:
            self._key(top, event, line)
            return
        path = ""
        if top is not None:
            key = top.key if isinstance(top.container, dict) else len(top.container)
            path = child_path(top.path, key if key is not None else "")
            if isinstance(key, int):
                self.lines[path] = line
        value = self._value(event, path, line)
        if top is None:
            self.root = value
        elif isinstance(top.container, dict):
            top.container[top.key or ""] = value
            top.key = None
        else:
            top.container.append(value)

    def _key(self, mapping: _Open, event: Any, line: int) -> None:
        """Remember a key for the value that follows."""
        if not isinstance(event, yaml.ScalarEvent):
            raise self._error(line, "a key must be a plain word, not an alias, a list or a mapping")
        self._check_tag(event, "scalar", line)
        key = self._text(event, line)
        if key == "<<" and event.style is None:
            raise self._error(line, "merge keys ('<<') are not read here. Write the keys out")
        path = child_path(mapping.path, key)
        if key in mapping.container:
            first = self.lines[path]
            raise self._error(line, f"key {key!r} is given twice: first on line {first}. Remove one of them")
        self.lines[path] = line
        if event.style is None and key in YAML_1_1_BOOLEANS:
            self.legacy_booleans.add(path)
        mapping.key = key

    def _value(self, event: Any, path: str, line: int) -> Any:
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event.anchor, line)
        self._count(1, line)
        if isinstance(event, yaml.ScalarEvent):
            self._check_tag(event, "scalar", line)
            value: Any = self._text(event, line)
            if event.style is None and event.tag is None:
                if value in YAML_1_1_BOOLEANS:
                    self.legacy_booleans.add(path)
                try:
                    value = resolve_plain(value)
                except SpecError as error:
                    raise self._error(line, str(error)) from None
            if event.anchor is not None:
                self._anchors[event.anchor] = (value, 1)
            return value
        kind = "mapping" if isinstance(event, yaml.MappingStartEvent) else "sequence"
        self._check_tag(event, kind, line)
        if len(self._stack) >= MAX_DEPTH:
            raise self._error(line, f"lists and mappings are nested deeper than {MAX_DEPTH}")
        container: dict[str, Any] | list[Any] = {} if kind == "mapping" else []
        self._stack.append(_Open(container, path, event.anchor, self._nodes - 1))
        if event.anchor is not None:
            self._anchors[event.anchor] = None
        return container

    def _alias(self, anchor: str | None, line: int) -> Any:
        if anchor is None or anchor not in self._anchors:
            raise self._error(line, f"alias '*{anchor}' has no anchor '&{anchor}' before it")
        target = self._anchors[anchor]
        if target is None:
            raise self._error(line, f"alias '*{anchor}' is inside of its own anchor")
        value, nodes = target
        self._count(nodes, line)
        return value

    def _count(self, nodes: int, line: int) -> None:
        self._nodes += nodes
        if self._nodes > MAX_NODES:
            raise self._error(line, f"the file holds more than {MAX_NODES} values, aliases counted as often as used")

    def _check_tag(self, event: Any, kind: str, line: int) -> None:
        if event.tag not in _ALLOWED_TAGS[kind]:
            shown = event.tag.replace(_TAG_PREFIX, "!!")[:60]
            raise self._error(line, f"tag {shown!r} is not allowed. Write plain values; nothing is constructed or run")

    def _text(self, event: Any, line: int) -> str:
        text = str(event.value)
        if _SURROGATE.search(text):
            raise self._error(line, "a lone surrogate escape is not text")
        return text

    def _error(self, line: int, reason: str) -> SpecError:
        return SpecError(f"{self.label}:{line}: {reason}.")

"""Settings given as Python objects, as the document that a YAML file would have given.

So both ways in go through the same reading and the same checks.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from inc_laaciq.config.core_schema import MAX_DIGITS
from inc_laaciq.config.strict_yaml import MAX_DEPTH, MAX_NODES, Document, child_path
from inc_laaciq.errors import SpecError

_LABEL = "configuration"


def document_of(settings: Mapping[str, Any]) -> Document:
    """Document of nested mappings, lists and plain values.

    Parameters
    ----------
    settings : mapping
        Keys are text; values are mappings, lists, tuples, text, paths, numbers, booleans or None.

    Raises
    ------
    SpecError
        If there is anything else in it, or if it is too deep (or holds itself) or too large, as one number of it can
        be.
    """
    nodes = 0

    def convert(value: Any, path: str, depth: int) -> Any:
        nonlocal nodes
        nodes += 1
        if nodes > MAX_NODES or depth > MAX_DEPTH:
            limit = f"nested deeper than {MAX_DEPTH}" if depth > MAX_DEPTH else f"more than {MAX_NODES} values"
            raise SpecError(f"{_LABEL}: has {limit} at {path[:80]}.")
        if isinstance(value, Mapping):
            return {_key(key, path): convert(item, child_path(path, key), depth + 1) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [convert(item, child_path(path, place), depth + 1) for place, item in enumerate(value)]
        if isinstance(value, os.PathLike):
            value = os.fspath(value)
        if isinstance(value, str):
            return _text(value, path)
        if isinstance(value, int) and abs(value) >= 10**MAX_DIGITS:
            raise SpecError(f"{_LABEL}: {path} is a number of more than {MAX_DIGITS} digits.")
        if value is None or isinstance(value, (bool, int, float)):
            return value
        raise SpecError(f"{_LABEL}: {path} is of type {type(value).__name__}. Give text, numbers, lists and mappings.")

    data = convert(settings, "", 0)
    if not isinstance(data, dict):
        raise SpecError(f"{_LABEL}: must be a mapping of keys to values, not {type(settings).__name__}.")
    return Document(
        data=data,
        lines={},
        legacy_booleans=frozenset(),
        label=_LABEL,
        text=json.dumps(data, sort_keys=True, ensure_ascii=False),
    )


def _key(key: Any, path: str) -> str:
    if not isinstance(key, str):
        where = path or "the top"
        raise SpecError(
            f"{_LABEL}: key {key!r} at {where} is not text (YAML 1.1 readers turn the key 'no' into False)."
        )
    return _text(key, path)


def _text(value: str, path: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise SpecError(f"{_LABEL}: {path} holds a lone surrogate, which is not text.") from None
    return str(value)

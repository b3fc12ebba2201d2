"""Typed reading of `laaciq.json` and of a gate's document.

A report of a damaged or foreign file says which key is wrong instead of crashing.

What is absent reads as empty, because a run that stopped early or was not evaluated has less to show.  What is there
with another type than it should have is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from inc_laaciq.errors import IntegrityError

#: The form of `laaciq.json`.
SCHEMA = "inc-laaciq/run/1"

#: The form of what a gate says about two results files.
GATE_SCHEMA = "inc-laaciq/gate/1"

SCHEMAS = (SCHEMA, GATE_SCHEMA)

Document = Mapping[str, Any]


def check_schema(run: object) -> Document:
    """Refuse what is not a mapping of a known schema, and give it back otherwise.

    Raises
    ------
    IntegrityError
        If not.
    """
    if not isinstance(run, Mapping):
        raise _wrong("the document", "an object with keys", run)
    schema = run.get("schema")
    if schema not in SCHEMAS:
        raise IntegrityError(
            f"schema is {_excerpt(schema)}, but only {' and '.join(map(repr, SCHEMAS))} can be reported. "
            "Give the laaciq.json of a run, or the document of a gate, written by this version of inc-laaciq."
        )
    return run


def section(parent: Document, key: str) -> Document:
    """Look up the mapping under a key; empty if absent or null.

    Raises
    ------
    IntegrityError
        If there is something else.
    """
    value = parent.get(key)
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise _wrong(f"{key!r}", "an object with keys", value)
    return value


def items(parent: Document, key: str) -> Sequence[Any]:
    """Look up the list under a key; empty if absent or null.

    Raises
    ------
    IntegrityError
        If there is something else.
    """
    value = parent.get(key)
    if value is None:
        return ()
    if isinstance(value, (str, bytes)) or not isinstance(value, Sequence):
        raise _wrong(f"{key!r}", "a list", value)
    return value


def sections(parent: Document, key: str) -> Sequence[Document]:
    """Look up the list of mappings under a key; empty if absent or null.

    Raises
    ------
    IntegrityError
        If there is something else.
    """
    found = items(parent, key)
    for number, value in enumerate(found):
        if not isinstance(value, Mapping):
            raise _wrong(f"entry {number} of {key!r}", "an object with keys", value)
    return found


def _wrong(where: str, expected: str, value: object) -> IntegrityError:
    return IntegrityError(
        f"{where} should be {expected}, not {type(value).__name__} {_excerpt(value)}. "
        "The document is damaged or was edited; take the one that inc-laaciq wrote."
    )


def _excerpt(value: object) -> str:
    written = ascii(value)
    return written if len(written) <= 60 else written[:57] + "..."

"""Whatever is done to a valid configuration, it gives a RunSpec or a SpecError, never another exception."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from inc_laaciq.config import RunSpec, read_config, run_spec
from inc_laaciq.config.strict_yaml import read_document
from inc_laaciq.errors import SpecError

ANNOTATED = Path(__file__).parents[2] / "yaml" / "annotated.yaml"
TEXT = ANNOTATED.read_text(encoding="utf-8")
DATA = copy.deepcopy(dict(read_document(ANNOTATED).data))
WORDS = sorted({word for word in TEXT.replace(":", " ").split() if word.isidentifier()})

_SCALARS = (
    st.sampled_from([None, True, False, 0, 1, -1, 4, 8, 1.5, math.nan, math.inf, 10**400, "", "no", "4", "a\0", "["])
    | st.sampled_from(WORDS)
    | st.text(max_size=6)
    | st.floats()
    | st.integers()
)
_VALUES = st.recursive(
    _SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(WORDS) | st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths of all values below the root."""
    found = [path] if path else []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        found += _places(item, (*path, key))
    return found


@st.composite
def mutated(draw: st.DrawFn) -> dict[str, Any]:
    """Draw the annotated configuration with one to three values replaced, removed, renamed or moved."""
    data = copy.deepcopy(DATA)
    for _ in range(draw(st.integers(1, 3))):
        *parents, key = draw(st.sampled_from(_places(data)))
        holder: Any = data
        for parent in parents:
            holder = holder[parent]
        change = draw(st.sampled_from(["replace", "replace", "remove", "rename", "wrap"]))
        if change == "replace":
            holder[key] = draw(_VALUES)
        elif change == "wrap":
            holder[key] = [holder[key]]
        else:
            value = holder.pop(key)
            if change == "rename" and isinstance(holder, dict) and key:
                position = draw(st.integers(0, len(key) - 1))
                holder[draw(st.sampled_from([key[:position] + key[position + 1 :], key.upper(), key + "s"]))] = value
    return data


def _outcome(make: Callable[[], RunSpec]) -> RunSpec | SpecError:
    try:
        return make()
    except SpecError as error:
        return error


@given(mutated())
@settings(max_examples=150)
def test_mutated_settings_give_a_spec_or_a_spec_error(data: dict[str, Any]) -> None:
    outcome = _outcome(lambda: run_spec(data))
    assert len(outcome.digest) == 64 if isinstance(outcome, RunSpec) else str(outcome)


_EDITS = st.lists(
    st.tuples(
        st.integers(0, len(TEXT) - 1),
        st.integers(0, 3),
        st.sampled_from(
            ["", " ", "\n", ":", "x", "0", "-", "'", '"', "[", "}", "&a ", "*a", "!!int ", "#", "\t", "é", "\x07"]
        ),
    ),
    min_size=1,
    max_size=4,
)


@given(_EDITS)
@settings(max_examples=100)
def test_mutated_text_gives_a_spec_or_a_spec_error(tmp_path_factory: Any, edits: list[tuple[int, int, str]]) -> None:
    text = TEXT
    for place, removed, added in edits:
        text = text[:place] + added + text[place + removed :]
    path = tmp_path_factory.getbasetemp() / "mutated.yaml"
    path.write_text(text, encoding="utf-8")
    outcome = _outcome(lambda: read_config(path))
    if isinstance(outcome, SpecError):
        assert str(outcome).startswith(f"{path}:")
    else:
        assert all(str(path) in note or "is not given" in note for note in outcome.notes)


@given(st.dictionaries(st.sampled_from(["la_aciq", "quantization", "tuning", "model", "strategy"]), _VALUES))
@settings(max_examples=100)
def test_random_sections_give_a_spec_or_a_spec_error(data: dict[str, Any]) -> None:
    outcome = _outcome(lambda: run_spec(data))
    assert len(outcome.digest) == 64 if isinstance(outcome, RunSpec) else str(outcome)


def test_annotated_is_where_mutations_start_from() -> None:
    assert run_spec(DATA, folder=ANNOTATED.parent) == read_config(ANNOTATED)
    assert yaml.safe_load(TEXT)["la_aciq"]["languages"] == ["en", "sw", "no", "zh-Hant"]

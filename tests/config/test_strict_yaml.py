"""Rows 1 to 4, 6 and 7 of the table of faults: what a configuration file may be, before any key is looked at."""

from __future__ import annotations

import itertools
import json
import math
import os
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Read
from hypothesis import given
from hypothesis import strategies as st

from inc_laaciq.config import read_config
from inc_laaciq.config.strict_yaml import MAX_DEPTH, MAX_NODES, parse_document, read_document
from inc_laaciq.config.text_file import MAX_BYTES
from inc_laaciq.errors import SpecError


@pytest.fixture
def as_nobody() -> Iterator[None]:
    """Give up root's right to read everything, where the tests run as root."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(65534)
    yield
    os.seteuid(before)


def _error(text: str) -> str:
    with pytest.raises(SpecError, match=r".") as caught:
        parse_document(text, "c.yaml")
    return str(caught.value)


def _data(text: str) -> Any:
    return parse_document(text).data


# Row 1: missing or unreadable


def test_row_01_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"nowhere\.yaml: no such file"):
        read_config(tmp_path / "nowhere.yaml")


def test_row_01_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="is a folder"):
        read_config(tmp_path)


@pytest.mark.usefixtures("as_nobody")
def test_row_01_file_without_permission_is_refused() -> None:
    with pytest.raises(SpecError, match=r"/etc/shadow: cannot be read: Permission denied"):
        read_config("/etc/shadow")


def test_row_01_device_without_end_is_refused() -> None:
    with pytest.raises(SpecError, match=r"^/dev/zero: is not a regular file"):
        read_config("/dev/zero")


def test_row_01_pipe_is_refused_without_waiting_for_a_writer(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    with pytest.raises(SpecError, match="is not a regular file"):
        read_config(tmp_path / "pipe.yaml")


@pytest.mark.parametrize("path", ["a\0b.yaml", "a" * 5000])
def test_row_01_impossible_path_is_refused(path: str) -> None:
    with pytest.raises(SpecError, match="cannot be read"):
        read_config(path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"la_aciq:\n  mode: f\xe4st\n", r":2: is not UTF-8 \(byte 0xe4 at offset 18\)"),
        ("la_aciq: {}".encode("utf-16"), r"UTF-16 at offset 0\). Save it as UTF-8"),
    ],
)
def test_row_01_other_encoding_is_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "conf.yaml").write_bytes(content)
    with pytest.raises(SpecError, match=reason):
        read_config(tmp_path / "conf.yaml")


def test_byte_order_mark_and_windows_line_ends_are_accepted(tmp_path: Path) -> None:
    (tmp_path / "conf.yaml").write_bytes(b"\xef\xbb\xbfla_aciq:\r\n  mode: fast\r\n")
    document = read_document(tmp_path / "conf.yaml")
    assert document.data == {"la_aciq": {"mode": "fast"}}
    assert document.lines["la_aciq.mode"] == 2


@pytest.mark.parametrize("text", ["", "\n\n", "# nothing\n", "---\n", "null", "~"])
def test_empty_file_is_refused(text: str) -> None:
    assert _error(text).startswith("c.yaml: the file is empty")


@pytest.mark.parametrize(
    ("text", "kind"), [("- 1", "list"), ("just text", "text"), ("3", "number"), ("true", "boolean")]
)
def test_root_that_is_no_mapping_is_refused(text: str, kind: str) -> None:
    assert f"holds a {kind}, not a mapping" in _error(text)


# Row 2: syntax errors


def test_row_02_syntax_error_has_line_column_and_excerpt() -> None:
    message = _error("la_aciq:\n  mode: [fast\n  damping: 0.01\n")
    assert message.startswith("c.yaml:3:10: is not valid YAML: while parsing a flow sequence, expected ',' or ']'")
    assert message.endswith("\n      damping: 0.01\n             ^")


def test_row_02_excerpt_of_a_long_line_is_short_and_printable() -> None:
    message = _error("a: '" + "x" * 5000 + "\u2007\x85' : [}")
    assert max(map(len, message.splitlines())) < 140
    assert all(line.isprintable() for line in message.splitlines())


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a: \x01", "c.yaml:1:4: is not valid YAML: character U+0001 is not allowed"),
        ("a:\n\t- 1", "c.yaml:2:1: is not valid YAML: while scanning for the next token"),
        ("a: b: c", "c.yaml:1:5: is not valid YAML: mapping values are not allowed here"),
        (r'a: "\UFFFFFFFF"', "c.yaml: is not valid YAML"),
        ("%YAML 1." + "9" * 5000 + "\n---\na: 1", "c.yaml: is not valid YAML"),
        (r'a: "\ud800"', "c.yaml:1: a lone surrogate escape is not text"),
        ("a: 1\n---\nb: 2", "c.yaml:2: a second document starts here"),
        ("a: *b", "c.yaml:1: alias '*b' has no anchor"),
        ("a: &x [*x]", "c.yaml:1: alias '*x' is inside of its own anchor"),
        ("? [a]\n: 1", "c.yaml:1: a key must be a plain word"),
        ("a: &x b\n*x : 1", "c.yaml:2: a key must be a plain word"),
        ("a: &x {b: 1}\nc:\n  <<: *x", "c.yaml:3: merge keys"),
        ("a: " + "9" * 101, "c.yaml:1: a number has more than 100 characters"),
    ],
)
def test_row_02_what_is_not_a_configuration_is_refused(text: str, reason: str) -> None:
    assert _error(text).startswith(reason)


# Row 3: tags


@pytest.mark.parametrize(
    "value",
    [
        "!!python/object/apply:os.system ['touch canary']",
        "!!python/object/new:os.system ['touch canary']",
        "!!python/name:os.system ''",
        "!!python/tuple [1]",
        "!!binary aGk=",
        "!!timestamp 2020-01-01",
        "!!set {a}",
        "!Pruner {a: 1}",
        "!!int '4'",
    ],
)
def test_row_03_tags_are_refused_and_nothing_runs(value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    tag = value.split()[0]
    assert _error(f"a: 1\nb: {value}\n").startswith(f"c.yaml:2: tag '{tag}' is not allowed")
    assert _error(f"{tag} b: 1\n").startswith(f"c.yaml:1: tag '{tag}'")
    assert not (tmp_path / "canary").exists()


def test_tags_that_only_say_the_kind_are_accepted() -> None:
    assert _data("!!map\na: !!str 4\nb: !!seq [1]\n") == {"a": "4", "b": [1]}


# Row 4: bombs


def _billion_laughs() -> str:
    first = "a: &a [x, x, x, x, x, x, x, x, x]\n"
    levels = "abcdefghi"
    return first + "".join(
        f"{name}: &{name} [{', '.join(['*' + below] * 9)}]\n" for below, name in itertools.pairwise(levels)
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        pytest.param(_billion_laughs(), f"more than {MAX_NODES} values", id="aliases"),
        pytest.param("a: [" + "1," * 200_000 + "1]", f"more than {MAX_NODES} values", id="long list"),
        pytest.param("a: " + "[" * 400_000, f"nested deeper than {MAX_DEPTH}", id="deep lists"),
        pytest.param("a: " + "{a: " * 200_000, f"nested deeper than {MAX_DEPTH}", id="deep mappings"),
        pytest.param("- " * 400_000, f"nested deeper than {MAX_DEPTH}", id="deep block lists"),
    ],
)
def test_row_04_bomb_is_refused_at_once(text: str, reason: str) -> None:
    started = time.process_time()
    assert reason in _error(text)
    assert time.process_time() - started < 1.0


def test_row_04_bomb_takes_little_memory() -> None:
    tracemalloc.start()
    _error(_billion_laughs())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000


def test_row_04_large_file_is_refused_without_reading_it_all(tmp_path: Path) -> None:
    path = tmp_path / "conf.yaml"
    with path.open("wb") as file:
        file.truncate(10**12)
    with pytest.raises(SpecError, match=f"is larger than {MAX_BYTES} bytes"):
        read_config(path)


def test_row_04_limits_are_not_off_by_one() -> None:
    assert _data("a: " + "[" * (MAX_DEPTH - 1) + "]" * (MAX_DEPTH - 1))
    assert "deeper" in _error("a: " + "[" * MAX_DEPTH + "]" * MAX_DEPTH)
    assert _data("a: [" + "1," * (MAX_NODES - 2) + "]")
    assert "values" in _error("a: [" + "1," * (MAX_NODES - 1) + "]")


def test_aliases_in_reason_are_accepted() -> None:
    document = parse_document("a: &x {b: [1, 2]}\nc: *x\nd: &y 5\ne: *y\n")
    assert document.data == {"a": {"b": [1, 2]}, "c": {"b": [1, 2]}, "d": 5, "e": 5}


# Row 6: duplicate keys


@pytest.mark.parametrize("text", ["a: 1\nb: 2\na: 3\n", "x:\n  - a: 1\n    'a': 2\n", "{a: 1,\n b: 1,\n a: 1}"])
def test_row_06_duplicate_key_is_refused_with_both_lines(text: str) -> None:
    first = 2 if text.startswith("x") else 1
    assert f":3: key 'a' is given twice: first on line {first}" in _error(text)


# Row 7: words that YAML 1.1 reads as booleans, and other plain scalars


def test_row_07_no_is_text_wherever_it_stands() -> None:
    document = parse_document("a: [no, NO, on, y, 'no']\nno: no\nb: {off: 1}\n")
    assert document.data == {"a": ["no", "NO", "on", "y", "no"], "no": "no", "b": {"off": 1}}
    assert document.legacy_booleans == {"a[0]", "a[1]", "a[2]", "a[3]", "no", "b.off"}


@pytest.mark.parametrize(
    ("scalar", "value"),
    [
        ("true", True),
        ("FALSE", False),
        ("~", None),
        ("", None),
        ("null", None),
        ("'null'", "null"),
        ("4", 4),
        ("'4'", "4"),
        ("-4", -4),
        ("010", 10),
        ("0o17", 15),
        ("0x1F", 31),
        ("4.0", 4.0),
        ("1e-3", 0.001),
        (".5", 0.5),
        (".inf", math.inf),
        ("-.INF", -math.inf),
        ("1_000", "1_000"),
        ("1:30", "1:30"),
        ("2020-01-01", "2020-01-01"),
        ("0b1", "0b1"),
        ("10%", "10%"),
        ("=", "="),
    ],
)
def test_plain_scalars_follow_yaml_1_2(scalar: str, value: object) -> None:
    found = _data(f"a: {scalar}")
    assert found == {"a": value}
    assert type(found["a"]) is type(value)


def test_not_a_number_is_read_as_such() -> None:
    assert math.isnan(_data("a: .nan")["a"])


def test_lines_are_known_for_keys_and_items() -> None:
    document = parse_document("a:\n  b: 1\n  'c.d':\n    - x\n    - y: 2\n")
    assert document.lines == {
        "a": 1,
        "a.b": 2,
        "a['c.d']": 3,
        "a['c.d'][0]": 4,
        "a['c.d'][1]": 5,
        "a['c.d'][1].y": 5,
    }


# JSON is YAML, but for control characters, and for line separators, which YAML folds.
_TEXT = st.text(st.characters(exclude_categories=["Cc", "Cs", "Cn", "Zl", "Zp"]), max_size=8)
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.floats(allow_nan=False, allow_infinity=False) | _TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_TEXT, inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(_TEXT, _VALUES, min_size=1, max_size=4))
def test_json_is_read_as_what_it_is(data: dict[str, object]) -> None:
    assert parse_document(json.dumps(data, ensure_ascii=False)).data == data


@given(st.text(alphabet=st.sampled_from("ab:-?[]{}&*!|>'\"%@`#,. \n\t\\\x85<0"), max_size=40) | st.text(max_size=40))
def test_any_text_gives_a_document_or_a_spec_error(text: str) -> None:
    try:
        found: object = parse_document(text, "c.yaml").data
    except SpecError as error:
        found = str(error)
    assert isinstance(found, dict) or str(found).startswith("c.yaml:")


def test_reader_reaches_every_caller(read: Read) -> None:
    with pytest.raises(SpecError, match=r"conf\.yaml:3: key 'mode' is given twice: first on line 2"):
        read("la_aciq:\n  mode: fast\n  mode: balanced\n")

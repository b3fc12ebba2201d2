from __future__ import annotations

import json
import os
import random
import tempfile
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from inc_laaciq.checkpoint.safetensors_file import DTYPE_BITS, MAX_HEADER_BYTES, read_header
from inc_laaciq.checkpoint.strict_json import MAX_VALUES
from inc_laaciq.errors import IntegrityError

A = {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}
B = {"dtype": "I8", "shape": [4], "data_offsets": [24, 28]}


def write(path: Path, header: Any, data: bytes = b"", length: int | None = None) -> Path:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes((len(raw) if length is None else length).to_bytes(8, "little") + raw + data)
    return path


@pytest.fixture
def shard(tmp_path: Path) -> Path:
    return tmp_path / "model-00001-of-00002.safetensors"


@pytest.fixture(scope="module")
def honest_bytes(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("honest") / "a.safetensors"
    save_file(
        {"w": torch.ones(3, 5), "b": torch.zeros(7, dtype=torch.bfloat16), "empty": torch.zeros(0, 4)},
        path,
        metadata={"format": "pt"},
    )
    return path.read_bytes()


def test_reads_what_safetensors_wrote(tmp_path: Path, honest_bytes: bytes) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(honest_bytes)
    header = read_header(path)
    assert header.metadata == {"format": "pt"}
    assert {name: (entry.dtype, entry.shape) for name, entry in header.tensors.items()} == {
        "w": ("F32", (3, 5)),
        "b": ("BF16", (7,)),
        "empty": ("F32", (0, 4)),
    }
    assert header.data_bytes == 3 * 5 * 4 + 7 * 2
    assert header.data_start + header.data_bytes == len(honest_bytes)


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float16, torch.int64, torch.bool, torch.uint8], ids=str)
def test_reads_every_kind_of_number(tmp_path: Path, dtype: torch.dtype) -> None:
    path = tmp_path / "a.safetensors"
    save_file({"w": torch.zeros(4, 2).to(dtype)}, path)
    entry = read_header(path).tensors["w"]
    assert DTYPE_BITS[entry.dtype] * 8 == 8 * (entry.end - entry.start)


def test_no_tensors_at_all(shard: Path) -> None:
    assert read_header(write(shard, {})).tensors == {}


# Row 31


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\0" * 27, r"00001-of-00002\.safetensors: truncated: the header describes 28 bytes of data, 27 found"),
        (b"\0" * 29, r"00001-of-00002\.safetensors: has trailing bytes: .* 28 bytes of data, 29 found"),
        (b"", r"truncated: the header describes 28 bytes of data, 0 found"),
    ],
    ids=["truncated", "trailing", "header only"],
)
def test_data_of_the_wrong_length(shard: Path, data: bytes, message: str) -> None:
    with pytest.raises(IntegrityError, match=message):
        read_header(write(shard, {"a": A, "b": B}, data))


def test_every_truncation_of_an_honest_file_is_found(tmp_path: Path, honest_bytes: bytes) -> None:
    path = tmp_path / "a.safetensors"
    for length in range(len(honest_bytes)):
        path.write_bytes(honest_bytes[:length])
        with pytest.raises(IntegrityError, match=r"a\.safetensors: truncated: .* \d+ found"):
            read_header(path)


# Row 32


@pytest.mark.parametrize("length", [2**63, 2**64 - 1, MAX_HEADER_BYTES + 1], ids=["2^63", "2^64-1", "limit + 1"])
def test_header_length_is_not_believed(shard: Path, length: int) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(IntegrityError, match=f"claims {length} bytes"):
            read_header(write(shard, {"a": A}, b"\0" * 24, length=length))
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_header_within_the_limit_but_beyond_the_file(shard: Path) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(IntegrityError, match=r"truncated: the header alone needs 99000008 bytes, 98 found"):
            read_header(write(shard, b"{}".ljust(90), length=99_000_000))
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("header", "size", "message"),
    [
        ({"a": A, "b": B | {"data_offsets": [20, 24]}}, 28, "'b' overlaps the tensor before it: .* 20 .* 24 expected"),
        ({"a": A, "b": B | {"data_offsets": [0, 4]}}, 28, "overlaps"),
        ({"a": A, "b": B | {"data_offsets": [25, 29]}}, 29, "'b' leaves a hole before it"),
        ({"b": B}, 28, "'b' leaves a hole before it: it begins at byte 24 of the data, 0 expected"),
        ({"a": A | {"shape": [2**62, 8]}}, 24, "overflows"),
        ({"a": A | {"shape": [2**62, 4, 0], "data_offsets": [0, 0]}}, 0, "overflows"),
        ({"a": A | {"shape": [2**70]}}, 24, "integer of 22 digits|shape must be"),
        ({"a": A | {"shape": [10**19 * 9]}}, 24, "shape must be a list of integers"),
        ({"a": A | {"shape": [3, 3]}}, 24, r"F32 of shape '\[3, 3\]' needs 36 bytes, data_offsets give it 24"),
        ({"a": A | {"dtype": "F16"}}, 24, "needs 12 bytes, data_offsets give it 24"),
        ({"a": A | {"dtype": "F4", "shape": [3], "data_offsets": [0, 1]}}, 1, "needs 1.5 bytes"),
        ({"a": A | {"dtype": "F33"}}, 24, "dtype 'F33' is unknown"),
        ({"a": A | {"dtype": ["F32"]}}, 24, "is unknown"),
        ({"a": A | {"shape": [-2, -3]}}, 24, "shape must be"),
        ({"a": A | {"shape": [True, 6]}}, 24, "shape must be"),
        ({"a": A | {"shape": 6}}, 24, "shape must be"),
        ({"a": A | {"data_offsets": [24, 0]}}, 24, "the first not above the second"),
        ({"a": A | {"data_offsets": [0, 24, 24]}}, 24, "must be two integers"),
        ({"a": A | {"data_offsets": [0, 24.0]}}, 24, r"the number '24.0' is not allowed"),
        ({"a": A | {"extra": 1}}, 24, "and nothing else"),
        ({"a": {"dtype": "F32"}}, 24, "must have dtype, shape and data_offsets"),
        ({"a": [1, 2]}, 24, "must have dtype"),
        ({"a": A, "__metadata__": {"format": 1}}, 24, "__metadata__ must map names to text"),
        ({"a": A, "__metadata__": "pt"}, 24, "__metadata__ must map names to text"),
        ([A], 24, "must begin with '{'"),
        (b" {}", 0, "must begin with '{'"),
        (b"\xef\xbb\xbf{}", 0, "must begin with '{'"),
        (b"{", 0, "is not JSON"),
        (b"{} {}", 0, "is not JSON"),
        (b'{"a": "\xff"}', 0, "is not JSON in UTF-8"),
        (b'{"\\ud800": {"dtype":"I8","shape":[1],"data_offsets":[0,1]}}', 1, "is not valid Unicode"),
        (b'{"a": NaN}', 0, "the number 'NaN' is not allowed"),
        (b'{"a": -Infinity}', 0, "'-Infinity' is not allowed"),
        (b'{"a": ' + b"9" * 5000 + b"}", 0, "an integer of 5000 digits"),
        (b'{"a": ' + b"[" * 200_000 + b"}", 0, "nested too deeply"),
    ],
)
def test_hostile_headers(shard: Path, header: Any, size: int, message: str) -> None:
    with pytest.raises(IntegrityError, match=message):
        read_header(write(shard, header, b"\0" * size))


def test_a_name_given_twice(shard: Path) -> None:
    entry = json.dumps(B | {"data_offsets": [0, 4]})
    with pytest.raises(IntegrityError, match="the key 'b' occurs twice"):
        read_header(write(shard, f'{{"b": {entry}, "b": {entry}}}'.encode(), b"\0" * 4))
    with pytest.raises(IntegrityError, match="the key 'dtype' occurs twice"):
        read_header(write(shard, b'{"b": {"dtype":"I8","dtype":"U8","shape":[4],"data_offsets":[0,4]}}', b"\0" * 4))


def test_millions_of_empty_values_are_not_parsed(shard: Path) -> None:
    write(shard, b'{"a": [' + b"[]," * MAX_VALUES + b"[]]}")
    tracemalloc.start()
    try:
        with pytest.raises(IntegrityError, match="JSON values, where at most"):
            read_header(shard)
        # The text itself, and no objects: those would take twenty times as much.
        assert tracemalloc.get_traced_memory()[1] < 3 * shard.stat().st_size
    finally:
        tracemalloc.stop()


def test_hostile_names_are_quoted_and_shortened(shard: Path) -> None:
    with pytest.raises(IntegrityError, match=r"tensor '\\x1b\[2J") as caught:
        read_header(write(shard, {"\x1b[2J" + "x" * 10_000: {}}))
    assert len(str(caught.value)) < 600
    assert "\x1b" not in str(caught.value)


def test_pipes_folders_and_missing_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.safetensors")
    with pytest.raises(IntegrityError, match=r"pipe\.safetensors: is not an ordinary file"):
        read_header(tmp_path / "pipe.safetensors")
    with pytest.raises(IntegrityError, match=r"is not an ordinary file|cannot be read"):
        read_header(tmp_path)
    with pytest.raises(IntegrityError, match="No such file"):
        read_header(tmp_path / "none.safetensors")


# Properties


@pytest.fixture(scope="module")
def scratch() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder) / "x.safetensors"


def _judge(path: Path) -> None:
    """Nothing but IntegrityError, little memory, and never more permissive than the reference implementation."""
    tracemalloc.start()
    try:
        header = read_header(path)
    except IntegrityError:
        return
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 2_000_000
    try:
        with safe_open(path, "pt") as file:
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:  # pragma: no cover
        pytest.fail(f"accepted what safetensors refuses: {error}")
    assert shapes == {name: entry.shape for name, entry in header.tensors.items()}


@settings(max_examples=150, deadline=None)
@given(
    edits=st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=4),
    cut=st.integers(0, 400),
    tail=st.binary(max_size=4),
)
def test_random_corruption(
    scratch: Path, honest_bytes: bytes, edits: list[tuple[int, int]], cut: int, tail: bytes
) -> None:
    data = bytearray(honest_bytes)
    for place, value in edits:
        data[place % len(data)] = value
    scratch.write_bytes(bytes(data[: len(data) - cut if cut % 3 == 0 else None]) + tail)
    _judge(scratch)


_sizes = st.one_of(st.integers(0, 8), st.integers(-3, 2**66), st.floats(), st.booleans(), st.none())
_entries = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(["F32", "I8", "F4", "BF16", "Q9", 3, None]),
        "shape": st.one_of(st.lists(_sizes, max_size=4), st.integers()),
        "data_offsets": st.one_of(st.lists(_sizes, min_size=2, max_size=2), st.lists(_sizes, max_size=3)),
    }
)
_values = st.recursive(
    st.one_of(st.none(), st.integers(), st.text(max_size=4), st.floats()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3)),
    max_leaves=6,
)


@settings(max_examples=150, deadline=None)
@given(
    header=st.dictionaries(st.text(max_size=6), st.one_of(_entries, _values), max_size=4),
    data=st.integers(0, 64),
)
def test_random_headers(scratch: Path, header: dict[str, Any], data: int) -> None:
    write(scratch, json.dumps(header).encode(), b"\0" * data)
    _judge(scratch)


@settings(max_examples=100, deadline=None)
@given(
    sizes=st.lists(st.lists(st.integers(0, 5), max_size=3), min_size=1, max_size=5),
    seed=st.integers(0, 1000),
    shift=st.sampled_from([-1, 0, 0, 1]),
)
def test_layouts_that_cover_the_data_are_read_and_others_are_not(
    scratch: Path, sizes: list[list[int]], seed: int, shift: int
) -> None:
    entries, position = [], 0
    for number, shape in enumerate(sizes):
        count = 1
        for size in shape:
            count *= size
        entries.append((f"t{number}", {"dtype": "I8", "shape": shape, "data_offsets": [position, position + count]}))
        position += count
    random.Random(seed).shuffle(entries)
    if position + shift < 0:
        shift = 0
    write(scratch, dict(entries), b"\0" * (position + shift))
    if shift == 0:
        assert set(read_header(scratch).tensors) == {name for name, _ in entries}
        _judge(scratch)
    else:
        with pytest.raises(IntegrityError, match=r"truncated|trailing"):
            read_header(scratch)


def test_a_folder_leaves_no_file_open(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(IntegrityError, match="cannot be read: Is a directory"):
        read_header(tmp_path)
    assert len(os.listdir("/proc/self/fd")) == before

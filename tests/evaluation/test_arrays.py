import base64
import tracemalloc
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from inc_laaciq.errors import IntegrityError
from inc_laaciq.evaluation.arrays import FLOAT, INTEGERS, MAX_VALUES, decode, encode


def read(entry, dtypes=INTEGERS):
    return decode(entry, dtypes=dtypes, where="a.json: language 'sw': document")


def packed(raw):
    return base64.b64encode(zlib.compress(raw)).decode()


@given(hnp.arrays(np.float64, st.integers(0, 40), elements=st.floats(allow_nan=False)))
def test_floats_come_back_bit_for_bit(values):
    entry = encode(values)
    assert entry["dtype"] == FLOAT
    assert read(entry, (FLOAT,)).tobytes() == values.tobytes()


@given(hnp.arrays(np.int64, st.integers(0, 40), elements=st.sampled_from((0, 1, 255, 256, 65535, 65536, 2**32, -1))))
def test_integers_come_back_whatever_type_they_fit(values):
    back = read(encode(values))
    assert back.dtype == np.int64
    assert np.array_equal(back, values)


@pytest.mark.parametrize(
    ("most", "dtype"),
    [
        (0, "|u1"),
        (255, "|u1"),
        (256, "<u2"),
        (65535, "<u2"),
        (65536, "<u4"),
        (2**32 - 1, "<u4"),
        (2**32, "<i8"),
        (-1, "<i8"),
    ],
)
def test_the_smallest_type_is_taken(most, dtype):
    assert encode(np.array([0, most]))["dtype"] == dtype


def test_bytes_are_little_endian_on_every_machine():
    entry = encode(np.array([1, 258], dtype=">i8"))
    assert zlib.decompress(base64.b64decode(entry["zlib"])) == b"\x01\x00\x02\x01"


GOOD = encode(np.array([1, 2, 3]))


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ([1, 2, 3], "must hold exactly dtype, n and zlib"),
        ({**GOOD, "more": 1}, "must hold exactly dtype, n and zlib"),
        ({**GOOD, "dtype": "<f8"}, r"dtype is '<f8', and must be one of \|u1, <u2, <u4, <i8"),
        ({**GOOD, "dtype": ">u2"}, "dtype is '>u2'"),
        ({**GOOD, "dtype": "O"}, "dtype is 'O'"),
        ({**GOOD, "dtype": ["|u1"]}, "dtype is"),
        ({**GOOD, "n": 2}, "n and dtype say 2 bytes, and there are more"),
        ({**GOOD, "n": 4}, "n and dtype say 4 bytes, and there are 3"),
        ({**GOOD, "n": -1}, "n is -1"),
        ({**GOOD, "n": True}, "n is True"),
        ({**GOOD, "n": 3.0}, r"n is 3\.0"),
        ({**GOOD, "n": MAX_VALUES + 1}, f"must be a whole number from 0 to {MAX_VALUES}"),
        ({**GOOD, "zlib": 3}, "zlib must be text, and is int"),
        ({**GOOD, "zlib": GOOD["zlib"][:-1]}, "is damaged: Incorrect padding"),
        ({**GOOD, "zlib": "!" + GOOD["zlib"][1:]}, "is damaged"),
        ({**GOOD, "zlib": "\u0661" * 8}, "is damaged"),
        ({**GOOD, "zlib": "AAAA"}, "is damaged: Error -3"),
        ({**GOOD, "zlib": packed(b"\1\2\3")[:-8]}, "is damaged|does not end"),
        ({**GOOD, "zlib": base64.b64encode(zlib.compress(b"\1\2\3")[:-4]).decode()}, "does not end where it should"),
        (
            {**GOOD, "zlib": base64.b64encode(zlib.compress(b"\1\2\3") + b"tail").decode()},
            "does not end where it should",
        ),
        ({**GOOD, "zlib": ""}, "and there are 0"),
    ],
)
def test_damage_is_refused_and_named(entry, message):
    with pytest.raises(IntegrityError, match=rf"a\.json: language 'sw': document: .*({message})"):
        read(entry)


def test_a_flipped_bit_is_noticed():
    raw = bytearray(base64.b64decode(encode(np.arange(100.0))["zlib"]))
    raw[len(raw) // 2] ^= 1
    with pytest.raises(IntegrityError, match="damaged"):
        read({"dtype": FLOAT, "n": 100, "zlib": base64.b64encode(bytes(raw)).decode()}, (FLOAT,))


def test_a_bomb_unpacks_to_no_more_than_it_says():
    bomb = {"dtype": "|u1", "n": 1000, "zlib": packed(bytes(200_000_000))}
    tracemalloc.start()
    try:
        with pytest.raises(IntegrityError, match="n and dtype say 1000 bytes, and there are more"):
            read(bomb)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert most < 2 * len(bomb["zlib"])  # the compressed bytes themselves, and little else

"""Files that Neural Compressor did not write: nothing in them is run, and they take no more memory than they have."""

from __future__ import annotations

import builtins
import os
import pickle
import struct
import subprocess
import sys
import zipfile

import numpy as np
import pytest

from inc_laaciq.backends import gaudi_fp8_pickle
from inc_laaciq.backends.gaudi_fp8_unpickle import read_pickled_dict
from inc_laaciq.errors import IntegrityError

HEADER = b"\x93NUMPY\x01\x00v\x00" + b"{'descr': '|O', 'fortran_order': False, 'shape': (), }".ljust(117) + b"\n"


class Calls:
    """Pickled, it makes the reader call something."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


def npz(path, value, *, protocol=4):
    """As `np.savez(path, value)` writes it, but of any value."""
    return packed(path, pickle.dumps(np.array(value, dtype=object), protocol=protocol))


def packed(path, pickled, *, compression=zipfile.ZIP_STORED, names=("arr_0.npy",), header=HEADER):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name in names:
            archive.writestr(name, header + pickled)
    return path


def nodes(**inputs):
    return {"GlobalRank": None, "LocalRank": None, "Mode": "DynamicRange", "Nodes": {"layer": {"inputs": [], **inputs}}}


def test_an_honest_file_is_read_whichever_numpy_wrote_it(tmp_path):
    value = nodes(inputs=[np.array([[1.5]], np.float32), np.array([[2.0], [3.0]])], params={"weight": np.float32(0.5)})
    np.savez(tmp_path / "own.npz", value)
    module = b"numpy._core.multiarray" if int(np.__version__[0]) > 1 else b"numpy.core.multiarray"
    # Protocol 2 has names as lines, which can be exchanged.
    own = pickle.dumps(np.array(value, dtype=object), protocol=3)
    for other in (b"numpy._core.multiarray", b"numpy.core.multiarray"):
        packed(tmp_path / "other.npz", own.replace(module, other))
        for file in ("own.npz", "other.npz"):
            found = read_pickled_dict(tmp_path / file)
            layer = found["Nodes"]["layer"]
            assert [array.tolist() for array in layer["inputs"]] == [[[1.5]], [[2.0], [3.0]]]
            assert layer["inputs"][0].dtype == np.float32
            assert layer["params"]["weight"] == 0.5
            assert found["Mode"] == "DynamicRange"


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
@pytest.mark.parametrize(
    "make",
    [
        lambda canary: Calls(os.system, f"touch {canary}"),
        lambda canary: Calls(builtins.eval, f"open({str(canary)!r}, 'w')"),
        lambda canary: Calls(builtins.exec, f"open({str(canary)!r}, 'w')"),
        lambda canary: Calls(np.savetxt, str(canary), [1.0]),
        lambda canary: Calls(np.memmap, str(canary), "uint8", "w+", 0, (8,)),
        lambda canary: Calls(getattr, np.ndarray, "tofile"),
    ],
    ids=["os.system", "eval", "exec", "numpy.savetxt", "numpy.memmap", "getattr"],
)
def test_nothing_is_called(make, protocol, tmp_path):
    canary = tmp_path / "canary"
    for value in (make(canary), nodes(inputs=[make(canary)])):
        if isinstance(value, Calls):
            packed(tmp_path / "file.npz", pickle.dumps(value, protocol=protocol))
        else:
            npz(tmp_path / "file.npz", value, protocol=protocol)
        with pytest.raises(IntegrityError, match="was not read any further"):
            read_pickled_dict(tmp_path / "file.npz")
        assert not canary.exists()


def test_the_canary_works(tmp_path):
    """The same file, read as Neural Compressor reads it."""
    canary = tmp_path / "canary"
    npz(tmp_path / "file.npz", nodes(inputs=[Calls(os.system, f"touch {canary}")]))
    np.load(tmp_path / "file.npz", allow_pickle=True)["arr_0"]
    assert canary.exists()


def glob(module, name):
    return b"c" + module + b"\n" + name + b"\n"


RECONSTRUCT = glob(b"numpy.core.multiarray", b"_reconstruct")
NDARRAY, DTYPE = glob(b"numpy", b"ndarray"), glob(b"numpy", b"dtype")


@pytest.mark.parametrize(
    ("pickled", "why"),
    [
        pytest.param(b"\x80\x04cos\nsystem\n.", r"os\.system", id="name-only"),
        pytest.param(
            b"\x80\x04\x8c\x02os\x8c\x06system\x93.",
            r"'os\.system' is not part of an array",
            id="stack-global",
        ),
        pytest.param(glob(b"numpy", b"load") + b".", r"the name 'numpy\.load' is not part", id="numpy-function"),
        pytest.param(b"(cnumpy\nndarray\nK\x01i" + b"os\nsystem\n.", "opcode INST", id="inst"),
        pytest.param(b"\x80\x02\x82\x01.", "opcode EXT1", id="extension-registry"),
        pytest.param(b"Pabc\n.", "opcode PERSID", id="persistent-id"),
        pytest.param(NDARRAY + b")\x81.", "opcode NEWOBJ", id="newobj"),
        pytest.param(b"\x80\x05\x96" + struct.pack("<Q", 1 << 40) + b"x.", "not a measurement", id="bytearray"),
        pytest.param(b"h\x07.", "KeyError: 7", id="memo"),
        pytest.param(b"(.", "not a measurement", id="mark-only"),
        pytest.param(b"s.", "takes more than it was given", id="nothing-to-take"),
        pytest.param(b"]K\x01K\x02s.", "not a dict", id="items-of-a-list"),
        pytest.param(b"}(Nu.", "not a dict", id="odd-items"),
        pytest.param(b"}Na.", "not a list", id="append-to-a-dict"),
        pytest.param(b"K\x01)R.", "not a function", id="call-of-a-number"),
        pytest.param(b"}}b.", "a state is given to what has none", id="state-of-a-dict"),
        pytest.param(b"}" + b")" + b"\x85" * 9 + b"Ns.", "a key is not text", id="nested-key"),
        pytest.param(b"}.", "where an array or a plain value must be", id="no-array"),
        pytest.param(b"N.N", "1 bytes follow the end", id="trailing"),
        pytest.param(b"", "not a measurement", id="empty"),
        pytest.param(NDARRAY + b"}(K\x01K\x02ub.", "not a measurement", id="state-of-a-name"),
        pytest.param(
            RECONSTRUCT + b"(" + NDARRAY + b"J\xff\xff\xff\x7f\x85C\x01btR.", "made as numpy", id="huge-shape"
        ),
    ],
)
def test_programs_that_do_something_else_are_refused(pickled, why, tmp_path):
    packed(tmp_path / "file.npz", pickled)
    with pytest.raises(IntegrityError, match=why):
        read_pickled_dict(tmp_path / "file.npz")


def array_state(shape, dtype=b"f4", *, raw=b"C\x04\x00\x00\x80\x3f", order=b"<", fields=b"N"):
    """A pickled array with a state of one's own."""
    made = RECONSTRUCT + b"(" + NDARRAY + b"K\x00\x85C\x01btR"
    kind = DTYPE + b"(X" + struct.pack("<I", len(dtype)) + dtype + b"\x89\x88tR(K\x03X\x01\x00\x00\x00" + order
    kind += fields + b"NNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    return made + b"(K\x01" + shape + kind + b"\x89" + raw + b"tb"


def in_a_dict(inner):
    """A whole file's pickle, with `inner` as its only value."""
    return array_state(b")", b"O8", raw=b"]}X\x01\x00\x00\x00a" + inner + b"sa", order=b"|") + b"."


@pytest.mark.parametrize(
    ("inner", "why"),
    [
        (array_state(b"J\x00\x00\x00\x40J\x00\x00\x00\x40\x86"), "given 4 bytes"),
        (array_state(b"J\xff\xff\xff\xff\x85"), "not made of lengths"),
        (array_state(b"K\x01\x85", b"O8", raw=b"]Na", order=b"|"), "dtype 'O8' is not one of numbers"),
        (array_state(b"K\x01\x85", b"V4", fields=b"(X\x01\x00\x00\x00atN"[:-1]), "not that of plain numbers"),
        (array_state(b"K\x01K\x01K\x01K\x01t".replace(b"K", b"(K", 1)), "is not one of numbers"),
        (b"]" + b"]" * 30 + b"a" * 30, "nests them too deeply"),
        (b"}K\x01Ns", "a key is not text"),
        (DTYPE, "where an array or a plain value must be"),
    ],
    ids=["huge", "negative", "objects", "structured", "dimensions", "deep", "keys", "name"],
)
def test_arrays_that_numpy_would_not_write_are_refused(inner, why, tmp_path):
    packed(tmp_path / "good.npz", in_a_dict(array_state(b"K\x01\x85")))
    assert read_pickled_dict(tmp_path / "good.npz")["a"].tolist() == [1.0]
    packed(tmp_path / "file.npz", in_a_dict(inner))
    with pytest.raises(IntegrityError, match=why):
        read_pickled_dict(tmp_path / "file.npz")


def test_a_list_that_is_shared_many_times_over_is_not_walked_to_its_end(tmp_path):
    value = [1.0]
    for _ in range(6):
        value = [value] * 100
    npz(tmp_path / "file.npz", nodes(inputs=value))
    with pytest.raises(IntegrityError, match="too many values"):
        read_pickled_dict(tmp_path / "file.npz")


def test_archives_that_are_larger_inside_than_outside_are_refused(tmp_path):
    zeros = pickle.dumps(np.array(nodes(inputs=[np.zeros((20_000_000, 1), np.float32)]), dtype=object), protocol=4)
    bomb = packed(tmp_path / "bomb.npz", zeros, compression=zipfile.ZIP_DEFLATED)
    assert bomb.stat().st_size < 200_000
    small = packed(tmp_path / "small.npz", pickle.dumps(np.array(nodes(), dtype=object)), compression=zipfile.ZIP_BZIP2)
    for file in (bomb, small):
        with pytest.raises(IntegrityError, match="is compressed"):
            read_pickled_dict(file)


def test_other_archives_are_refused(tmp_path):
    pickled = pickle.dumps(np.array(nodes(), dtype=object), protocol=4)
    good = packed(tmp_path / "good.npz", pickled).read_bytes()
    assert read_pickled_dict(tmp_path / "good.npz") == nodes()
    two = packed(tmp_path / "two.npz", pickled, names=("arr_0.npy", "arr_1.npy"))
    with pytest.raises(IntegrityError, match=r"one array, arr_0\.npy, and nothing else"):
        read_pickled_dict(two)
    shaped = packed(tmp_path / "shaped.npz", pickled, header=HEADER.replace(b"(), }", b"(99999999999,), }"))
    with pytest.raises(IntegrityError, match="not a single pickled object"):
        read_pickled_dict(shaped)
    # numpy would begin to read elsewhere than we do.
    longer = packed(tmp_path / "longer.npz", pickled, header=HEADER[:8] + b"w\x00" + HEADER[10:])
    with pytest.raises(IntegrityError, match="not a single pickled object"):
        read_pickled_dict(longer)
    for cut in (0, 10, 100, len(good) // 2, len(good) - 1):
        (tmp_path / "cut.npz").write_bytes(good[:cut])
        with pytest.raises(IntegrityError, match="not a measurement file"):
            read_pickled_dict(tmp_path / "cut.npz")
    damaged = bytearray(good)
    damaged[len(HEADER) + 60] ^= 1
    (tmp_path / "damaged.npz").write_bytes(damaged)
    with pytest.raises(IntegrityError, match="not a measurement file"):
        read_pickled_dict(tmp_path / "damaged.npz")


def test_entries_are_counted_before_they_are_listed(tmp_path, monkeypatch):
    many = packed(tmp_path / "many.npz", b"N.", names=[f"{index}.npy" for index in range(200)])
    monkeypatch.setattr(zipfile.ZipFile, "infolist", lambda archive: pytest.fail("the entries were read"))
    with pytest.raises(IntegrityError, match="must hold one array"):
        read_pickled_dict(many)


def test_opcodes_are_counted(tmp_path, monkeypatch):
    """Each may make an object of some 60 bytes."""
    file = packed(tmp_path / "file.npz", b"(" + b"]" * 1000 + b"t.")
    with pytest.raises(IntegrityError, match="a tuple is where an array"):
        read_pickled_dict(file)
    monkeypatch.setattr(gaudi_fp8_pickle, "_MAX_OPCODES", 1000)
    with pytest.raises(IntegrityError, match="more than 1000 opcodes"):
        read_pickled_dict(file)


def test_a_file_that_is_too_large_is_not_opened(tmp_path):
    with open(tmp_path / "large.npz", "wb") as file:
        file.truncate(1 << 29)  # sparse
    with pytest.raises(IntegrityError, match="has 536870912 bytes"):
        read_pickled_dict(tmp_path / "large.npz")


def test_keys_that_cannot_be_hashed_in_time_or_at_all_do_no_harm(tmp_path):
    """Python's reader of pickles dies of the first, which no `except` can help, and takes hours for the second."""
    same = 2**61 - 1  # Python hashes multiples of it alike
    floods = (b"\x8a\x0e" + (same * index).to_bytes(14, "little") + b"N" for index in range(1, 20_000))
    packed(tmp_path / "deep.npz", b"}" + b")" + b"\x85" * 300_000 + b"Ns.")
    packed(tmp_path / "flood.npz", b"}(" + b"".join(floods) + b"u.")
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from inc_laaciq.backends.gaudi_fp8_unpickle import read_pickled_dict\n"
        "from inc_laaciq.errors import IntegrityError\n"
        "for name in ('deep', 'flood'):\n"
        "    try:\n"
        "        read_pickled_dict(Path(sys.argv[1], name + '.npz'))\n"
        "    except IntegrityError as error:\n"
        "        print(str(error).rpartition(': ')[2])\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "a key is not text.\n" * 2), done.stderr


@pytest.mark.slow
def test_hostile_files_take_no_memory(tmp_path):
    """In a process that may not take more than it needs for an honest file."""
    hostile = {
        "memo": b"N" + b"r" + struct.pack("<I", (1 << 32) - 2) + b".",
        "bytearray": b"\x80\x05\x96" + struct.pack("<Q", 1 << 38) + b"x.",
        "bytes": b"\x80\x04\x8e" + struct.pack("<Q", 1 << 38) + b"x.",
        "long": b"\x80\x02\x8b" + struct.pack("<i", 1 << 30) + b"x.",
        "shape": RECONSTRUCT + b"(" + NDARRAY + b"J\xff\xff\xff\x7f\x85C\x01btR.",
        "state": in_a_dict(array_state(b"J\x00\x00\x00\x40J\x00\x00\x00\x40\x86")),
        "frame": b"\x80\x04\x95" + struct.pack("<Q", 1 << 40) + b"N.",
    }
    for name, pickled in hostile.items():
        packed(tmp_path / f"{name}.npz", pickled)
    script = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "from inc_laaciq.backends.gaudi_fp8_unpickle import read_pickled_dict\n"
        "from inc_laaciq.errors import IntegrityError\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "for path in sorted(Path(sys.argv[1]).glob('*.npz')):\n"
        "    try:\n"
        "        read_pickled_dict(path)\n"
        "    except IntegrityError:\n"
        "        continue\n"
        "    sys.exit(f'{path} was read')\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 20_000  # kB

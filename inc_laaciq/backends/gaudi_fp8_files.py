"""Read and write Neural Compressor's FP8 measurements: the largest magnitudes that it saw of every tensor.

A measurement is three files.  Neural Compressor quantizes by the npz, which holds a pickle; the JSON says the same for
people, and ``_mod_list.json`` names the modules that were to be measured.  This package may add a fourth,
``_languages.json``: which language was measured, and counts of its magnitudes.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from inc_laaciq.backends.gaudi_fp8_names import DumpName, Rank
from inc_laaciq.backends.gaudi_fp8_unpickle import MAX_BYTES, read_pickled_dict
from inc_laaciq.checkpoint.foreign import foreign_errors
from inc_laaciq.checkpoint.strict_json import parse_object, shorten
from inc_laaciq.errors import IntegrityError, NumericError, SpecError
from inc_laaciq.quant.magnitudes import Magnitudes

Array = npt.NDArray[np.float32]
STATISTICS = "inc-laaciq/fp8-statistics/1"
_MODE = "DynamicRange"
# Ranges are kept in the type that scales are computed in: bfloat16 is off by up to 2**-9.
_ROUNDED = 2.0**-8
# Neural Compressor reads these older names too.
_OLDER: dict[str, str] = {"input": "inputs", "output": "outputs"}


@dataclass(frozen=True, kw_only=True)
class Node:
    """What was measured of one module.

    Parameters
    ----------
    inputs : tuple of array, shape (channels, 1), float32
        Largest magnitudes; one channel unless the observer keeps each.
    outputs : tuple of array, or None
        None where outputs were not measured.
    params : mapping of name to array
    """

    inputs: tuple[Array, ...]
    outputs: tuple[Array, ...] | None = None
    params: Mapping[str, Array] = field(default_factory=dict)

    def tensors(self) -> dict[str, Array]:
        """All of them by name, such as ``input 0`` and ``weight``."""
        activations = {f"input {index}": value for index, value in enumerate(self.inputs)}
        activations |= {f"output {index}": value for index, value in enumerate(self.outputs or ())}
        return {**activations, **self.params}


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """What one worker measured.

    Parameters
    ----------
    nodes : mapping of module name to Node
    modules : tuple of str
        Modules that were to be measured; those that no batch reached are not in `nodes`.
    global_rank, local_rank : int or None
    samples : int
        Batches, where Neural Compressor counted them; else 0.
    language : str or None
        Where this package measured, as it wrote it.
    magnitudes : mapping of (module, tensor) to Magnitudes
        As far as they were counted.
    """

    nodes: Mapping[str, Node]
    modules: tuple[str, ...] = ()
    global_rank: int | None = None
    local_rank: int | None = None
    samples: int = 0
    language: str | None = None
    magnitudes: Mapping[tuple[str, str], Magnitudes] = field(default_factory=dict)


def read_measurement(name: DumpName, rank: Rank) -> Measurement:
    """Read what one worker measured.

    Raises
    ------
    IntegrityError
        If a file is damaged, hostile or not a measurement, or if npz and JSON differ.
    NumericError
        If a range is NaN, infinite or negative.
    """
    npz, text = name.file(rank, ".npz"), name.file(rank, ".json")
    found = [(path, read(path)) for path, read in ((npz, read_pickled_dict), (text, _read_json)) if path.is_file()]
    parsed = [(path, _nodes(path, content)) for path, content in found]
    path, nodes = parsed[0]
    for other, same in parsed[1:]:
        if not _equal(nodes, same):
            raise IntegrityError(
                f"{path} and {other.name} differ. Neural Compressor reads the npz only; delete the file that is wrong."
            )
    content = found[0][1]
    statistics = name.file(rank, "_languages.json")
    language, magnitudes = _statistics(statistics)
    _check_counts_belong(statistics, nodes, magnitudes)
    samples = content.get("NumSamples", 0)
    return Measurement(
        nodes=nodes,
        modules=_modules(name.file(rank, "_mod_list.json")) or tuple(nodes),
        global_rank=_worker(path, content, "GlobalRank"),
        local_rank=_worker(path, content, "LocalRank"),
        samples=samples if type(samples) is int else 0,
        language=language,
        magnitudes=magnitudes,
    )


def measurement_files(name: DumpName, rank: Rank, found: Measurement) -> dict[Path, bytes]:
    """Content of the files of one worker, the npz last: it is the one that Neural Compressor quantizes by."""
    content = {
        **({"NumSamples": found.samples} if found.samples else {}),
        "GlobalRank": found.global_rank,
        "LocalRank": found.local_rank,
        "Mode": _MODE,
        "Nodes": {module: _content(node) for module, node in found.nodes.items()},
    }
    pickled = io.BytesIO()
    # A dict, which numpy pickles: nothing else is read by Neural Compressor.
    np.savez(pickled, content)  # type: ignore[arg-type]
    files = {
        name.file(rank, "_mod_list.json"): _text(list(found.modules)),
        name.file(rank, ".json"): _text(_listed(content)),
        name.file(rank, ".npz"): pickled.getvalue(),
    }
    if found.language is None:
        return files
    return {name.file(rank, "_languages.json"): _text(_statistics_content(found)), **files}


def _content(node: Node) -> dict[str, Any]:
    outputs = {} if node.outputs is None else {"outputs": list(node.outputs)}
    return {"inputs": list(node.inputs), **outputs, **({"params": dict(node.params)} if node.params else {})}


def _listed(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _listed(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_listed(inner) for inner in value]
    return value.tolist() if isinstance(value, np.ndarray) else value


def _text(content: Any) -> bytes:
    return (json.dumps(content, indent=4, allow_nan=False) + "\n").encode()


def _read_json(path: Path) -> dict[str, Any]:
    if path.stat().st_size > MAX_BYTES:
        raise IntegrityError(f"{path}: has {path.stat().st_size} bytes, where at most {MAX_BYTES} are read.")
    return parse_object(path.read_bytes(), where=str(path), floats=True)


def _nodes(path: Path, content: Mapping[str, Any]) -> dict[str, Node]:
    if content.get("Mode") != _MODE or not isinstance(content.get("Nodes"), dict):
        raise IntegrityError(
            f"{path}: Mode is {content.get('Mode')!r:.40} and must be {_MODE!r}, with Nodes. "
            "Files of shapes and scales are not measurements."
        )
    if not content["Nodes"]:
        raise IntegrityError(f"{path}: no module was measured.")
    return {module: _node(path, _name(path, module), entry) for module, entry in content["Nodes"].items()}


def _name(path: Path, name: str) -> str:
    """A name as it is, unless it is no text: half of a pair of surrogates could not be written again."""
    if any("\ud800" <= character <= "\udfff" for character in name):
        raise IntegrityError(f"{path}: the name {shorten(name)} is not valid text.")
    return name


def _node(path: Path, module: str, entry: Any) -> Node:
    where = f"{path}: {shorten(module)}"
    if not isinstance(entry, dict) or not all(isinstance(key, str) for key in entry):
        raise IntegrityError(f"{where} must hold inputs, and perhaps outputs and params.")
    parts: dict[str, Any] = {_OLDER.get(str(key), str(key)): value for key, value in entry.items()}
    if unknown := sorted(parts.keys() - {"inputs", "outputs", "params"}):
        raise IntegrityError(f"{where} holds {shorten(unknown[0])}, which is not known.")
    inputs, outputs, params = parts.get("inputs"), parts.get("outputs"), parts.get("params", {})
    if not isinstance(inputs, (list, tuple)) or not isinstance(params, dict):
        raise IntegrityError(f"{where} must hold a list of inputs, and params by name.")
    if outputs is not None and not isinstance(outputs, (list, tuple)):
        raise IntegrityError(f"{where} must hold a list of outputs.")
    return Node(
        inputs=tuple(_range(f"{where}, input {index}", value) for index, value in enumerate(inputs)),
        outputs=None
        if outputs is None
        else tuple(_range(f"{where}, output {index}", value) for index, value in enumerate(outputs)),
        params={_name(path, name): _range(f"{where}, {shorten(name)}", value) for name, value in params.items()},
    )


def _check_counts_belong(
    path: Path, nodes: Mapping[str, Node], magnitudes: Mapping[tuple[str, str], Magnitudes]
) -> None:
    """Refuse counts beside ranges that were measured another time, which a rule would believe."""
    for (module, tensor), counted in magnitudes.items():
        found = nodes[module].tensors().get(tensor) if module in nodes else None
        if found is None or not math.isclose(counted.largest, float(found.max()), rel_tol=_ROUNDED):
            raise IntegrityError(
                f"{path}: its counts of {shorten(module)}, {shorten(tensor)}, are not those of the ranges beside it. "
                "Measure again, or delete this file and do without counts."
            )


def _range(where: str, value: Any) -> Array:
    with foreign_errors(f"{where} is not an array of numbers", kind=IntegrityError):
        found = np.asarray(value, dtype=np.float32)
    if found.ndim > 2 or not found.size:
        raise IntegrityError(f"{where} has the shape {found.shape}, and must be one number, or one of each channel.")
    if not bool((np.isfinite(found) & (found >= 0)).all()):
        raise NumericError(f"{where} is NaN, infinite or negative, and cannot be a range. Measure again.")
    return found


def _equal(first: Mapping[str, Node], second: Mapping[str, Node]) -> bool:
    if first.keys() != second.keys():
        return False
    for module, node in first.items():
        mine, other = node.tensors(), second[module].tensors()
        if mine.keys() != other.keys() or not all(np.array_equal(mine[key], other[key]) for key in mine):
            return False
    return True


def _worker(path: Path, content: Mapping[str, Any], key: str) -> int | None:
    rank = content.get(key)
    if rank is not None and type(rank) is not int:
        raise IntegrityError(f"{path}: {key} must be a number or null, not {rank!r:.40}.")
    return rank


def _modules(path: Path) -> tuple[str, ...]:
    """Names in a list of modules, each once: Neural Compressor's list grows with every model of a process."""
    if not path.is_file():
        return ()
    with foreign_errors(f"{path}: is not a list of modules", kind=IntegrityError):
        found = parse_object(b'{"modules": ' + path.read_bytes() + b"}", where=str(path))["modules"]
    if not isinstance(found, list) or not all(isinstance(name, str) for name in found):
        raise IntegrityError(f"{path}: must be a list of names of modules.")
    return tuple(dict.fromkeys(_name(path, name) for name in found))


def _statistics_content(found: Measurement) -> dict[str, Any]:
    nodes: dict[str, dict[str, Any]] = {}
    for (module, tensor), counted in found.magnitudes.items():
        values = {"n": counted.n, "squares": counted.squares, "largest": counted.largest, "counts": counted.counts}
        nodes.setdefault(module, {})[tensor] = values
    return {"schema": STATISTICS, "language": found.language, "nodes": nodes}


@contextlib.contextmanager
def _as_integrity(what: str) -> Iterator[None]:
    """Counts that contradict each other are a fault of the file."""
    try:
        yield
    except SpecError as error:
        raise IntegrityError(f"{what}: {error}") from error


def _statistics(path: Path) -> tuple[str | None, dict[tuple[str, str], Magnitudes]]:
    if not path.is_file():
        return None, {}
    content = _read_json(path)
    if content.get("schema") != STATISTICS:
        return None, {}  # of a merge, which has the same place
    what = f"{path}: does not hold counts as this package writes them"
    with foreign_errors(what, kind=IntegrityError), _as_integrity(what):
        language = str(content["language"])
        found = {
            (module, tensor): Magnitudes(
                n=int(counted["n"]),
                squares=float(counted["squares"]),
                largest=float(counted["largest"]),
                counts=tuple(int(count) for count in counted["counts"]),
            )
            for module, tensors in content["nodes"].items()
            for tensor, counted in tensors.items()
        }
    return language, found

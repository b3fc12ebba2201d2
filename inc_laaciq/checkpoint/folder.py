"""Say what a folder is, and which files in it are the weights, before any weight is read.

Names the formats that are not a plain Hugging Face causal language model, because "no file named model.safetensors"
helps nobody who passed a GGUF file, a quantized checkpoint or an export.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from inc_laaciq.checkpoint.containment import check_contained, check_regular
from inc_laaciq.checkpoint.safetensors_file import read_header
from inc_laaciq.checkpoint.shards import extra_shards, raise_if_any, read_index, read_shards
from inc_laaciq.errors import IntegrityError, ModelError

FolderKind = Literal[
    "huggingface", "laaciq", "openvino", "inc", "adapter", "gguf", "onnx", "other-framework", "unknown"
]

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
PICKLE = "pytorch_model.bin"
PICKLE_INDEX = "pytorch_model.bin.index.json"
MAX_CONFIG_BYTES = 10_000_000

_WHAT_TO_DO: Mapping[FolderKind, str] = {
    "laaciq": "is already the output of `inc-laaciq quantize`: quantize the float model instead, or measure this one "
    "with `inc-laaciq evaluate`",
    "openvino": "is an OpenVINO IR (openvino_model.xml): quantize the float model instead, or measure this one with "
    "`inc-laaciq evaluate`",
    "inc": "was saved by Intel Neural Compressor (best_model.pt), so it is quantized already: give the float model",
    "adapter": "holds an adapter (adapter_config.json), which with PEFT installed changes or replaces the model that "
    "is loaded: merge it into its base model with PEFT's merge_and_unload and save the result",
    "gguf": "holds GGUF files, which llama.cpp has quantized already: give the safetensors checkpoint that they were "
    "made from",
    "onnx": "holds ONNX files only: give the safetensors checkpoint that they were exported from",
    "other-framework": "holds TensorFlow or Flax weights only: load it with from_tf or from_flax in transformers and "
    "save it as safetensors",
    "unknown": "has no config.json: give the folder of a Hugging Face causal language model, with config.json, "
    "model.safetensors and the tokenizer",
}


@dataclass(frozen=True, kw_only=True)
class Weights:
    """The weight files of a folder; if they are safetensors, their headers have been checked."""

    files: tuple[Path, ...]
    pickled: bool
    index: Path | None
    notes: tuple[str, ...]


def folder_kind(folder: Path) -> FolderKind:
    """Say what kind of folder it is, by the names of its files alone; nothing is opened."""
    names = {entry.name for entry in folder.iterdir()}
    has_weights = not names.isdisjoint({SINGLE, INDEX, PICKLE, PICKLE_INDEX})
    signs: tuple[tuple[FolderKind, bool], ...] = (
        ("openvino", "openvino_model.xml" in names and not has_weights),
        ("laaciq", "laaciq.json" in names),
        ("inc", "best_model.pt" in names),
        ("adapter", "adapter_config.json" in names),
        ("huggingface", has_weights),
        ("gguf", _has_suffix(names, ".gguf")),
        ("onnx", _has_suffix(names, ".onnx")),
        ("other-framework", not names.isdisjoint({"tf_model.h5", "flax_model.msgpack"})),
        ("huggingface", "config.json" in names),
    )
    return next((kind for kind, is_it in signs if is_it), "unknown")


def check_kind(folder: Path) -> None:
    """Refuse a folder that is not a Hugging Face model.

    Raises
    ------
    ModelError
        Naming what the folder is, and what to give instead.
    """
    kind = folder_kind(folder)
    if kind != "huggingface":
        raise ModelError(f"{folder} {_WHAT_TO_DO[kind]}.")


def read_config(folder: Path, name: str = "config.json") -> dict[str, Any]:
    """Read one of the small JSON files of a model folder.

    Raises
    ------
    ModelError
        If it is missing.
    IntegrityError
        If it is not an ordinary file, too large, or not a JSON object.
    """
    path = folder / name
    if not path.exists():
        raise ModelError(f"{folder} has no {name}: it is not a complete Hugging Face model.")
    size = check_regular(path).st_size
    if size > MAX_CONFIG_BYTES:
        raise IntegrityError(f"{path}: {size} bytes, where at most {MAX_CONFIG_BYTES} are read.")
    try:
        # Read as transformers reads it (last key wins, Infinity allowed: Mamba 2 has it), so that what is checked is
        # what is used.
        found = json.loads(path.read_bytes().decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise IntegrityError(f"{path}: is not JSON in UTF-8: {error}.") from error
    if not isinstance(found, dict):
        raise IntegrityError(f"{path}: must be a JSON object, and is a {type(found).__name__}.")
    return found


def check_not_quantized(config: Mapping[str, Any], folder: Path) -> None:
    """Refuse a model whose configuration says that it is quantized.

    Raises
    ------
    ModelError
        Naming the format.
    """
    # The configuration of a model with several parts has one section for each.
    sections = (config, *(section for section in config.values() if isinstance(section, dict)))
    for section, key in itertools.product(sections, ("quantization_config", "compression_config")):
        found = section.get(key)
        if found:
            method = found.get("quant_method", "without a name") if isinstance(found, dict) else found
            raise ModelError(
                f"{folder}: the model is already quantized, in the format {str(method)[:80]!r} ({key} in config.json). "
                f"Quantizing it again would add one error to another: give the float model that it was made from."
            )


def find_weights(folder: Path, *, allow_pickle: bool = False) -> Weights:
    """Find the weight files, and check the whole of what can be checked without reading a weight.

    Parameters
    ----------
    folder : Path
        A Hugging Face model folder.
    allow_pickle : bool
        Whether `pytorch_model.bin` may be read when there is no safetensors file.

    Raises
    ------
    IntegrityError
        If a link leaves the folder, a file is damaged, or index and shards differ.
    ModelError
        If there are no weights, or only pickles and `allow_pickle` is false.
    """
    check_contained(folder)
    pickles = sorted(
        entry.name
        for entry in folder.iterdir()
        if entry.suffix in {".bin", ".pt", ".pth"} and entry.name != "training_args.bin"
    )
    if (folder / INDEX).exists() or (folder / SINGLE).exists():
        return _safetensors(folder, tuple(f"{name} was not read; the safetensors file was." for name in pickles))
    if not pickles:
        raise ModelError(f"{folder} has no weights: {SINGLE}, or {INDEX} and its shards, expected.")
    if not allow_pickle:
        raise ModelError(
            f"{folder} has its weights in pickles only ({', '.join(pickles)}), which can run code when they are read. "
            f"Save the model as safetensors (save_pretrained does), or, if you trust where it comes from, pass "
            f"--allow-pickle: they are then read with weights_only=True."
        )
    return _pickled(folder, pickles)


def _safetensors(folder: Path, notes: tuple[str, ...]) -> Weights:
    index = folder / INDEX
    weight_map = read_index(index) if index.exists() else {}
    if (folder / SINGLE).exists():
        if set(weight_map.values()) - {SINGLE}:
            raise IntegrityError(
                f"{folder} has both {SINGLE} and shards listed in {INDEX}: which of them is the model? "
                f"Delete the other."
            )
        raise_if_any(extra_shards(folder, (), suffix=".safetensors"), folder)
    headers = read_shards(folder, weight_map) if weight_map else (read_header(folder / SINGLE),)
    files = tuple(header.path for header in headers)
    strangers = sorted({path.name for path in folder.glob("*.safetensors")} - {path.name for path in files})
    notes += tuple(f"{name} is not part of the model, and was not read." for name in strangers)
    return Weights(files=files, pickled=False, index=index if weight_map else None, notes=notes)


def _pickled(folder: Path, pickles: list[str]) -> Weights:
    index = folder / PICKLE_INDEX
    if index.exists():
        shards = sorted(set(read_index(index).values()))
        faults = [f"shard {shard} is missing" for shard in shards if not (folder / shard).exists()]
        raise_if_any(faults + extra_shards(folder, shards, suffix=".bin"), folder)
    elif PICKLE in pickles:
        shards = [PICKLE]
        raise_if_any(extra_shards(folder, (), suffix=".bin"), folder)
    else:
        raise ModelError(
            f"{folder} has no {PICKLE}; {', '.join(pickles)} is not what transformers saves, and is not read."
        )
    files = tuple(folder / shard for shard in shards)
    return Weights(
        files=files,
        pickled=True,
        index=index if index.exists() else None,
        notes=("The weights were read from pickles, with weights_only=True.",),
    )


def _has_suffix(names: set[str], suffix: str) -> bool:
    return any(name.endswith(suffix) for name in names)

"""Load a causal language model: every check first, then the weights, then the proof that nothing changed meanwhile."""

from __future__ import annotations

import contextlib
import math
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inc_laaciq.checkpoint.containment import check_contained, check_redirects
from inc_laaciq.checkpoint.digest import check_unchanged, fingerprint, sha256_of_files, verify_manifest
from inc_laaciq.checkpoint.folder import Weights, check_kind, check_not_quantized, find_weights, read_config
from inc_laaciq.checkpoint.foreign import foreign_errors
from inc_laaciq.checkpoint.hub import PICKLE_FILES, SAFETENSORS_FILES, SMALL_FILES, fetch_files, looks_like_id
from inc_laaciq.checkpoint.mapped import copy_of, file_mappings
from inc_laaciq.checkpoint.pickled import convert_pickles
from inc_laaciq.checkpoint.remote_code import check_code, code_files, code_note, code_references, is_commit
from inc_laaciq.checkpoint.safetensors_file import read_header
from inc_laaciq.checkpoint.tokenizer import (
    check_vocabulary,
    load_tokenizer,
    tokenizer_config,
    tokenizer_files,
    tokenizer_sha256,
)
from inc_laaciq.errors import IntegrityError, ModelError, ResourceError, SpecError
from inc_laaciq.memory import available_memory

if TYPE_CHECKING:
    from torch import nn
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

DTYPES = ("float32", "bfloat16", "float16")


@dataclass(frozen=True, kw_only=True)
class LoadedModel:
    """A model in eval mode with its tokenizer, and what identifies both.

    Parameters
    ----------
    model : PreTrainedModel
        Owns its memory: the files may change or go away after the load.
    tokenizer : PreTrainedTokenizerBase
        Fits the model's embeddings.
    source : str
        The folder as it was given, or `id@commit`.
    folder : Path
        Where the files really are; in the hub's cache for an id.
    weights_sha256 : str
        Of the weight files, one after the other in the order of their names.
    tokenizer_sha256 : str
        Of what the tokenizer does; see `checkpoint.tokenizer.tokenizer_sha256`.
    notes : tuple of str
        What a reader of the report should know about the load.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    source: str
    folder: Path
    weights_sha256: str
    tokenizer_sha256: str
    notes: tuple[str, ...]


def load_model(
    model: str | Path,
    *,
    trust_remote_code: bool = False,
    revision: str | None = None,
    allow_pickle: bool = False,
    dtype: str = "float32",
    manifest: Mapping[str, str] | None = None,
) -> LoadedModel:
    """Load a Hugging Face causal language model and its tokenizer, safely.

    Parameters
    ----------
    model : str or Path
        A local folder, or the id of a model on the hub; a folder wins.
    trust_remote_code : bool
        Whether Python code that comes with the model may run.
    revision : str or None
        For an id: branch, tag or commit.
    allow_pickle : bool
        Whether `pytorch_model.bin` may be read where there is no safetensors file.
    dtype : str
        One of "float32", "bfloat16", "float16".
    manifest : mapping, optional
        File name -> SHA-256; must name every weight file.

    Raises
    ------
    SpecError
        For a dtype that is not known, or a revision with a folder.
    ModelError
        If there is no such model, it is not a causal language model, it is quantized already, it needs code that was
        not allowed, its tokenizer is missing or does not fit, or transformers cannot build it.
    IntegrityError
        If its files are damaged, hostile, incomplete or differ from `manifest`, or changed during the load.
    ResourceError
        If there is not enough memory or, for pickled weights, no room for a copy in the temporary folder.
    """
    if dtype not in DTYPES:
        raise SpecError(f"dtype={dtype!r} is not known. Use one of {', '.join(DTYPES)}.")
    if os.path.isdir(model):
        if revision is not None:
            raise SpecError(
                f"revision={revision!r} was given with the folder {str(model)!r}. "
                f"A revision is for the id of a model on the hub; leave it out."
            )
        folder, source, pinned = Path(model), str(model), True
    else:
        folder = _fetch(model, revision, trust_remote_code=trust_remote_code, allow_pickle=allow_pickle)
        source, pinned = f"{model}@{folder.name}", is_commit(revision)

    with _readable(folder):
        # The first thing, so that what is loaded is what was checked.
        before = fingerprint(path for path in folder.iterdir() if path.is_file())
        config, notes = _check_before_weights(folder, source, trust_remote_code=trust_remote_code, pinned=pinned)
        weights = find_weights(folder, allow_pickle=allow_pickle)
    runs_code = trust_remote_code and bool(code_references(config, tokenizer_config(folder)))
    if manifest is not None:
        verify_manifest(folder, manifest, required=[path.name for path in weights.files])
    if runs_code:
        notes += (code_note(folder),)

    parsed = _parse_config(folder, trust_remote_code=runs_code)
    tokenizer = load_tokenizer(folder, trust_remote_code=runs_code)
    check_vocabulary(tokenizer, _embeddings(parsed, source), where=source)

    _check_memory(weights, dtype, source)
    weights_sha256 = sha256_of_files(weights.files)
    built, load_notes = _build(folder, weights, parsed, dtype=dtype, trust_remote_code=runs_code)
    used = _files_read(folder, weights, runs_code=runs_code)
    known = {path: found for path, found in before.items() if path in used}
    # Before the copy, because copying from a mapped file that was cut short kills the process; and after it.
    check_unchanged(known)
    own_memory(built)
    check_unchanged(known)
    return LoadedModel(
        model=built.eval(),
        tokenizer=tokenizer,
        source=source,
        folder=folder,
        weights_sha256=weights_sha256,
        tokenizer_sha256=tokenizer_sha256(tokenizer),
        notes=notes + weights.notes + load_notes,
    )


def _check_memory(weights: Weights, dtype: str, source: str) -> None:
    """Refuse a model that would not fit, before the system ends the process for it."""
    available = available_memory()
    if weights.pickled or available is None:
        return
    elements = sum(math.prod(entry.shape) for file in weights.files for entry in read_header(file).tensors.values())
    needed = elements * (4 if dtype == "float32" else 2)
    if needed > available:
        raise ResourceError(
            f"{source}: the model takes {needed / 1e9:.1f} GB in {dtype}, and {available / 1e9:.1f} GB of memory are "
            "free. Use a larger machine, or free memory."
        )


def own_memory(model: nn.Module) -> None:
    """Copy every parameter and buffer into memory of its own, in place; tied ones stay tied.

    safetensors maps the file instead of reading it, so the weights of a loaded model would follow later changes to the
    file, and a file that is cut short would kill the process.
    """
    import torch

    copies: dict[tuple[Any, ...], torch.Tensor] = {}
    mappings = file_mappings()
    with torch.no_grad():
        for tensor in (*model.parameters(), *model.buffers()):
            key = (tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride())
            if key not in copies:
                copies[key] = copy_of(tensor, mappings)
            tensor.data = copies[key]


def _fetch(model: str | Path, revision: str | None, *, trust_remote_code: bool, allow_pickle: bool) -> Path:
    text = str(model)
    if os.path.exists(text):
        raise ModelError(f"{text!r} is a file. Give the folder with config.json, the weights and the tokenizer.")
    if isinstance(model, Path) or not looks_like_id(text):
        raise ModelError(
            f"{text!r} does not exist, and is not the id of a model on the hub, such as 'bigscience/bloom-560m'."
        )
    folder = fetch_files(text, revision=revision, patterns=SMALL_FILES)
    commit = folder.name
    _check_before_weights(folder, f"{text}@{commit}", trust_remote_code=trust_remote_code, pinned=is_commit(revision))
    # The commit, so that the weights belong to the configuration that was checked.
    fetch_files(text, revision=commit, patterns=SAFETENSORS_FILES)
    if not any(any(folder.glob(pattern)) for pattern in SAFETENSORS_FILES):
        if not allow_pickle:
            raise ModelError(
                f"{text!r} has no safetensors weights on the hub or, offline, in the cache. Pickles "
                f"(pytorch_model.bin) can run code when they are read, and were not fetched; if you trust where they "
                f"come from, pass --allow-pickle: they are then read with weights_only=True."
            )
        fetch_files(text, revision=commit, patterns=PICKLE_FILES)
    return folder


@contextlib.contextmanager
def _readable(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ModelError(f"{folder}: cannot be read: {error.strerror or error}.") from error


def _check_before_weights(
    folder: Path, source: str, *, trust_remote_code: bool, pinned: bool
) -> tuple[dict[str, Any], tuple[str, ...]]:
    check_kind(folder)
    check_contained(folder)
    config = read_config(folder)
    check_redirects(config, ("transformers_weights", "configuration_files"), where=f"{folder / 'config.json'}")
    check_not_quantized(config, folder)
    return config, check_code(
        config, tokenizer_config(folder), source=source, trust_remote_code=trust_remote_code, pinned=pinned
    )


def _files_read(folder: Path, weights: Weights, *, runs_code: bool) -> set[Path]:
    small = {folder / "config.json", folder / "generation_config.json", *tokenizer_files(folder)}
    if weights.index is not None:
        small.add(weights.index)
    if runs_code:
        small |= set(code_files(folder))
    return small | set(weights.files)


def _parse_config(folder: Path, *, trust_remote_code: bool) -> PretrainedConfig:
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoConfig

    with foreign_errors(f"{folder}: transformers cannot use config.json"):
        config = AutoConfig.from_pretrained(str(folder), local_files_only=True, trust_remote_code=trust_remote_code)
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING and not trust_remote_code:
        raise ModelError(
            f"{folder}: a {config.model_type} model is not a causal language model, and only those are quantized here."
        )
    return config


def _embeddings(config: PretrainedConfig, source: str) -> int:
    size = getattr(config.get_text_config(), "vocab_size", None)
    if type(size) is not int or size < 1:
        raise ModelError(
            f"{source}: config.json has vocab_size={size!r}; the number of embeddings, at least 1, expected."
        )
    return size


def _build(
    folder: Path, weights: Weights, config: PretrainedConfig, *, dtype: str, trust_remote_code: bool
) -> tuple[PreTrainedModel, tuple[str, ...]]:
    import torch
    from transformers import AutoModelForCausalLM, PretrainedConfig

    # transformers 4.56 renamed torch_dtype to dtype.
    keyword = "dtype" if hasattr(PretrainedConfig(), "dtype") else "torch_dtype"
    with contextlib.ExitStack() as stack:
        place = folder
        if weights.pickled:
            with foreign_errors("no temporary folder can be made; set TMPDIR", kind=ResourceError):
                place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="inc-laaciq-")))
            convert_pickles(weights, folder, place)
        with foreign_errors(f"{folder}: transformers cannot load the model"):
            model, info = AutoModelForCausalLM.from_pretrained(
                str(place),
                config=config,
                use_safetensors=True,
                local_files_only=True,
                output_loading_info=True,
                trust_remote_code=trust_remote_code,
                **{keyword: getattr(torch, dtype)},
            )
    return model, _check_loading(model, info, folder)


def _check_loading(model: PreTrainedModel, info: Mapping[str, Any], folder: Path) -> tuple[str, ...]:
    parameters = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    # Of a checkpoint of the bare model, without its head, transformers 4 gives the names without their prefix.
    prefix = f"{model.base_model_prefix}."
    missing = sorted(name for name in info["missing_keys"] if name in parameters or prefix + name in parameters)
    if missing:
        # transformers fills these with random numbers and goes on.
        raise IntegrityError(
            f"{folder}: the weights have no value for {len(missing)} of the model's parameters: {_some(missing)}."
        )
    if info["error_msgs"]:
        raise ModelError(f"{folder}: the weights do not fit the model: {'; '.join(info['error_msgs'])}")
    unexpected = sorted(info["unexpected_keys"])
    if not unexpected:
        return ()
    return (
        f"{len(unexpected)} tensors of the checkpoint are not part of the model, and were not used: "
        f"{_some(unexpected)}.",
    )


def _some(names: Sequence[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")

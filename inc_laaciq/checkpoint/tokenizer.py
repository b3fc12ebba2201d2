"""Load a tokenizer, prove that it fits the model, and give it a hash that survives being saved again."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inc_laaciq.checkpoint.containment import allowed_roots, check_redirects, inside
from inc_laaciq.checkpoint.folder import read_config
from inc_laaciq.checkpoint.foreign import foreign_errors
from inc_laaciq.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TOKENIZER_CONFIG = "tokenizer_config.json"
VOCABULARY_FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "vocab.json",
    "vocab.txt",
    "spiece.model",
    "sentencepiece.bpe.model",
    "tekken.json",
)
OTHER_FILES = (TOKENIZER_CONFIG, "special_tokens_map.json", "added_tokens.json", "merges.txt", "chat_template.jinja")
# Arguments of tokenizers that name a file to read.  A saved configuration has none: transformers fills them in.
_FILE_ARGUMENT = re.compile(r"\w+_(file|spm)|vocab|merges")
# These two are written down, and never opened.
_NEVER_OPENED = frozenset({"special_tokens_map_file", "added_tokens_file"})
# These work on bytes, and have no vocabulary to read.
_WITHOUT_VOCABULARY = frozenset({"ByT5Tokenizer", "CanineTokenizer"})


def tokenizer_files(folder: Path) -> tuple[Path, ...]:
    """Return the files of a folder that define its tokenizer, in order."""
    named = {folder / name for name in (*VOCABULARY_FILES, *OTHER_FILES)}
    return tuple(sorted(path for path in {*named, *folder.glob("*.tiktoken")} if path.is_file()))


def tokenizer_config(folder: Path) -> dict[str, Any]:
    """Read tokenizer_config.json; empty where a folder has none."""
    return read_config(folder, TOKENIZER_CONFIG) if (folder / TOKENIZER_CONFIG).exists() else {}


def check_tokenizer_files(folder: Path, *, own_code: bool = False) -> None:
    """Refuse a folder without a vocabulary, before transformers quietly makes an empty one.

    Raises
    ------
    ModelError
        Naming the files that were looked for.
    IntegrityError
        If tokenizer_config.json sends transformers to files outside the folder.
    """
    config = tokenizer_config(folder)
    _check_arguments(config, folder)
    kind = config.get("tokenizer_class")
    needless = (isinstance(kind, str) and kind in _WITHOUT_VOCABULARY) or (own_code and "auto_map" in config)
    found = any((folder / name).is_file() for name in VOCABULARY_FILES) or any(folder.glob("*.tiktoken"))
    if not found and not needless:
        raise ModelError(
            f"{folder} has no tokenizer: one of {', '.join(VOCABULARY_FILES)} expected. "
            "Copy the tokenizer files of the model into it, for instance with "
            f"AutoTokenizer.from_pretrained(...).save_pretrained({str(folder)!r})."
        )


def _check_arguments(config: Mapping[str, Any], folder: Path) -> None:
    where = str(folder / TOKENIZER_CONFIG)
    check_redirects(config, ("fast_tokenizer_files", "init_inputs"), where=where)
    roots = allowed_roots(folder)
    for key, value in config.items():
        if not isinstance(value, str) or not _FILE_ARGUMENT.fullmatch(key) or key in _NEVER_OPENED:
            continue
        # transformers opens it as it is; a path of the machine that the model was made on leads nowhere here.
        if os.path.exists(value) and not inside(Path(value), roots):
            check_redirects(config, (key,), where=where)


def load_tokenizer(folder: Path, *, trust_remote_code: bool = False) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a local folder, with no network.

    Parameters
    ----------
    folder : Path
        A model folder, or any folder into which a tokenizer was saved.
    trust_remote_code : bool
        Whether code that lies in the folder may run.

    Raises
    ------
    ModelError
        If there is none, or transformers cannot read it.
    IntegrityError
        If its configuration is damaged, or sends transformers to files outside the folder.
    """
    from transformers import AutoTokenizer

    check_tokenizer_files(folder, own_code=trust_remote_code)
    with foreign_errors(f"{folder}: the tokenizer cannot be loaded"):
        return AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=trust_remote_code)


def check_vocabulary(tokenizer: PreTrainedTokenizerBase, embeddings: int, *, where: str) -> None:
    """Refuse a tokenizer that gives ids which the model has no embedding for.

    Parameters
    ----------
    tokenizer : PreTrainedTokenizerBase
        Padding of the embedding matrix beyond the vocabulary is usual, and accepted.
    embeddings : int
        Rows of the embedding matrix.

    Raises
    ------
    ModelError
        If the vocabulary is empty, or its highest id is `embeddings` or more.
    """
    vocabulary = tokenizer.get_vocab()
    if not vocabulary:
        raise ModelError(f"{where}: the tokenizer has an empty vocabulary.")
    token, highest = max(vocabulary.items(), key=lambda item: item[1])
    if highest >= embeddings:
        raise ModelError(
            f"{where}: the tokenizer does not fit the model: its highest token id is {highest} ({token!r}), and the "
            f"model has {embeddings} embeddings (ids 0 to {embeddings - 1}). Use the tokenizer that the model was "
            "trained with."
        )


def tokenizer_sha256(tokenizer: PreTrainedTokenizerBase) -> str:
    """SHA-256 of what a tokenizer does to text: vocabulary, merges, normalization and special tokens.

    Of a slow tokenizer, which cannot tell its rules, its class stands for them.  The files are not hashed, because
    saving a tokenizer again writes the same tokenizer in other bytes, and a baseline and a candidate must compare equal
    when they cut text alike.  Padding and truncation are left out: they change with the last call, not with the
    tokenizer.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    rules: Mapping[str, Any] = (
        json.loads(backend.to_str()) if backend is not None else {"class": type(tokenizer).__name__}
    )
    content = {
        "rules": {key: value for key, value in rules.items() if key not in {"padding", "truncation"}},
        "vocabulary": sorted(tokenizer.get_vocab().items()),
        "special": {name: str(value) for name, value in tokenizer.special_tokens_map.items()},
    }
    text = json.dumps(content, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode("ascii")).hexdigest()

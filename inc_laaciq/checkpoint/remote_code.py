"""Decide whether code that comes with a model may run.

`auto_map` in config.json or tokenizer_config.json names Python classes that transformers would import from the model's
folder.  They run only when the caller said so, and from the hub only at a pinned commit, because a branch can change
between the reading and the running of its code.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from inc_laaciq.checkpoint.digest import sha256_of_files
from inc_laaciq.errors import ModelError

_CLASS_IN_FOLDER = re.compile(r"[A-Za-z_]\w*\.[A-Za-z_]\w*")
_COMMIT = re.compile(r"[0-9a-f]{40}")


def is_commit(revision: str | None) -> bool:
    """Whether a revision is a full commit hash, and so cannot change."""
    return revision is not None and _COMMIT.fullmatch(revision) is not None


def code_references(config: Mapping[str, Any], tokenizer_config: Mapping[str, Any]) -> tuple[str, ...]:
    """Classes outside transformers that the model and its tokenizer would import: `modeling_x.XForCausalLM`."""
    auto_map = config.get("auto_map")
    found = set()
    if isinstance(auto_map, dict):
        # transformers 4 looks for the tokenizer's class here too.
        found |= set(_references(auto_map, {"AutoConfig", "AutoModelForCausalLM", "AutoTokenizer"}))
    found |= set(_references(tokenizer_config.get("auto_map"), {"AutoTokenizer"}))
    return tuple(sorted(found))


def check_code(
    config: Mapping[str, Any],
    tokenizer_config: Mapping[str, Any],
    *,
    source: str,
    trust_remote_code: bool,
    pinned: bool,
) -> tuple[str, ...]:
    """Refuse a model that would run code which the caller did not allow.

    Parameters
    ----------
    config, tokenizer_config : mapping
        The two JSON files; the second may be empty.
    source : str
        The folder or id, for the message.
    trust_remote_code : bool
        Whether the caller allows the model's own code.
    pinned : bool
        Whether that code cannot change: a local folder, or a full commit hash.

    Returns
    -------
    tuple of str
        Notes for the report.

    Raises
    ------
    ModelError
        If code is needed and not allowed, allowed and not pinned, or lies in yet another repository.
    """
    kernels = sorted(set(_kernels(config)))
    if kernels:
        raise ModelError(
            f"{source}: config.json asks for compiled code from elsewhere ({', '.join(kernels)[:200]}), as the "
            f"implementation of a layer. Remove that key: transformers has an implementation of its own."
        )
    references = code_references(config, tokenizer_config)
    if not trust_remote_code:
        return _without_code(config, references, source)
    if not references:
        return ()
    outside = [reference for reference in references if not _CLASS_IN_FOLDER.fullmatch(reference)]
    if outside:
        raise ModelError(
            f"{source}: its code lies outside the model ({', '.join(outside)[:200]}), where no revision pins it. "
            f"Copy the code into the model's folder and read it."
        )
    if not pinned:
        raise ModelError(
            f"{source}: runs its own code ({', '.join(references)}), so revision must be pinned to a commit of 40 "
            f"hexadecimal digits. A branch or a tag can change after you read the code."
        )
    return (f"Code of the model itself was run: {', '.join(references)}.",)


def code_files(folder: Path) -> tuple[Path, ...]:
    """Return the Python files of a model folder, in order."""
    return tuple(sorted(folder.glob("*.py")))


def code_note(folder: Path) -> str:
    """Say in one line which Python files a folder has, with the hash of each."""
    return "; ".join(f"{path.name} sha256 {sha256_of_files([path])}" for path in code_files(folder))


def _without_code(config: Mapping[str, Any], references: tuple[str, ...], source: str) -> tuple[str, ...]:
    from transformers import CONFIG_MAPPING

    model_type = config.get("model_type")
    if isinstance(model_type, str) and model_type in CONFIG_MAPPING:
        return ("The model comes with code of its own, which was not run.",) if references else ()
    if references:
        raise ModelError(
            f"{source}: needs code that comes with the model ({', '.join(references)}), which could do anything. "
            f"Read it, then pass --trust-remote-code, for a hub id with revision pinned to a commit of 40 hexadecimal "
            f"digits."
        )
    from transformers import __version__

    raise ModelError(
        f"{source}: model_type {str(model_type)[:80]!r} in config.json is unknown to transformers {__version__}."
    )


def _references(auto_map: Any, wanted: set[str]) -> Iterator[str]:
    # Tokenizers of old have a list [slow, fast] in place of the mapping.
    found = auto_map if isinstance(auto_map, dict) else {"AutoTokenizer": auto_map}
    for name in wanted & set(found):
        value = found[name]
        for reference in value if isinstance(value, list) else [value]:
            if reference is not None:
                yield str(reference)


def _kernels(config: Mapping[str, Any]) -> Iterator[str]:
    # `attn_implementation: "owner/name"` makes transformers download and run a compiled kernel, whatever
    # trust_remote_code says.
    pending: list[tuple[Any, bool]] = [(config, False)]
    while pending:
        value, chooses = pending.pop()
        if isinstance(value, dict):
            pending.extend((inner, chooses or "_implementation" in key) for key, inner in value.items())
        elif isinstance(value, list):
            pending.extend((inner, chooses) for inner in value)
        elif chooses and isinstance(value, str) and "/" in value:
            yield value

"""Where a configuration says that text and models are: paths relative to its own folder, hub ids, data sets."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from inc_laaciq.config import checks
from inc_laaciq.config.section import Keys, Section
from inc_laaciq.config.specs import TextSpec, check_seed
from inc_laaciq.errors import SpecError
from inc_laaciq.languages import canonical_languages

_TEXT_KEYS = {
    "calibration": Keys(
        used=("texts", "tokens_per_language", "seed"),
        refused={"aligned": "calibration takes any text of a language; only evaluation text can be said to be aligned"},
    ),
    "evaluation": Keys(used=("texts", "tokens_per_language", "seed", "aligned")),
}
_DATASET_KEYS = Keys(
    used=("path", "name", "split", "text", "language", "document", "revision", "data_files"),
    refused={"trust_remote_code": "code of others is run only if the command line says so, never by a file"},
)


def resolve_path(path: str, folder: Path, *, or_hub_id: bool = False) -> str:
    """Absolute path of what a configuration in `folder` calls `path`.

    With `or_hub_id`, something such as `org/name` that neither exists there nor starts with `.`, `/` or `~` stays as it
    is.
    """
    expanded = os.path.expanduser(path)
    absolute = os.path.normpath(os.path.join(os.path.abspath(folder), expanded))
    looks_like_path = path.startswith((".", "~")) or os.path.isabs(expanded)
    if or_hub_id and not looks_like_path and not os.path.exists(absolute):
        return path
    return absolute


def read_text(section: Section, key: str, folder: Path, *, least_tokens: int) -> TextSpec | None:
    """Read `calibration` or `evaluation`, a section that names text; None if it is absent."""
    if key not in section:
        return None
    text = section.child(key, _TEXT_KEYS[key], required=True)
    if "texts" not in text:
        raise section.error(key, "has no texts. Write texts: FOLDER, or a mapping for a data set.", with_value=False)
    texts: str | Mapping[str, Any]
    if isinstance(text.data["texts"], Mapping):
        texts = _read_dataset(text, folder)
    else:
        texts = resolve_path(text.take("texts", checks.text, ""), folder)
    return TextSpec(
        texts=texts,
        tokens_per_language=text.take(
            "tokens_per_language", checks.integer(least_tokens), TextSpec.tokens_per_language
        ),
        seed=text.take("seed", check_seed, TextSpec.seed),
        aligned=text.take("aligned", checks.boolean, TextSpec.aligned),
    )


def _read_dataset(text: Section, folder: Path) -> dict[str, Any]:
    """Arguments for a data set; local files are resolved, everything else stays as written."""
    dataset = text.child("texts", _DATASET_KEYS)
    if "path" not in dataset:
        raise text.error("texts", "has no path. Write path: NAME, the data set's name or folder.")
    arguments: dict[str, Any] = {}
    for key in sorted(dataset.data):
        if key == "data_files":
            arguments[key] = dataset.take(key, lambda value: _data_files(value, folder), None)
        elif key == "name" and isinstance(dataset.data["name"], Mapping):
            arguments[key] = _name_by_language(dataset)
        else:
            arguments[key] = dataset.take(key, checks.text, "")
    arguments["path"] = resolve_path(arguments["path"], folder, or_hub_id=True)
    return arguments


def _name_by_language(dataset: Section) -> dict[str, str]:
    """Read `name: {LANGUAGE: CONFIGURATION}` of a data set."""
    names = dataset.child("name", None)
    try:
        tags = canonical_languages(names.data)
    except SpecError as error:
        raise dataset.error("name", str(error), with_value=False) from None
    return dict(sorted((tag, names.take(key, checks.text, "")) for tag, key in zip(tags, names.data, strict=True)))


def _data_files(value: object, folder: Path) -> Any:
    if isinstance(value, list) and value:
        return [_data_files(item, folder) for item in value]
    if isinstance(value, Mapping) and value:
        return {key: _data_files(value[key], folder) for key in sorted(value)}
    path = checks.text(value)
    return path if "://" in path else resolve_path(path, folder, or_hub_id=True)

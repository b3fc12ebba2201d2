"""`results.json`: one model's losses on one text, sentence by sentence, so that they can be judged again later."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from inc_laaciq.checkpoint.strict_json import parse_object, shorten
from inc_laaciq.errors import EvaluationError, IntegrityError, SpecError
from inc_laaciq.evaluation.arrays import FLOAT, INTEGERS, decode, encode
from inc_laaciq.evaluation.losses import SentenceLosses
from inc_laaciq.evaluation.measured import Evaluation
from inc_laaciq.languages import canonical, name

SCHEMA = "inc-laaciq/results/1"
MAX_BYTES = 2**30
"""Most that a results file may have."""

MAX_SENTENCES = 2**25
"""Most sentences that a results file may have, in all languages together."""

_FLOATS = {"sentence_loss": "loss", "sentence_kl": "kl"}
_COUNTS = {
    "sentence_tokens": "tokens",
    "sentence_bytes": "n_bytes",
    "document": "document",
    "sentence_flips": "flips",
}
_OPTIONAL = ("sentence_flips", "sentence_kl")


def results_dict(
    losses: Mapping[str, SentenceLosses],
    *,
    meta: Mapping[str, Any],
    model: Mapping[str, Any],
    tokenizer: Mapping[str, Any],
    texts: Mapping[str, Any],
    missing: Mapping[str, str],
    reference: Mapping[str, Any] | None = None,
    configuration_sha256: str | None = None,
) -> dict[str, Any]:
    """The content of `results.json`, plain enough for JSON.

    Parameters
    ----------
    losses : mapping of language -> SentenceLosses
    meta, model, tokenizer, texts : mapping
        Provenance: time and versions; name and hash; hash; source, hash, tokens_per_language and seed.
    missing : mapping of language -> str
        Languages that were asked for and not measured, with the reason; it is kept, and not the losses, of a language
        that is in both.
    reference : mapping, optional
        Name and hash of the model that flips and divergence are told from.
    configuration_sha256 : str, optional
        `RunSpec.digest` of the configuration that the model was made with.
    """
    languages = {tag: _language(measured) for tag, measured in losses.items()}
    languages |= {tag: {"missing": reason} for tag, reason in missing.items()}
    content: dict[str, Any] = {
        "schema": SCHEMA,
        "meta": dict(meta),
        "model": dict(model),
        "tokenizer": dict(tokenizer),
        "texts": dict(texts),
        "languages": dict(sorted(languages.items())),
    }
    if reference is not None:
        content["reference"] = dict(reference)
    if configuration_sha256 is not None:
        content["configuration_sha256"] = configuration_sha256
    return content


def _language(measured: SentenceLosses) -> dict[str, Any]:
    if not measured.n:
        return {"missing": "no sentence of the text leaves a token to score"}
    if not measured.is_valid:
        return {"missing": "the model gives NaN or infinite losses on this language"}
    arrays = {
        key: encode(values)
        for key, field in (_FLOATS | _COUNTS).items()
        # A divergence is infinite where the model rules out what the reference does not, and JSON has no word for it.
        if (values := getattr(measured, field)) is not None and np.isfinite(values).all()
    }
    return {
        "name": name(measured.tag),
        "loss": finite(measured.loss_per_byte),
        **figures(measured),
        "loss_per_sentence": finite(measured.loss_per_sentence),
        "sentences": measured.n,
        "tokens": int(measured.tokens.sum()),
        "bytes": int(measured.n_bytes.sum()),
        "text_sha256": measured.text_sha256,
        **({"is_point": True} if measured.is_point else {}),
        **arrays,
    }


def figures(measured: SentenceLosses) -> dict[str, float | None]:
    """What a report tells of a language beside its loss; None where it is not known or not finite.

    Parameters
    ----------
    measured : SentenceLosses
        Of one model.

    Returns
    -------
    dict
        `perplexity`, `bits_per_byte`, `fertility` (tokens per byte), `flip_rate` (0 to 1) and `kl` (nats per token).
    """
    return {
        "perplexity": finite(measured.perplexity),
        "bits_per_byte": finite(measured.bits_per_byte),
        "fertility": finite(measured.fertility),
        "flip_rate": finite(measured.flip_rate),
        "kl": finite(measured.mean_kl),
    }


def finite(value: float | None) -> float | None:
    """The number, or None where there is none or JSON has no word for it."""
    return float(value) if value is not None and math.isfinite(value) else None


def content_id(results: Mapping[str, Any]) -> str:
    """SHA-256, in hexadecimal, of a results file's content without what differs between equal runs.

    That is `meta`, the place of the text, and the configuration, which names places too.

    Parameters
    ----------
    results : mapping
        From `results_dict`, or parsed from a file: the hash is the same.
    """
    content = {key: value for key, value in results.items() if key not in ("meta", "configuration_sha256")}
    content["texts"] = {key: value for key, value in results.get("texts", {}).items() if key != "source"}
    return canonical_sha256(content)


def canonical_sha256(content: Any) -> str:
    """SHA-256, in hexadecimal, of plain data as JSON with sorted keys and no white space, in UTF-8."""
    canonical_json = json.dumps(content, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical_json.encode("utf-8", "surrogatepass")).hexdigest()


def read_results(path: str | Path) -> Evaluation:
    """Read a results file that `evaluate` or `quantize` wrote, whoever may have had it since.

    Parameters
    ----------
    path : path
        At most `MAX_BYTES` bytes.

    Raises
    ------
    IntegrityError
        If it cannot be read, is not of this schema, or is damaged; naming the file and the language.
    """
    content = parse_object(_read(path), where=str(path), floats=True)
    if content.get("schema") != SCHEMA:
        raise IntegrityError(
            f"{path}: schema is {str(content.get('schema'))[:80]!r}, expected {SCHEMA!r}. "
            "Write it again with `inc-laaciq evaluate`."
        )
    parts = {key: content.get(key) for key in ("model", "tokenizer", "texts", "languages")}
    for key, value in parts.items():
        if not isinstance(value, dict):
            raise IntegrityError(f"{path}: {key} must be an object, and is {type(value).__name__}.")
    losses: dict[str, SentenceLosses] = {}
    missing: dict[str, str] = {}
    for tag, entry in content["languages"].items():
        where = f"{path}: language {shorten(tag)}"
        _check_tag(tag, where)
        if not isinstance(entry, dict):
            raise IntegrityError(f"{where}: must be an object, and is {type(entry).__name__}.")
        if "missing" in entry:
            if not isinstance(entry["missing"], str) or "sentence_loss" in entry:
                raise IntegrityError(
                    f"{where}: missing must be the reason why there are no figures, and none be there."
                )
            missing[tag] = entry["missing"]
            continue
        losses[tag] = _read_language(tag, entry, where)
        if (total := sum(measured.n for measured in losses.values())) > MAX_SENTENCES:
            raise IntegrityError(f"{path}: {total} sentences, where at most {MAX_SENTENCES} are read.")
    return Evaluation(
        source=str(path),
        id=content_id(content),
        name=str(content["model"].get("name") or ""),
        model=content["model"],
        tokenizer=content["tokenizer"],
        texts=content["texts"],
        losses=losses,
        missing=missing,
    )


def _read(path: str | Path) -> bytes:
    try:
        with open(path, "rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise IntegrityError(
            f"{path}: cannot be read: {reason}. Give a results file of `inc-laaciq evaluate`."
        ) from None
    if len(raw) > MAX_BYTES:
        raise IntegrityError(f"{path}: is larger than {MAX_BYTES} bytes, the most that a results file may have.")
    return raw


def _check_tag(tag: str, where: str) -> None:
    try:
        known = canonical(tag)
    except SpecError as error:
        raise IntegrityError(f"{where}: {error}") from None
    if known != tag:
        raise IntegrityError(f"{where}: is not a canonical tag; it would be {known!r}.")


def _read_language(tag: str, entry: Mapping[str, Any], where: str) -> SentenceLosses:
    fields: dict[str, Any] = {}
    for key, field in (_FLOATS | _COUNTS).items():
        if key not in entry:
            if key not in _OPTIONAL:
                raise IntegrityError(f"{where}: {key} is not there.")
            continue
        values = decode(entry[key], dtypes=(FLOAT,) if key in _FLOATS else INTEGERS, where=f"{where}: {key}")
        if not np.isfinite(values).all():
            raise IntegrityError(f"{where}: {key} holds NaN or infinity.")
        fields[field] = values
    hashed, is_point = entry.get("text_sha256"), entry.get("is_point", False)
    if not isinstance(hashed, str) or not isinstance(is_point, bool):
        raise IntegrityError(f"{where}: text_sha256 must be text, and is_point true or false.")
    try:
        losses = SentenceLosses(tag=tag, text_sha256=hashed, is_point=is_point, **fields)
    except EvaluationError as error:
        raise IntegrityError(f"{where}: is damaged: {error}") from error
    if not losses.n:
        raise IntegrityError(f"{where}: has no sentence; a language that was not measured says why, as `missing`.")
    totals = {"sentences": losses.n, "tokens": int(losses.tokens.sum()), "bytes": int(losses.n_bytes.sum())}
    for key, total in totals.items():
        if entry.get(key) != total:
            raise IntegrityError(f"{where}: {key} is {str(entry.get(key))[:20]}, and the sentences make {total}.")
    return losses

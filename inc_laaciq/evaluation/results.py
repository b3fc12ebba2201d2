"""`results.json`: one model's losses on one text, sentence by sentence, so that they can be judged again later."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from inc_laaciq.errors import IntegrityError
from inc_laaciq.evaluation.losses import SentenceLosses
from inc_laaciq.languages import name

SCHEMA = "inc-laaciq/results/1"


def results_dict(
    losses: Mapping[str, SentenceLosses],
    *,
    meta: Mapping[str, Any],
    model: Mapping[str, Any],
    tokenizer: Mapping[str, Any],
    texts: Mapping[str, Any],
    missing: Mapping[str, str],
) -> dict[str, Any]:
    """The content of `results.json`, plain enough for JSON.

    Parameters
    ----------
    losses : mapping of language -> SentenceLosses
    meta, model, tokenizer, texts : mapping
        Provenance: time and versions; name and hash; hash; source, hash, tokens_per_language and seed.
    missing : mapping of language -> str
        Languages that were asked for and not measured, with the reason.
    """
    languages: dict[str, dict[str, Any]] = {tag: {"missing": reason} for tag, reason in missing.items()}
    for tag, measured in losses.items():
        if not measured.is_valid:
            languages[tag] = {"missing": "the model gives NaN or infinite losses on this language"}
            continue
        languages[tag] = {
            "name": name(tag),
            "loss": measured.loss_per_byte,
            "perplexity": finite(measured.perplexity),
            "sentences": measured.n,
            "tokens": int(measured.tokens.sum()),
            "bytes": int(measured.n_bytes.sum()),
            "text_sha256": measured.text_sha256,
            "sentence_loss": measured.loss.tolist(),
            "sentence_tokens": measured.tokens.tolist(),
            "sentence_bytes": measured.n_bytes.tolist(),
            "document": measured.document.tolist(),
        }
    return {
        "schema": SCHEMA,
        "meta": dict(meta),
        "model": dict(model),
        "tokenizer": dict(tokenizer),
        "texts": dict(texts),
        "languages": dict(sorted(languages.items())),
    }


def finite(value: float) -> float | None:
    """The number, or None where JSON has no word for it."""
    return float(value) if math.isfinite(value) else None


def losses_of(results: Mapping[str, Any], source: str) -> dict[str, SentenceLosses]:
    """Sentence losses of every measured language of a results file's content.

    Parameters
    ----------
    results : mapping
        Content of `results.json`.
    source : str
        Its path, for messages.

    Raises
    ------
    IntegrityError
        If it is not of this schema, or a language's arrays are damaged.
    """
    if results.get("schema") != SCHEMA:
        raise IntegrityError(
            f"{source}: schema is {results.get('schema')!r}, expected {SCHEMA!r}. "
            "Write it again with `inc-laaciq evaluate`"
        )
    found = {}
    for tag, entry in results["languages"].items():
        if "missing" in entry:
            continue
        try:
            found[tag] = SentenceLosses(
                tag=tag,
                loss=np.array(entry["sentence_loss"], dtype=np.float64),
                tokens=np.array(entry["sentence_tokens"], dtype=np.int64),
                n_bytes=np.array(entry["sentence_bytes"], dtype=np.int64),
                document=np.array(entry["document"], dtype=np.int64),
                text_sha256=entry["text_sha256"],
            )
        except (KeyError, TypeError, ValueError) as error:
            raise IntegrityError(f"{source}: language {tag!r} is damaged: {error!r}") from error
    return found

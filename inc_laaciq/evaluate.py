"""Measure the loss of every language of a model on disk: a Hugging Face folder or id, or a `quantize` output."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inc_laaciq.calibration.collect import Progress
from inc_laaciq.calibration.corpus import read_texts
from inc_laaciq.calibration.layers import linearize
from inc_laaciq.checkpoint import load_model, load_tokenizer, tokenizer_sha256, verify_manifest
from inc_laaciq.checkpoint.strict_json import parse_object
from inc_laaciq.errors import IntegrityError, SpecError
from inc_laaciq.evaluation.likelihood import sentence_losses
from inc_laaciq.evaluation.results import results_dict
from inc_laaciq.provenance import meta
from inc_laaciq.run_report import SCHEMA

_TOKENS, _SEED = 4096, 0


@dataclass(frozen=True, kw_only=True)
class _Subject:
    """A model that can be evaluated, and what its own record says of the text."""

    model: Any
    tokenizer: Any
    provenance: dict[str, Any]
    tokenizer_sha256: str
    recorded: dict[str, Any]


def evaluate_model(
    model: str | Path,
    *,
    texts: str | Path | None = None,
    tokens_per_language: int | None = None,
    seed: int | None = None,
    progress: Progress | None = None,
    **loading: Any,
) -> dict[str, Any]:
    """Content of `results.json` for a model.

    Parameters
    ----------
    model : path or hub id
    texts : path, optional
        Folder or JSONL file; defaults to the evaluation text recorded in a `quantize` output.
    tokens_per_language, seed : int, optional
        Default to what is recorded there, else 4096 and 0.
    **loading
        `trust_remote_code`, `revision`, `allow_pickle`, for a Hugging Face model.

    Raises
    ------
    SpecError
        If there is no text to evaluate on.
    """
    folder = Path(model)
    subject = _load_output(folder) if (folder / "laaciq.json").is_file() else _load_float(model, loading)
    recorded = subject.recorded
    source = texts if texts is not None else recorded.get("source")
    if source is None:
        raise SpecError(f"{model}: no text to evaluate on is recorded there; give --texts")
    if texts is None and isinstance(source, str):
        source = (folder / source).resolve()
    corpus = read_texts(source, recorded.get("languages") if texts is None else None)
    if texts is None and corpus.sha256 != recorded["sha256"]:
        raise IntegrityError(f"{source}: the text has changed since {model} was written; give --texts to use it anyway")
    quota = _first(tokens_per_language, recorded.get("tokens_per_language"), _TOKENS)
    drawn = _first(seed, recorded.get("seed"), _SEED)
    losses = sentence_losses(
        subject.model, subject.tokenizer, corpus, tokens_per_language=quota, seed=drawn, progress=progress
    )
    return results_dict(
        losses,
        meta=meta(),
        model=subject.provenance,
        tokenizer={"sha256": subject.tokenizer_sha256},
        texts={"source": str(source), "sha256": corpus.sha256, "tokens_per_language": quota, "seed": drawn},
        missing=dict.fromkeys(corpus.missing, "no text was found"),
    )


def _first(*values: int | None) -> int:
    return next(value for value in values if value is not None)


def _load_float(model: str | Path, loading: dict[str, Any]) -> _Subject:
    loaded = load_model(model, **loading)
    return _Subject(
        model=loaded.model,
        tokenizer=loaded.tokenizer,
        provenance={"name": Path(loaded.source).name, "sha256": loaded.weights_sha256, "kind": "float"},
        tokenizer_sha256=loaded.tokenizer_sha256,
        recorded={},
    )


def _load_output(folder: Path) -> _Subject:
    """A `quantize` output, its packed layers as they are deployed."""
    from transformers import AutoConfig, AutoModelForCausalLM

    from inc_laaciq.backends import inc_saved

    file = folder / "laaciq.json"
    record = parse_object(file.read_bytes(), where=str(file), floats=True)
    if record.get("schema") != SCHEMA:
        raise IntegrityError(f"{file}: schema is {record.get('schema')!r}, expected {SCHEMA!r}; quantize again")
    is_packed = (folder / inc_saved.PACKED).exists()
    deployed = inc_saved.PACKED if is_packed else inc_saved.INC_MODEL
    verify_manifest(folder, record["files"], required=[deployed])
    config = AutoConfig.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    skeleton = linearize(AutoModelForCausalLM.from_config(config))
    tokenizer = load_tokenizer(folder)
    if is_packed:
        model = inc_saved.load_packed(skeleton, record["layers"], folder / deployed)
    else:
        model = inc_saved.load_int8(skeleton.eval(), folder / deployed)
    return _Subject(
        model=model,
        tokenizer=tokenizer,
        provenance={**record["model"], "kind": "inc"},
        tokenizer_sha256=tokenizer_sha256(tokenizer),
        recorded=record["texts"]["evaluation"] or {},
    )

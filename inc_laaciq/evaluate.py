"""Measure the loss of every language of a model on disk: a Hugging Face folder or id, an output, or an OpenVINO IR."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inc_laaciq.calibration.collect import Progress
from inc_laaciq.calibration.corpus import read_texts
from inc_laaciq.calibration.layers import linearize
from inc_laaciq.calibration.tokenization import unsupported_languages
from inc_laaciq.checkpoint import load_model, load_tokenizer, sha256_of_files, tokenizer_sha256, verify_manifest
from inc_laaciq.checkpoint.folder import find_weights
from inc_laaciq.checkpoint.foreign import foreign_errors
from inc_laaciq.checkpoint.strict_json import parse_object
from inc_laaciq.errors import IntegrityError, ModelError, SpecError
from inc_laaciq.evaluation.likelihood import sentence_losses
from inc_laaciq.evaluation.results import canonical_sha256, results_dict
from inc_laaciq.export_format import MODEL_FILE, WEIGHTS_FILE, Runtime
from inc_laaciq.output import RECORD
from inc_laaciq.provenance import meta
from inc_laaciq.run_report import SCHEMA, model_name

_TOKENS, _SEED = 4096, 0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class _Subject:
    """A model that can be evaluated, and what its own record says of the text."""

    model: Any
    tokenizer: Any
    provenance: dict[str, Any]
    tokenizer_sha256: str
    recorded: dict[str, Any]
    configuration_sha256: str | None = None


def evaluate_model(
    model: str | Path,
    *,
    texts: str | Path | None = None,
    tokens_per_language: int | None = None,
    seed: int | None = None,
    aligned: bool | None = None,
    reference: str | Path | None = None,
    runtime: Runtime | None = None,
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
    aligned : bool, optional
        Line i of every language is a translation of the same sentence. Defaults to what is recorded there for the text
        that is recorded there, else to False.
    reference : path or hub id, optional
        The model before quantization: flips and divergence are told from it.
    runtime : "default" or "exact", optional
        What an OpenVINO model computes in: what is deployed, or float32.
    **loading
        `trust_remote_code`, `revision`, `allow_pickle`, for a Hugging Face model. They hold for the reference too; but
        `revision` is that of `model`, unless that is a `quantize` output.

    Raises
    ------
    SpecError
        If there is no text to evaluate on, or a runtime is given for another model than OpenVINO's.
    ModelError
        If the reference has another tokenizer than the model.
    """
    folder = Path(model)
    if runtime is not None and not _holds(model, MODEL_FILE):
        raise SpecError(f"{model} is not an OpenVINO model, and only that has a choice of runtime. Leave it out")
    subject = _load(model, loading, runtime or "default")
    before = None
    if reference is not None:
        is_output = _holds(model, RECORD)
        before = _load(reference, loading if is_output else {**loading, "revision": None})
        _check_reference(subject, before, model, reference)
    recorded = subject.recorded
    source = texts if texts is not None else recorded.get("source")
    if source is None:
        raise SpecError(f"{model}: no text to evaluate on is recorded there; give --texts")
    if texts is None and isinstance(source, str):
        source = (folder / source).resolve()
    corpus = read_texts(source, recorded.get("languages") if texts is None else None)
    if texts is None and corpus.sha256 != recorded.get("sha256"):
        raise IntegrityError(f"{source}: the text has changed since {model} was written; give --texts to use it anyway")
    unsupported_languages(corpus, subject.tokenizer)
    quota = _first(tokens_per_language, recorded.get("tokens_per_language"), _TOKENS)
    drawn = _first(seed, recorded.get("seed"), _SEED)
    if aligned is None:
        aligned = texts is None and recorded.get("aligned") is True
    losses = sentence_losses(
        subject.model,
        subject.tokenizer,
        corpus,
        tokens_per_language=quota,
        seed=drawn,
        reference=None if before is None else before.model,
        aligned=aligned,
        progress=progress,
    )
    return results_dict(
        losses,
        meta=meta(),
        model=subject.provenance,
        tokenizer={"sha256": subject.tokenizer_sha256},
        texts={
            "source": source if isinstance(source, dict) else str(source),
            "sha256": corpus.sha256,
            "tokens_per_language": quota,
            "seed": drawn,
            **({"aligned": True} if aligned else {}),
        },
        missing=dict.fromkeys(corpus.missing, "no text was found"),
        reference=None if before is None else before.provenance,
        configuration_sha256=subject.configuration_sha256,
    )


def _first(*values: int | None) -> int:
    return next(value for value in values if value is not None)


def _load(model: str | Path, loading: dict[str, Any], runtime: Runtime = "default") -> _Subject:
    folder = Path(model)
    if _holds(model, RECORD):
        return _load_output(folder, runtime)
    return _load_ir(folder, runtime) if _holds(model, MODEL_FILE) else _load_float(model, loading)


def _holds(model: str | Path, name: str) -> bool:
    """Whether a model is a folder with a file of that name; a hub id, however long, is none."""
    return os.path.isfile(os.path.join(model, name))


def _check_reference(subject: _Subject, before: _Subject, model: str | Path, reference: str | Path) -> None:
    if subject.tokenizer_sha256 != before.tokenizer_sha256:
        raise ModelError(
            f"the reference {reference} has another tokenizer than {model}, so their tokens cannot be compared. Give "
            "the model that was quantized."
        )
    # Only our own record tells what a model was made from.
    if subject.configuration_sha256 is not None and subject.provenance.get("sha256") != before.provenance.get("sha256"):
        _log.warning(
            "%s was not quantized from %s: flips and divergence are not those of quantization.", model, reference
        )


def _load_float(model: str | Path, loading: dict[str, Any]) -> _Subject:
    loaded = load_model(model, **loading)
    return _Subject(
        model=loaded.model,
        tokenizer=loaded.tokenizer,
        provenance={"name": model_name(loaded.source), "sha256": loaded.weights_sha256, "kind": "float"},
        tokenizer_sha256=loaded.tokenizer_sha256,
        recorded={},
    )


def _load_ir(folder: Path, runtime: Runtime) -> _Subject:
    """An OpenVINO model that another tool exported: the float model behind it is not known, so it has no hash here."""
    tokenizer = load_tokenizer(folder)
    files = [folder / MODEL_FILE, folder / WEIGHTS_FILE]
    provenance = {"name": model_name(str(folder)), "files_sha256": sha256_of_files(files)}
    return _Subject(
        model=_openvino_model(folder, runtime),
        tokenizer=tokenizer,
        provenance={**provenance, "kind": "openvino", "runtime": runtime},
        tokenizer_sha256=tokenizer_sha256(tokenizer),
        recorded={},
    )


def _openvino_model(folder: Path, runtime: Runtime) -> Any:
    from inc_laaciq.backends.openvino_ir import read_ir
    from inc_laaciq.backends.openvino_model import OpenVINOModel

    return OpenVINOModel(read_ir(folder / MODEL_FILE), _config(folder), runtime=runtime)


def _config(folder: Path) -> Any:
    from transformers import AutoConfig

    with foreign_errors(f"{folder}: transformers cannot read the configuration"):
        return AutoConfig.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)


def _load_output(folder: Path, runtime: Runtime) -> _Subject:
    """A `quantize`, `export` or `pack` output, as it is deployed; packed checkpoints compute in float32."""
    import torch

    from inc_laaciq.backends import inc_saved, static_saved
    from inc_laaciq.backends.packed_loading import load_packed_checkpoint

    file = folder / RECORD
    record = parse_object(file.read_bytes(), where=str(file), floats=True)
    if record.get("schema") != SCHEMA:
        raise IntegrityError(f"{file}: schema is {record.get('schema')!r}, expected {SCHEMA!r}; quantize again")
    try:
        files, layers, provenance = record["files"], record["layers"], record["model"]
        recorded = record["texts"]["evaluation"] or {}
    except (KeyError, TypeError) as error:
        raise IntegrityError(f"{file}: it is not a complete record ({error!r}); quantize again") from error
    if (record.get("config") or {}).get("fp8") is not None:
        raise ModelError(
            f"{folder}: holds ranges for FP8, and no weights. Its results.json has its losses; on a Gaudi, quantize "
            "the float model with Neural Compressor by measure_hooks_maxabs.npz"
        )
    forms = (MODEL_FILE, inc_saved.PACKED, static_saved.STATIC, inc_saved.INC_MODEL)
    deployed = next((form for form in forms if (folder / form).exists()), forms[-1])
    required = [deployed, WEIGHTS_FILE] if deployed == MODEL_FILE else [deployed]
    if "packed" in record:
        deployed = "packed"
        required = [path.name for path in find_weights(folder).files]
    verify_manifest(folder, files, required=required)
    tokenizer = load_tokenizer(folder)
    kind = {"kind": "inc"}
    if deployed == "packed":
        model = load_packed_checkpoint(folder, dtype=torch.float32)
        kind = {"kind": "packed"}
    elif deployed == MODEL_FILE:
        model = _openvino_model(folder, runtime)
        kind = {"kind": "openvino", "runtime": runtime}
    elif deployed == inc_saved.PACKED:
        model = inc_saved.load_packed(_skeleton(folder), layers, folder / deployed)
    elif deployed == static_saved.STATIC:
        model = static_saved.load_static(_skeleton(folder), layers, folder / deployed)
    else:
        model = inc_saved.load_int8(_skeleton(folder).eval(), folder / deployed)
    return _Subject(
        model=model,
        tokenizer=tokenizer,
        provenance={**provenance, **kind},
        tokenizer_sha256=tokenizer_sha256(tokenizer),
        recorded=recorded,
        configuration_sha256=canonical_sha256(record["config"]) if "config" in record else None,
    )


def _skeleton(folder: Path) -> Any:
    """The architecture, with any weights."""
    from transformers import AutoModelForCausalLM

    config = _config(folder)
    with foreign_errors(f"{folder}: transformers cannot build the model"):
        return linearize(AutoModelForCausalLM.from_config(config))

"""A sweep of bit widths over a model on disk: loads and checks everything, then measures what is not yet done."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from inc_laaciq.calibration.collect import Progress
from inc_laaciq.calibration.corpus import read_texts
from inc_laaciq.calibration.layers import fitting_group_size, linearize
from inc_laaciq.calibration.loader import LanguageLoader
from inc_laaciq.calibration.overlap import overlap_notes
from inc_laaciq.calibration.prepare import calibration_batches, row_length
from inc_laaciq.calibration.text import Corpus
from inc_laaciq.calibration.tokenization import unsupported_languages
from inc_laaciq.checkpoint import LoadedModel, load_model
from inc_laaciq.config import LaaciqSpec, TextSpec
from inc_laaciq.config.bounds import parse_bound
from inc_laaciq.errors import SpecError
from inc_laaciq.provenance import sources_sha256, versions
from inc_laaciq.quant.grid import Scheme
from inc_laaciq.run_report import model_name
from inc_laaciq.sweeping.cells import Cells
from inc_laaciq.sweeping.sweep import PLAIN, Sweep, SweepSpec

DECIDING = (
    "assessment", "calibration", "checkpoint", "config", "evaluation", "fair", "languages.py", "layerwise.py", "quant",
    "scaling.py", "sweep.py", "sweeping",
)  # fmt: skip
"""Parts of the package that decide what a finished part of a sweep holds; a change of any other lets it stand."""


def prepare_sweep(
    model: str | Path,
    texts: str | Path,
    cells: Path,
    *,
    calibration: str | Path | None = None,
    bits: Sequence[int] = (2, 3, 4, 5, 6, 8),
    methods: Sequence[str] | None = None,
    group_size: int | None = None,
    scheme: Scheme = "sym",
    margin: str = "5%",
    tokens_per_language: int = 4096,
    calibration_tokens: int = 4096,
    seed: int = 0,
    progress: Progress | None = None,
    **loading: Any,
) -> tuple[Sweep, dict[str, Any]]:
    """Load and check everything; nothing is written.

    Parameters
    ----------
    model : path or hub id
        In float.
    texts : path
        Text to measure on: a folder of `<language>.txt` or a JSONL file.
    cells : Path
        Folder of finished parts, from which a sweep that was interrupted goes on.
    calibration : path, optional
        Text to calibrate on, needed by the modes balanced and fair.
    bits, methods, group_size, scheme, margin, tokens_per_language, seed
        As in `SweepSpec`. Methods default to plain rounding, and `balanced` if there is calibration text, else
        `fast`; the group size to 128, or the largest smaller one that divides every layer.
    calibration_tokens : int
        Of each language; 0 = all.
    **loading
        `trust_remote_code`, `revision`, `allow_pickle`.

    Returns
    -------
    Sweep, and what its document says besides the measurements.

    Raises
    ------
    LaaciqError
        With what is wrong and what to do.
    """
    try:
        bound = parse_bound(margin)
    except SpecError as error:
        raise SpecError(f"margin={margin!r} {error}") from None
    chosen = tuple(methods) if methods is not None else ("rtn", "fast" if calibration is None else "balanced")
    evaluation = read_texts(texts)
    source = load_model(model, **loading)
    source = replace(source, model=linearize(source.model))
    size = fitting_group_size(source.model) if group_size is None else group_size
    spec = SweepSpec(
        bits=tuple(bits),
        methods=chosen,
        group_size=size,
        scheme=scheme,
        margin=bound,
        tokens_per_language=tokens_per_language,
        seed=seed,
    )
    notes = [*evaluation.notes, *source.notes, *unsupported_languages(evaluation, source.tokenizer)]
    settings, corpus, loader = LaaciqSpec(), None, None
    if calibration is not None:
        corpus = read_texts(calibration)
        notes += [*corpus.notes, *overlap_notes(corpus, evaluation, gated=False)]
        text = TextSpec(texts=str(calibration), tokens_per_language=calibration_tokens, seed=seed)
        settings = LaaciqSpec(calibration=text)
        loader = _calibrated(source, settings, corpus, progress)
    calibration_sha256 = None if corpus is None else corpus.sha256
    shared = {
        "model": source.weights_sha256,
        "tokenizer": source.tokenizer_sha256,
        "evaluation": evaluation.sha256,
        "config": _config_sha256(source),
        "tokens_per_language": tokens_per_language,
        "seed": seed,
        "group_size": size,
        "scheme": scheme,
        "versions": versions(),
        "sources": sources_sha256(DECIDING),
        "threads": torch.get_num_threads(),
    }
    calibrated = {
        "calibration": calibration_sha256,
        "calibration_tokens": calibration_tokens,
        "settings": hashlib.sha256(repr(replace(settings, calibration=None)).encode()).hexdigest(),
    }
    about = {
        "model": {"name": model_name(source.source), "sha256": source.weights_sha256},
        "texts": {"evaluation_sha256": evaluation.sha256, "calibration_sha256": calibration_sha256},
        "calibration_tokens": calibration_tokens,
        "versions": versions(),
        "notes": list(dict.fromkeys(notes)),
    }
    kept = Cells(cells, shared, calibrated, data_free=(PLAIN,))
    return Sweep(source, spec, evaluation, corpus, loader, settings, kept, progress), about


def _config_sha256(source: LoadedModel) -> str:
    """Hash of the model's configuration, without where it was loaded from."""
    config: Any = source.model.config
    content = {key: value for key, value in config.to_dict().items() if key != "_name_or_path"}
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


def _calibrated(source: LoadedModel, settings: LaaciqSpec, corpus: Corpus, progress: Progress | None) -> LanguageLoader:
    length = row_length(source.model)
    return calibration_batches(settings, source.tokenizer, corpus=corpus, sequence_length=length, progress=progress)

"""Risk assessment of a model, loaded or on disk, for people who call it from Python."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from inc_laaciq.assessment.assess import AssessSpec
from inc_laaciq.assessment.assess import assess as assess_loaded
from inc_laaciq.calibration.collect import Progress
from inc_laaciq.calibration.corpus import read_texts
from inc_laaciq.calibration.layers import linearize
from inc_laaciq.calibration.prepare import row_length
from inc_laaciq.calibration.text import Corpus, LanguageText
from inc_laaciq.calibration.tokenization import unsupported_languages
from inc_laaciq.checkpoint import load_model
from inc_laaciq.config.bounds import parse_bound
from inc_laaciq.errors import SpecError
from inc_laaciq.languages import canonical_languages
from inc_laaciq.provenance import meta
from inc_laaciq.run_report import model_name

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def assess_quantization_risk(
    model: str | Path | nn.Module,
    languages: str | Path | Mapping[str, Sequence[str]],
    *,
    tokenizer: PreTrainedTokenizerBase | None = None,
    limit: str = "5%",
    progress: Progress | None = None,
    trust_remote_code: bool = False,
    revision: str | None = None,
    allow_pickle: bool = False,
    **options: Any,
) -> dict[str, Any]:
    """Predict, without quantizing, what plain rounding would cost every language, and which layers would do it.

    Parameters
    ----------
    model : path, hub id or nn.Module
        A causal language model in float.
    languages : path, or mapping of language -> sentences
        A folder of `<language>.txt` or a JSONL file; or the text itself, each sentence a document of its own.
    tokenizer : transformers tokenizer, optional
        Needed with a loaded model, and only then.
    limit : str
        What a language may lose: "5%" of its perplexity, or "0.02npb", nats per UTF-8 byte.
    progress : callable(stage, done, total), optional
    trust_remote_code, revision, allow_pickle
        For a model on disk or the hub, as in `inc-laaciq quantize`.
    **options
        Other fields of `AssessSpec`: bits, group_size, scheme, tokens_per_language, seed, outlier_kurtosis,
        outlier_peak.

    Returns
    -------
    dict
        Schema `inc-laaciq/assessment/1`: `languages.<tag>` with `predicted_degradation` (nats per byte), its `interval`
        and `risk`, `worst_language`, `difference` (whether languages differ at all), `layers`, `heat`,
        `recommendation`. Plain data that can be written as JSON.

    Raises
    ------
    LaaciqError
        With what is wrong and what to do.
    """
    try:
        spec = AssessSpec(limit=parse_bound(limit), **options)
    except SpecError as error:
        raise SpecError(f"limit={limit!r} {error}") if str(error).startswith(("is ", "has ")) else error from None
    corpus, source = _corpus(languages)
    about: dict[str, Any]
    notes: list[str] = []
    if isinstance(model, nn.Module):
        if tokenizer is None:
            raise SpecError("a loaded model was given without its tokenizer. Give tokenizer=...")
        about, module = {"name": type(model).__name__}, model
    else:
        if tokenizer is not None:
            raise SpecError("the tokenizer of a model on disk is read from there. Leave tokenizer out")
        loaded = load_model(model, trust_remote_code=trust_remote_code, revision=revision, allow_pickle=allow_pickle)
        about = {"name": model_name(loaded.source), "sha256": loaded.weights_sha256}
        module, tokenizer, notes = loaded.model, loaded.tokenizer, list(loaded.notes)
    notes += [*corpus.notes, *unsupported_languages(corpus, tokenizer)]
    document = assess_loaded(
        linearize(module), tokenizer, corpus, spec, row_length=row_length(module), source=source, progress=progress
    )
    return {**document, "model": about, "meta": meta(), "notes": list(dict.fromkeys(notes))}


def _corpus(languages: str | Path | Mapping[str, Sequence[str]]) -> tuple[Corpus, str | None]:
    """Text, and where it is from as a configuration can name it."""
    if not isinstance(languages, Mapping):
        return read_texts(languages), str(languages)
    tags = canonical_languages(languages)
    texts = {}
    for tag, (given, sentences) in zip(tags, languages.items(), strict=True):
        if isinstance(sentences, str):
            raise SpecError(f"languages[{given!r}] is one string. Give a list of sentences")
        lines = [line for line in (sentence.strip() for sentence in sentences) if line]
        if lines:
            texts[tag] = LanguageText(tag=tag, documents=tuple((line,) for line in lines))
    return Corpus(texts=texts, missing=tuple(tag for tag in tags if tag not in texts)), None

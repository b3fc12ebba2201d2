"""From the configuration to calibration batches: text read, checked and packed."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from inc_laaciq.calibration.batches import pack
from inc_laaciq.calibration.collect import Progress
from inc_laaciq.calibration.corpus import read_texts
from inc_laaciq.calibration.loader import LanguageLoader
from inc_laaciq.calibration.text import Corpus
from inc_laaciq.config import LaaciqSpec, TextSpec
from inc_laaciq.errors import SpecError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SEQUENCE_LENGTH = 256


def row_length(model: Any) -> int:
    """Tokens in a row of calibration text: 256, or as many as the model has positions for."""
    positions = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    return min(SEQUENCE_LENGTH, positions) if positions else SEQUENCE_LENGTH


def read_corpus(spec: TextSpec, settings: LaaciqSpec) -> Corpus:
    """Text of the configured languages; languages without text are listed as missing."""
    return read_texts(spec.texts, settings.languages, strict_lid=settings.strict_lid)


def check_weights(settings: LaaciqSpec, languages: Collection[str]) -> None:
    """Refuse what would do nothing in silence, or has no say to give.

    Raises
    ------
    SpecError
        If a weight or a share is for a language that is not calibrated on, or one that is has no share.
    """
    named = {*settings.weights, *(settings.shares or ())}
    if unknown := sorted(named.difference(languages)):
        raise SpecError(
            f"la_aciq.weights and shares name {', '.join(unknown)}, which the calibration text does not have. "
            f"It has {', '.join(languages)}"
        )
    if settings.shares is not None and (without := sorted(set(languages) - settings.shares.keys())):
        raise SpecError(f"la_aciq.shares has no share for {', '.join(without)}, which the calibration text has. Add it")


def calibration_batches(
    settings: LaaciqSpec,
    tokenizer: PreTrainedTokenizerBase,
    *,
    corpus: Corpus | None = None,
    sequence_length: int = SEQUENCE_LENGTH,
    progress: Progress | None = None,
    memory: int = 4 << 30,
) -> LanguageLoader:
    """Calibration batches of every language, the same number of tokens each where there is enough text.

    Parameters
    ----------
    settings : LaaciqSpec
        Its `calibration` must be given.
    tokenizer : transformers tokenizer
    corpus : Corpus, optional
        Already read text; else it is read.
    sequence_length : int
        Tokens in a row.
    memory : int
        Bytes that statistics may take.

    Raises
    ------
    SpecError
        If the configuration names no calibration text.
    """
    spec = settings.calibration
    if spec is None:
        raise SpecError(
            "la_aciq.calibration.texts is missing: name a folder of <language>.txt, a JSONL file or a data set"
        )
    corpus = corpus or read_corpus(spec, settings)
    batches = pack(
        corpus,
        tokenizer,
        tokens_per_language=spec.tokens_per_language,
        sequence_length=sequence_length,
        seed=spec.seed,
    )
    return LanguageLoader(batches, progress=progress, memory=memory, text_bytes=corpus.sizes())

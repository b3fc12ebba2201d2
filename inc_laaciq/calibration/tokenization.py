"""Text to tokens, and how well a tokenizer covers each language.

A language that a tokenizer can only spell as unknown tokens or single bytes is a language the model does not
support; no calibration mends that, so it is measured and said.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from inc_laaciq.calibration.text import Corpus, LanguageText

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MAX_UNKNOWN = 0.1
"""Share of unknown tokens and single bytes above which the model counts as not supporting a language."""

_SAMPLE = 100_000
_BYTE_TOKEN = re.compile(r"<0x[0-9A-Fa-f]{2}>")
_log = logging.getLogger(__name__)


def encode(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[list[int]]:
    """Token ids of each text, without special tokens.

    Parameters
    ----------
    tokenizer : transformers tokenizer
        Fast or slow.
    texts : sequence of str
        Any number.

    Returns
    -------
    list of list of int
        One list a text, of any length; there is no warning about the model's longest sequence.
    """
    if not texts:
        return []
    encoded = tokenizer(
        list(texts), add_special_tokens=False, return_attention_mask=False, return_token_type_ids=False, verbose=False
    )
    return [list(ids) for ids in encoded["input_ids"]]


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """How a tokenizer spells one language.

    Parameters
    ----------
    tag : str
        Canonical language tag.
    unknown_share : float
        Share of tokens that are the unknown token or, in a tokenizer with byte fallback, single bytes. Always 0 for a
        byte-level tokenizer, which can spell anything: there, look at `tokens_per_character`.
    tokens_per_character : float
        Fertility; about 0.2 to 0.4 for a language the tokenizer was trained on, 1 and more where it falls apart.
    """

    tag: str
    unknown_share: float
    tokens_per_character: float


def coverage(corpus: Corpus, tokenizer: PreTrainedTokenizerBase) -> dict[str, Coverage]:
    """Measure how a tokenizer spells each language.

    Parameters
    ----------
    corpus : Corpus
        Up to about 100,000 characters of a language are looked at.
    tokenizer : transformers tokenizer
        Fast or slow.

    Returns
    -------
    dict of str to Coverage
        By language tag.
    """
    spelled_out = {id_ for token, id_ in tokenizer.get_vocab().items() if _BYTE_TOKEN.fullmatch(token)}
    if tokenizer.unk_token_id is not None:
        spelled_out.add(tokenizer.unk_token_id)
    return {tag: _cover(text, tokenizer, spelled_out) for tag, text in corpus.texts.items()}


def _cover(text: LanguageText, tokenizer: PreTrainedTokenizerBase, spelled_out: set[int]) -> Coverage:
    lines: list[str] = []
    n_characters = 0
    for _, document in text.dealt(0):
        for line in document:
            if n_characters < _SAMPLE:
                lines.append(line)
                n_characters += len(line)
    ids = [token for encoded in encode(tokenizer, lines) for token in encoded]
    unknown = sum(token in spelled_out for token in ids)
    return Coverage(
        tag=text.tag,
        unknown_share=unknown / len(ids) if ids else 1.0,  # text that leaves no token at all is not covered either
        tokens_per_character=len(ids) / n_characters,
    )


def unsupported_languages(corpus: Corpus, tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Say, and log as warnings, which languages the model does not support; none of them is left out.

    Parameters
    ----------
    corpus : Corpus
        See `coverage`.
    tokenizer : transformers tokenizer
        Fast or slow.

    Returns
    -------
    list of str
        One sentence for each language of which more than 10 % of the tokens are unknown or single bytes.
    """
    notes = [
        f"{tag}: the model does not support this language: {cover.unknown_share:.0%} of the tokens are unknown or "
        f"single bytes ({cover.tokens_per_character:.2f} tokens per character). Its figures say little; to leave it "
        "out, list the other languages in la_aciq.languages."
        for tag, cover in coverage(corpus, tokenizer).items()
        if cover.unknown_share > MAX_UNKNOWN
    ]
    for note in notes:
        _log.warning("%s", note)
    return notes

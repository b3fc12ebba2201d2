"""Aligned text: line i of every language is a translation of the same sentence, so all are judged on the same ones.

A line that is off by one would compare sentences that say different things, and nothing later could tell. So whatever
may shift the lines of one language against another's is refused here.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from itertools import islice
from typing import TYPE_CHECKING

from inc_laaciq.calibration.text import Corpus, LanguageText
from inc_laaciq.errors import DataError
from inc_laaciq.evaluation.sentences import (
    ENCODED_AT_ONCE,
    ScoredLine,
    Sentences,
    context_token,
    sentences_of,
    with_context,
)

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_FIX = "Line i of every language must be a translation of the same sentence; correct the text, or leave out `aligned`."

_log = logging.getLogger(__name__)


def check_aligned(corpus: Corpus) -> None:
    """Refuse text whose lines cannot belong together.

    Parameters
    ----------
    corpus : Corpus
        Languages without text are not looked at: they cannot pass anyway.

    Raises
    ------
    DataError
        Naming the languages, if they differ in their number of lines, in which lines are blank or in how lines make up
        documents; or if lines were left out as damaged or cut as too long.
    """
    counts = {tag: len(text.lines) for tag, text in corpus.texts.items()}
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{tag} {count}" for tag, count in counts.items())
        raise DataError(f"aligned text: the languages differ in their number of lines: {listed}. {_FIX}")
    if corpus.skips_records:
        raise DataError(f"aligned text: records were left out as damaged, see the warnings above. {_FIX}")
    for tag, text in corpus.texts.items():
        for count, what in (
            (text.n_skipped, "left out as damaged"),
            (text.n_cut, "cut, being longer than can be used"),
        ):
            if count:
                raise DataError(f"aligned text: of {tag} {count} lines were {what}. {_FIX}")
    _check_same({tag: text.blank for tag, text in corpus.texts.items()}, "have different blank lines")
    sizes = {tag: tuple(map(len, text.documents)) for tag, text in corpus.texts.items()}
    _check_same(sizes, "are divided into documents in different ways")


def _check_same(values: Mapping[str, object], problem: str) -> None:
    first = next(iter(values), "")
    if others := [tag for tag in values if values[tag] != values[first]]:
        raise DataError(f"aligned text: {first} and {', '.join(others)} {problem}. {_FIX}")


def choose_aligned(
    corpus: Corpus, tokenizer: PreTrainedTokenizerBase, *, tokens_per_language: int, seed: int
) -> list[Sentences]:
    """Take the same lines of every language, until each has enough tokens.

    Parameters
    ----------
    corpus : Corpus
        Every line is a sentence, and a document of its own: `Sentences.document` is its number, the same in all
        languages.
    tokenizer : transformers tokenizer
        As for `choose_sentences`.
    tokens_per_language : int
        Stop at the line with which the last language reaches this many scored tokens; 0 takes all lines.
    seed : int
        Which lines are taken; they stay in the order of the text. All lines are the same lines whatever the seed.

    Returns
    -------
    list of Sentences
        In the order of the corpus. A line that leaves no token to score in one language is left out in all.

    Raises
    ------
    DataError
        As `check_aligned`.
    ModelError
        As `choose_sentences`.
    """
    check_aligned(corpus)
    context = context_token(tokenizer)
    lines = {tag: text.lines for tag, text in corpus.texts.items()}
    total = min(map(len, lines.values()), default=0)
    order = iter(sorted(range(total), key=lambda number: _draw(seed, number)))
    chosen: dict[int, dict[str, ScoredLine]] = {}
    n_tokens = dict.fromkeys(lines, 0)
    left_out: set[str] = set()
    n_left_out = 0
    while chunk := list(islice(order, ENCODED_AT_ONCE)):
        encoded = {tag: with_context([lines[tag][i] for i in chunk], tokenizer, context) for tag in lines}
        for place, number in enumerate(chunk):
            if 0 < tokens_per_language <= min(n_tokens.values()):
                break
            scored = {tag: encoded[tag][place] for tag in lines}
            if empty := {tag for tag, (ids, _) in scored.items() if len(ids) < 2}:
                left_out |= empty
                n_left_out += 1
                continue
            chosen[number] = scored
            for tag, (ids, _) in scored.items():
                n_tokens[tag] += len(ids) - 1
        if 0 < tokens_per_language <= min(n_tokens.values()):
            break
    if n_left_out:
        _log.warning(
            "%d of %d aligned lines leave no token to score in %s, and are left out in every language.",
            n_left_out,
            n_left_out + len(chosen),
            ", ".join(sorted(left_out)),
        )
    return [_sentences(text, chosen) for text in corpus.texts.values()]


def _sentences(text: LanguageText, chosen: Mapping[int, Mapping[str, ScoredLine]]) -> Sentences:
    lines = text.lines
    return sentences_of(text.tag, ((number, lines[number], chosen[number][text.tag]) for number in sorted(chosen)))


def _draw(seed: int, number: int) -> bytes:
    # A hash, as for documents, but without the language: the same lines for all.
    return hashlib.blake2b(f"{seed}/aligned/{number}".encode(), digest_size=16).digest()

"""Chooses the sentences of an evaluation and turns them into windows of tokens that a model can score.

A sentence is a line. It is scored on its own, so that its loss is the same whatever was scored beside it, and so
that two models are compared sentence by sentence.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from inc_laaciq.calibration.text import LanguageText
from inc_laaciq.calibration.tokenization import encode
from inc_laaciq.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_PROBE = "a"  # a text, to see what a tokenizer puts before one
ENCODED_AT_ONCE = 64
"""Lines; small enough to stop soon after a quota is reached."""

ScoredLine = tuple[NDArray[np.int64], int]
"""Token ids of a line, the context first, and the bytes that the others spell."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Sentences:
    """The chosen sentences of one language, tokenized.

    Parameters
    ----------
    tag : str
        Canonical language tag.
    ids : tuple of int64 array, each of shape (1 + tokens,)
        Token ids of a sentence; the first is context only and is not scored.
    n_bytes : int64 array, shape (n,)
        UTF-8 bytes that the scored tokens spell.
    document : int64 array, shape (n,)
        Index of the document the sentence is from.
    text_sha256 : str
        Hash of the sentences and their token ids.
    """

    tag: str
    ids: tuple[NDArray[np.int64], ...]
    n_bytes: NDArray[np.int64]
    document: NDArray[np.int64]
    text_sha256: str

    @property
    def tokens(self) -> NDArray[np.int64]:
        """Scored tokens of each sentence, int64, shape (n,)."""
        return np.array([len(ids) - 1 for ids in self.ids], dtype=np.int64)


@dataclass(frozen=True, kw_only=True, eq=False)
class Window:
    """A stretch of a sentence: `ids[:-1]` goes into the model, `ids[1:]` is what it is scored on.

    Parameters
    ----------
    sentence : int
        Index of the sentence.
    ids : int64 array, shape (1 + tokens,)
        Token ids.
    """

    sentence: int
    ids: NDArray[np.int64]


def choose_sentences(
    text: LanguageText, tokenizer: PreTrainedTokenizerBase, *, tokens_per_language: int, seed: int
) -> Sentences:
    """Take whole sentences, one of every document in turn, until there are enough tokens.

    Parameters
    ----------
    text : LanguageText
        Where the sentences come from.
    tokenizer : transformers tokenizer
        Its context token (see `context_token`) goes before every sentence. Where it has none, a sentence's first
        token is context for the rest, and neither that token nor the bytes it spells are scored.
    tokens_per_language : int
        Stop at the sentence that reaches this many scored tokens; 0 takes all sentences.
    seed : int
        Order of the documents, and of the sentences in each.

    Returns
    -------
    Sentences
        A sentence that leaves no token to score is not among them.

    Raises
    ------
    ModelError
        If the tokenizer has no context token and cannot say which characters a token spells.
    """
    return sentences_of(text.tag, _taken(text, tokenizer, tokens_per_language, seed))


def _taken(
    text: LanguageText, tokenizer: PreTrainedTokenizerBase, tokens_per_language: int, seed: int
) -> Iterator[tuple[int, str, ScoredLine]]:
    context = context_token(tokenizer)
    n_tokens = 0
    lines = text.in_rounds(seed)
    while chunk := list(islice(lines, ENCODED_AT_ONCE)):
        encoded = with_context([line for _, line in chunk], tokenizer, context)
        for (index, line), scored in zip(chunk, encoded, strict=True):
            if 0 < tokens_per_language <= n_tokens:
                return
            if len(scored[0]) < 2:
                continue
            yield index, line, scored
            n_tokens += len(scored[0]) - 1
        if 0 < tokens_per_language <= n_tokens:
            return


def sentences_of(tag: str, lines: Iterable[tuple[int, str, ScoredLine]]) -> Sentences:
    """Gather the sentences of a language.

    Parameters
    ----------
    tag : str
        Canonical language tag.
    lines : iterable of (document, line, ScoredLine)
        As in `Sentences`; the line goes into the hash.

    Returns
    -------
    Sentences
    """
    digest = hashlib.sha256()
    ids: list[NDArray[np.int64]] = []
    n_bytes: list[int] = []
    documents: list[int] = []
    for document, line, (tokens, size) in lines:
        ids.append(tokens)
        n_bytes.append(size)
        documents.append(document)
        digest.update(f"{line}\n{' '.join(map(str, tokens.tolist()))}\n".encode())
    return Sentences(
        tag=tag,
        ids=tuple(ids),
        n_bytes=np.array(n_bytes, dtype=np.int64),
        document=np.array(documents, dtype=np.int64),
        text_sha256=digest.hexdigest(),
    )


def context_token(tokenizer: PreTrainedTokenizerBase) -> int | None:
    """Return the token that a sentence is conditioned on.

    Parameters
    ----------
    tokenizer : transformers tokenizer
        Fast or slow.

    Returns
    -------
    int or None
        The token that the tokenizer itself puts before a text, else its end-of-text token (which stood before each
        text in training, as one that the tokenizer does not put there did not), else its beginning-of-text token, else
        None.
    """
    bare = encode(tokenizer, [_PROBE])[0]
    dressed = list(tokenizer(_PROBE)["input_ids"])
    if bare and dressed[1 : 1 + len(bare)] == bare and dressed[0] in tokenizer.all_special_ids:
        return int(dressed[0])
    token = tokenizer.eos_token_id if tokenizer.eos_token_id is not None else tokenizer.bos_token_id
    return None if token is None else int(token)


def with_context(lines: Sequence[str], tokenizer: PreTrainedTokenizerBase, context: int | None) -> list[ScoredLine]:
    """Encode lines with their context.

    Parameters
    ----------
    lines : sequence of str
        Without line ends.
    tokenizer : transformers tokenizer
        A fast one where there is no context.
    context : int or None
        From `context_token`.

    Returns
    -------
    list of ScoredLine

    Raises
    ------
    ModelError
        If there is no context, and the tokenizer cannot say which bytes a token spells.
    """
    if context is not None:
        return [
            (np.array([context, *ids], dtype=np.int64), len(line.encode()))
            for line, ids in zip(lines, encode(tokenizer, lines), strict=True)
        ]
    if not tokenizer.is_fast:
        raise ModelError(
            "the tokenizer has neither a bos nor an eos token, and is not a fast one that could tell which bytes of a "
            "sentence its first token spells. Set tokenizer.bos_token or tokenizer.eos_token."
        )
    encoded = tokenizer(list(lines), add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    return [
        (np.array(ids, dtype=np.int64), len(line[offsets[0][1] :].encode()) if ids else 0)
        for line, ids, offsets in zip(lines, encoded["input_ids"], encoded["offset_mapping"], strict=True)
    ]


def windows(sentences: Sentences, max_length: int) -> Iterator[Window]:
    """Cut sentences into windows; every token is scored once, and the token before it is always in its window.

    Parameters
    ----------
    sentences : Sentences
        Tokenized sentences.
    max_length : int
        Most tokens that go into the model at once; >= 1.

    Yields
    ------
    Window
        In the order of the sentences.
    """
    for number, ids in enumerate(sentences.ids):
        for start in range(0, len(ids) - 1, max_length):
            yield Window(sentence=number, ids=ids[start : start + max_length + 1])

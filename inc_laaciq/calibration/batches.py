"""Packs text into calibration batches without padding, as many tokens of each language as its quota says.

Padding would enter the statistics of a layer, and dropping what does not fill a row would leave a language with
little text with even less; so the last row is simply shorter.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch

from inc_laaciq.calibration.quota import warn_of_imbalance
from inc_laaciq.calibration.text import Corpus, LanguageText
from inc_laaciq.calibration.tokenization import encode
from inc_laaciq.errors import DataError, SpecError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

BATCH_TOKENS = 4096
"""Most tokens in a batch; at least one row all the same."""

_PIECE = 32_768  # characters tokenized at once: bounds memory and keeps tokenizers linear on huge documents


def pack(
    corpus: Corpus,
    tokenizer: PreTrainedTokenizerBase,
    *,
    tokens_per_language: int = 4096,
    sequence_length: int = 256,
    seed: int = 0,
) -> dict[str, tuple[torch.Tensor, ...]]:
    """Turn text into rows of tokens, the same number for every language that has enough.

    Documents are taken whole in a seeded order, with the end-of-text token (else the beginning-of-text token)
    between them, until the quota is filled to the token. The order in one language does not depend on the others.

    Parameters
    ----------
    corpus : Corpus
        Text; a document's lines are joined with newlines.
    tokenizer : transformers tokenizer
        Fast or slow.
    tokens_per_language : int
        Quota; 0 takes all text.
    sequence_length : int
        Tokens in a row; >= 1.
    seed : int
        Order of the documents.

    Returns
    -------
    dict of str to tuple of LongTensor
        By language tag: batches of shape (n, sequence_length), at most 4096 tokens each or a single row; the last may
        be one shorter row. A language with less text than its quota is packed whole, and a warning says so.

    Raises
    ------
    SpecError
        If a number is out of range.
    DataError
        If there is no text at all, or text of a language gives no tokens.
    """
    if tokens_per_language < 0:
        raise SpecError(f"tokens_per_language={tokens_per_language} is negative. Use 0 for all text.")
    if sequence_length < 1:
        raise SpecError(f"sequence_length={sequence_length}, and it must be at least 1.")
    if not corpus.texts:
        raise DataError(f"no language has any text (missing: {', '.join(corpus.missing) or 'none listed'}).")
    packed = {
        tag: _pack_language(text, tokenizer, tokens_per_language, sequence_length, seed)
        for tag, text in corpus.texts.items()
    }
    n_tokens = {tag: sum(rows.numel() for rows in batches) for tag, batches in packed.items()}
    warn_of_imbalance(n_tokens, tokens_per_language)
    return packed


def _pack_language(
    text: LanguageText, tokenizer: PreTrainedTokenizerBase, quota: int, length: int, seed: int
) -> tuple[torch.Tensor, ...]:
    separator = tokenizer.eos_token_id if tokenizer.eos_token_id is not None else tokenizer.bos_token_id
    stream: list[int] = []
    for _, lines in text.dealt(seed):
        if stream and separator is not None:
            stream.append(separator)
        for piece in _pieces(lines):
            stream.extend(encode(tokenizer, [piece])[0])
            if 0 < quota <= len(stream):
                break
        if 0 < quota <= len(stream):
            break
    if not stream:
        raise DataError(f"{text.tag}: the tokenizer makes no tokens of {text.n_bytes} bytes of text.")
    tokens = torch.tensor(stream[: quota or None], dtype=torch.long)
    n_full = len(tokens) // length
    grid = tokens[: n_full * length].view(-1, length)
    full = torch.split(grid, max(1, BATCH_TOKENS // length)) if n_full else ()
    tail = tokens[n_full * length :].view(1, -1)
    return (*full, tail) if tail.numel() else tuple(full)


def _pieces(lines: tuple[str, ...]) -> Iterator[str]:
    """Yield the document's text in pieces of whole lines; a document of ordinary size is one piece."""
    start, size = 0, 0
    for number, line in enumerate(lines):
        if size and size + len(line) > _PIECE:
            yield "\n".join(lines[start:number]) + "\n"
            start, size = number, 0
        size += len(line) + 1
    yield "\n".join(lines[start:])

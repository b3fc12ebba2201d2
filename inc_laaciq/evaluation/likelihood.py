"""Scores sentences with a causal language model: PyTorch, INC's wrapped models and OpenVINO's alike.

A model is anything that can be called with `input_ids` and `attention_mask` and gives logits. Losses are sums of
float32 log-likelihoods in float64, and do not depend on the batch size beyond rounding.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from inc_laaciq.calibration.collect import Progress, evaluating
from inc_laaciq.calibration.quota import warn_of_imbalance
from inc_laaciq.calibration.text import Corpus
from inc_laaciq.errors import ModelError, ResourceError, SpecError
from inc_laaciq.evaluation.aligned import choose_aligned
from inc_laaciq.evaluation.losses import SentenceLosses
from inc_laaciq.evaluation.sentences import Sentences, Window, choose_sentences, windows

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["CausalModel", "Progress", "SentenceLosses", "sentence_losses"]

MAX_LENGTH = 512
"""Tokens in a window unless asked otherwise."""

_LENGTH_IF_UNKNOWN = 2048
_LIMITS = ("max_position_embeddings", "n_positions", "seq_length")  # what configurations call their longest text
_MEASURES = 3  # of a token: loss, flip, divergence
_LOGITS = (
    2**28
)  # logits of one batch of one model, 1 GiB in float32: a vocabulary of 250,000 gets batches of 1,000 tokens
_CHUNK = 2**20  # logits that the loss is computed on at once: few enough for the cache

_log = logging.getLogger(__name__)


class CausalModel(Protocol):
    """What a model must offer."""

    def __call__(self, *, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> Any:
        """Return logits [batch, tokens, vocabulary], or an object, mapping or tuple that holds them."""


def sentence_losses(
    model: CausalModel,
    tokenizer: PreTrainedTokenizerBase,
    corpus: Corpus,
    *,
    tokens_per_language: int = 4096,
    seed: int = 0,
    batch_tokens: int = 1024,
    max_length: int | None = None,
    reference: CausalModel | None = None,
    aligned: bool = False,
    progress: Progress | None = None,
) -> dict[str, SentenceLosses]:
    """Loss of every chosen sentence, by language.

    Parameters
    ----------
    model : callable
        Put into evaluation mode while it runs, where it is a module.
    tokenizer : transformers tokenizer
        That of the model.
    corpus : Corpus
        Each line is a sentence.
    tokens_per_language : int
        Whole sentences are taken, one of every document in turn, until they have this many tokens; 0 takes all.
    seed : int
        Order of the documents.
    batch_tokens : int
        Most tokens in a batch, padding counted; larger batches are slower on a CPU. Batches are smaller where the
        vocabulary is so large that the logits would take more than 1 GiB; a single window is never refused.
    max_length : int, optional
        Most tokens that go into the model at once, by default 512 or what the model allows. Longer sentences are
        scored in windows that follow each other, each with the token before it as its context.
    reference : callable, optional
        A model with the same vocabulary, such as the one that was quantized. The same batches go through it too, and
        every sentence gets its flips and its divergence from it. The losses are the same bytes as without it. The
        logits of a batch then take twice the memory.
    aligned : bool
        Line i of every language is a translation of the same sentence: the same lines are taken of all languages (see
        `choose_aligned`).
    progress : callable, optional
        See `Progress`.

    Returns
    -------
    dict of str to SentenceLosses
        For every language of the corpus that has text. Byte-identical for the same batch size and threads.

    Raises
    ------
    SpecError
        If a number is out of range.
    DataError
        If the text is to be aligned, and is not.
    ModelError
        If the model does not fit the tokenizer or the reference, or returns no logits.
    ResourceError
        If memory does not suffice for a single window.
    """
    if tokens_per_language < 0:
        raise SpecError(f"tokens_per_language={tokens_per_language} is negative. Use 0 for all text.")
    if batch_tokens < 1:
        raise SpecError(f"batch_tokens={batch_tokens}, and it must be at least 1.")
    length = _window_length(model, max_length)
    chosen = _choose(corpus, tokenizer, tokens_per_language=tokens_per_language, seed=seed, aligned=aligned)
    vocabulary = _setting(model, "vocab_size")
    _check_vocabulary(chosen, vocabulary)
    if reference is not None:
        _check_reference(reference, length)
    scorer = _Scorer(model, reference, min(batch_tokens, _LOGITS // vocabulary) if vocabulary else batch_tokens)
    total = sum(int(sentences.tokens.sum()) for sentences in chosen)
    done = 0
    losses = {}
    with torch.inference_mode(), evaluating(model), evaluating(reference):
        for sentences in chosen:
            sums = np.zeros((_MEASURES, len(sentences.ids)))
            for batch, window_sums in scorer.score(list(windows(sentences, length))):
                for total_of, part in zip(sums, window_sums, strict=True):
                    np.add.at(total_of, [window.sentence for window in batch], part)
                done += sum(len(window.ids) - 1 for window in batch)
                if progress is not None:
                    progress(f"evaluating {sentences.tag}", done, total)
            losses[sentences.tag] = _measured(sentences, sums, is_compared=reference is not None)
    return losses


def _choose(
    corpus: Corpus, tokenizer: PreTrainedTokenizerBase, *, tokens_per_language: int, seed: int, aligned: bool
) -> list[Sentences]:
    if aligned:
        chosen = choose_aligned(corpus, tokenizer, tokens_per_language=tokens_per_language, seed=seed)
    else:
        chosen = [
            choose_sentences(text, tokenizer, tokens_per_language=tokens_per_language, seed=seed)
            for text in corpus.texts.values()
        ]
    if tokens_per_language or not aligned:  # the whole of an aligned text is balanced, whatever its tokens
        warn_of_imbalance({sentences.tag: int(sentences.tokens.sum()) for sentences in chosen}, tokens_per_language)
    return chosen


def _measured(sentences: Sentences, sums: NDArray[np.float64], *, is_compared: bool) -> SentenceLosses:
    """Losses of one language from the sums of its sentences, shape (_MEASURES, n)."""
    loss, flips, kl = sums
    if is_compared and np.isfinite(loss).all() and np.isnan(kl).any():
        _log.warning(
            "%s: the reference gives NaN on this language, so there is nothing to compare with.", sentences.tag
        )
        is_compared = False
    losses = SentenceLosses(
        tag=sentences.tag,
        loss=loss,
        tokens=sentences.tokens,
        n_bytes=sentences.n_bytes,
        document=sentences.document,
        text_sha256=sentences.text_sha256,
        flips=flips.astype(np.int64) if is_compared else None,
        kl=np.maximum(kl, 0.0) if is_compared else None,  # rounding alone makes it negative
    )
    if not losses.is_valid:
        _log.warning("%s: the model gives no finite loss on this language.", sentences.tag)
    return losses


class _Scorer:
    """Runs windows through a model, and perhaps a reference, in batches; halves the batch when memory runs out."""

    def __init__(self, model: CausalModel, reference: CausalModel | None, batch_tokens: int) -> None:
        self._model = model
        self._reference = reference
        self._device = _device(model)
        self._batch_tokens = batch_tokens

    def score(self, pending: list[Window]) -> Iterator[tuple[list[Window], NDArray[np.float64]]]:
        """Yield every batch and the sums of its windows, shape (_MEASURES, len(batch))."""
        pending.sort(key=lambda window: -len(window.ids))  # stable: windows of one length keep their order
        start = 0
        while start < len(pending):
            longest = len(pending[start].ids) - 1
            batch = pending[start : start + max(1, self._batch_tokens // longest)]
            sums = self._try(batch)
            if sums is not None:
                yield batch, sums
                start += len(batch)
            elif len(batch) == 1:
                raise ResourceError(
                    f"not enough memory to score {longest} tokens at once. Lower max_length, or free memory."
                )
            else:
                self._batch_tokens = len(batch) // 2 * longest
                _log.warning("out of memory: going on with %d tokens a batch", self._batch_tokens)

    def _try(self, batch: list[Window]) -> NDArray[np.float64] | None:
        try:
            return _batch_sums(self._model, self._reference, batch, self._device)
        except (RuntimeError, MemoryError) as error:
            if not _is_out_of_memory(error):
                raise
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
        return None


def _batch_sums(
    model: CausalModel, reference: CausalModel | None, batch: Sequence[Window], device: torch.device
) -> NDArray[np.float64]:
    """Sum what is measured over the tokens of each window, float64, shape (_MEASURES, len(batch))."""
    lengths = [len(window.ids) - 1 for window in batch]
    ids = torch.zeros(len(batch), max(lengths) + 1, dtype=torch.long)
    mask = torch.zeros(len(batch), max(lengths), dtype=torch.long)
    for row, window in enumerate(batch):
        ids[row, : len(window.ids)] = torch.from_numpy(window.ids)
        mask[row, : lengths[row]] = 1
    logits = _run(model, ids[:, :-1], mask, device)
    others = None if reference is None else _run(reference, ids[:, :-1], mask, _device(reference))
    if others is not None and others.shape != logits.shape:
        raise ModelError(
            f"the reference model has {others.shape[-1]} logits a token and the model {logits.shape[-1]}, so they "
            "cannot be compared. Give the model that was quantized as its reference."
        )
    tokens = _token_measures(logits, others, ids[:, 1:], mask.bool())
    starts = np.cumsum([0, *lengths[:-1]])
    return np.stack([np.add.reduceat(measure, starts) for measure in tokens])


def _run(model: CausalModel, ids: torch.Tensor, mask: torch.Tensor, device: torch.device) -> torch.Tensor:
    return _logits(model(input_ids=ids.to(device), attention_mask=mask.to(device)), mask.shape)


def _token_measures(
    logits: torch.Tensor, others: torch.Tensor | None, targets: torch.Tensor, scored: torch.Tensor
) -> NDArray[np.float64]:
    """Loss, flip and divergence of the scored tokens, row by row, without a copy of all logits.

    Float64, shape (_MEASURES, n_scored); the last two are 0 where there are no others to compare with.
    """
    flat, wanted = logits.flatten(0, 1), targets.flatten().to(logits.device)
    positions = scored.flatten().nonzero().squeeze(1).to(logits.device)
    found = np.zeros((_MEASURES, len(positions)))
    start = 0
    for chunk in torch.split(positions, max(1, _CHUNK // logits.shape[-1])):
        end = start + len(chunk)
        rows = flat[chunk].float()
        total = rows.logsumexp(-1)
        found[0, start:end] = (total - rows.gather(-1, wanted[chunk].unsqueeze(-1)).squeeze(-1)).cpu().numpy()
        if others is not None:
            theirs = others.flatten(0, 1)[chunk.to(others.device)].to(rows.device).float()
            found[1, start:end] = (theirs.argmax(-1) != rows.argmax(-1)).cpu().numpy()
            found[2, start:end] = _divergence(theirs - theirs.logsumexp(-1, keepdim=True), rows - total[:, None])
        start = end
    return found


def _divergence(reference: torch.Tensor, model: torch.Tensor) -> NDArray[np.float64]:
    """KL(reference || model) of each row of log-probabilities, in nats.

    Notes
    -----
    Float32 leaves the probabilities of a row adding up to 1 only nearly, and an error of 1e-7 in log-probabilities
    that differ by as little would be all there is. So it is sum p (log p - log q) - sum p + sum q, to which such an
    error contributes its square only.
    """
    p = reference.exp()
    weighted = torch.where(p > 0, p * (reference - model), 0.0)  # 0 log 0 is 0
    parts = weighted.sum(-1, dtype=torch.float64) - p.sum(-1, dtype=torch.float64)
    result: NDArray[np.float64] = (parts + model.exp().sum(-1, dtype=torch.float64)).cpu().numpy()
    return result


def _logits(output: Any, shape: torch.Size) -> torch.Tensor:
    logits = getattr(output, "logits", None)
    if logits is None and isinstance(output, dict):
        logits = output.get("logits")
    if logits is None and isinstance(output, (tuple, list)) and output:
        logits = output[0]
    if logits is None:
        logits = output
    if not isinstance(logits, torch.Tensor) or logits.ndim != 3 or logits.shape[:2] != shape:
        got = tuple(logits.shape) if isinstance(logits, torch.Tensor) else type(output).__name__
        raise ModelError(
            f"the model returned {got}, not logits of shape ({shape[0]}, {shape[1]}, vocabulary). It must be a causal "
            "language model: called with input_ids and attention_mask, giving `.logits`, a mapping with 'logits', or a "
            "tuple that begins with them."
        )
    return logits


def _check_vocabulary(chosen: Sequence[Sentences], vocabulary: int | None) -> None:
    largest = max((int(ids.max()) for sentences in chosen for ids in sentences.ids), default=0)
    if vocabulary is not None and largest >= vocabulary:
        raise ModelError(
            f"the tokenizer gives token id {largest}, and the model's vocabulary has {vocabulary} entries. Use the "
            "tokenizer that the model was trained with."
        )


def _check_reference(reference: CausalModel, length: int) -> None:
    limit = _setting(reference, *_LIMITS)
    if limit is not None and limit < length:
        raise ModelError(
            f"the reference model takes {limit} tokens at once, and the model is scored on {length}. Give the model "
            f"that was quantized as its reference, or lower max_length to {limit}."
        )


def _window_length(model: CausalModel, asked: int | None) -> int:
    limit = _setting(model, *_LIMITS) or _LENGTH_IF_UNKNOWN
    if asked is None:
        return min(MAX_LENGTH, limit)
    if not 1 <= asked <= limit:
        raise SpecError(f"max_length={asked}, and it must be between 1 and what the model allows, {limit}.")
    return asked


def _setting(model: Any, *names: str) -> int | None:
    config: Any = getattr(model, "config", None)
    if hasattr(config, "get_text_config"):  # models of text and images keep the language model's settings apart
        config = config.get_text_config()
    values = (getattr(config, name, None) for name in names)
    return next((value for value in values if isinstance(value, int) and value > 0), None)


def _device(model: Any) -> torch.device:
    if isinstance(model, torch.nn.Module):
        parameter = next(model.parameters(), None)
        if parameter is not None:
            return parameter.device
    return torch.device(getattr(model, "device", None) or "cpu")


def _is_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, (MemoryError, torch.cuda.OutOfMemoryError)):
        return True
    # What the CPU's allocator and other accelerators raise has no class of its own.
    return any(words in str(error).lower() for words in ("out of memory", "can't allocate memory"))

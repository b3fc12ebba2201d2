"""Scores sentences with a causal language model: PyTorch, INC's wrapped models and OpenVINO's alike.

A model is anything that can be called with `input_ids` and `attention_mask` and gives logits. Losses are sums of
float32 log-likelihoods in float64, and do not depend on the batch size beyond rounding.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from inc_laaciq.calibration.quota import warn_of_imbalance
from inc_laaciq.calibration.text import Corpus
from inc_laaciq.errors import ModelError, ResourceError, SpecError
from inc_laaciq.evaluation.losses import SentenceLosses
from inc_laaciq.evaluation.sentences import Sentences, Window, choose_sentences, windows

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["CausalModel", "Progress", "SentenceLosses", "sentence_losses"]

Progress = Callable[[str, int, int], None]
"""Called after each batch with the stage, such as "evaluating sw", the tokens scored and those to score in all."""

MAX_LENGTH = 512
"""Tokens in a window unless asked otherwise."""

_LENGTH_IF_UNKNOWN = 2048
_LOGITS = 2**28  # logits of one batch, 1 GiB in float32: a vocabulary of 250,000 gets batches of 1,000 tokens
_CHUNK = 2**22  # logits that the loss is computed on at once, 16 MiB in float32

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
        Whole sentences are taken, documents in a seeded order, until they have this many tokens; 0 takes all.
    seed : int
        Order of the documents.
    batch_tokens : int
        Most tokens in a batch, padding counted; larger batches are slower on a CPU. Batches are smaller where the
        vocabulary is so large that the logits would take more than 1 GiB; a single window is never refused.
    max_length : int, optional
        Most tokens that go into the model at once, by default 512 or what the model allows. Longer sentences are
        scored in windows that follow each other, each with the token before it as its context.
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
    ModelError
        If the model does not fit the tokenizer, or returns no logits.
    ResourceError
        If memory does not suffice for a single window.
    """
    if tokens_per_language < 0:
        raise SpecError(f"tokens_per_language={tokens_per_language} is negative. Use 0 for all text.")
    if batch_tokens < 1:
        raise SpecError(f"batch_tokens={batch_tokens}, and it must be at least 1.")
    length = _window_length(model, max_length)
    chosen = [
        choose_sentences(text, tokenizer, tokens_per_language=tokens_per_language, seed=seed)
        for text in corpus.texts.values()
    ]
    vocabulary = _setting(model, "vocab_size")
    _check_vocabulary(chosen, vocabulary)
    warn_of_imbalance({sentences.tag: int(sentences.tokens.sum()) for sentences in chosen}, tokens_per_language)
    scorer = _Scorer(model, min(batch_tokens, _LOGITS // vocabulary) if vocabulary else batch_tokens)
    total = sum(int(sentences.tokens.sum()) for sentences in chosen)
    done = 0
    losses = {}
    with torch.inference_mode(), _evaluating(model):
        for sentences in chosen:
            loss = np.zeros(len(sentences.ids))
            for batch, window_loss in scorer.score(list(windows(sentences, length))):
                np.add.at(loss, [window.sentence for window in batch], window_loss)
                done += sum(len(window.ids) - 1 for window in batch)
                if progress is not None:
                    progress(f"evaluating {sentences.tag}", done, total)
            losses[sentences.tag] = SentenceLosses(
                tag=sentences.tag,
                loss=loss,
                tokens=sentences.tokens,
                n_bytes=sentences.n_bytes,
                document=sentences.document,
                text_sha256=sentences.text_sha256,
            )
            if not losses[sentences.tag].is_valid:
                _log.warning("%s: the model gives no finite loss on this language.", sentences.tag)
    return losses


class _Scorer:
    """Runs windows through a model in batches, and halves the batch when memory runs out."""

    def __init__(self, model: CausalModel, batch_tokens: int) -> None:
        self._model = model
        self._device = _device(model)
        self._batch_tokens = batch_tokens

    def score(self, pending: list[Window]) -> Iterator[tuple[list[Window], NDArray[np.float64]]]:
        pending.sort(key=lambda window: -len(window.ids))  # stable: windows of one length keep their order
        start = 0
        while start < len(pending):
            longest = len(pending[start].ids) - 1
            batch = pending[start : start + max(1, self._batch_tokens // longest)]
            loss = self._try(batch)
            if loss is not None:
                yield batch, loss
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
            return _batch_losses(self._model, batch, self._device)
        except (RuntimeError, MemoryError) as error:
            if not _is_out_of_memory(error):
                raise
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
        return None


def _batch_losses(model: CausalModel, batch: Sequence[Window], device: torch.device) -> NDArray[np.float64]:
    """Sum the loss of each window, float64, shape (len(batch),)."""
    lengths = [len(window.ids) - 1 for window in batch]
    ids = torch.zeros(len(batch), max(lengths) + 1, dtype=torch.long)
    mask = torch.zeros(len(batch), max(lengths), dtype=torch.long)
    for row, window in enumerate(batch):
        ids[row, : len(window.ids)] = torch.from_numpy(window.ids)
        mask[row, : lengths[row]] = 1
    ids, mask = ids.to(device), mask.to(device)
    logits = _logits(model(input_ids=ids[:, :-1], attention_mask=mask), mask.shape)
    scored = mask.bool()
    losses = _token_losses(logits, ids[:, 1:].to(logits.device), scored.to(logits.device))
    starts = np.cumsum([0, *lengths[:-1]])
    sums: NDArray[np.float64] = np.add.reduceat(losses.cpu().numpy().astype(np.float64), starts)
    return sums


def _token_losses(logits: torch.Tensor, targets: torch.Tensor, scored: torch.Tensor) -> torch.Tensor:
    """Negative log-likelihood in nats of the scored tokens, float32, row by row, without a copy of all logits."""
    flat, wanted = logits.flatten(0, 1), targets.flatten()
    positions = scored.flatten().nonzero().squeeze(1)
    parts = []
    for chunk in torch.split(positions, max(1, _CHUNK // logits.shape[-1])):
        rows = flat[chunk].float()
        parts.append(rows.logsumexp(-1) - rows.gather(-1, wanted[chunk].unsqueeze(-1)).squeeze(-1))
    return torch.cat(parts)


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


def _window_length(model: CausalModel, asked: int | None) -> int:
    limit = _setting(model, "max_position_embeddings", "n_positions", "seq_length") or _LENGTH_IF_UNKNOWN
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


@contextlib.contextmanager
def _evaluating(model: Any) -> Iterator[None]:
    """Dropout off, and every module's mode as it was afterwards."""
    training = [module for module in model.modules() if module.training] if isinstance(model, torch.nn.Module) else []
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True


def _is_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, (MemoryError, torch.cuda.OutOfMemoryError)):
        return True
    # What the CPU's allocator and other accelerators raise has no class of its own.
    return any(words in str(error).lower() for words in ("out of memory", "can't allocate memory"))

"""Lets models write, and tells how much of what they wrote is in the script of the language.

A loss is measured on given text, all of it at once. What users read is made token by token, through the cache of keys
and values, and what is broken there shows in no loss. This check is coarse: it cannot tell good text from bad in one
script.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

import torch

from inc_laaciq.calibration.language_id import script_share
from inc_laaciq.calibration.text import Corpus, LanguageText
from inc_laaciq.evaluation.likelihood import Progress
from inc_laaciq.evaluation.sentences import choose_sentences
from inc_laaciq.languages import script

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PROMPTS = 4
"""Beginnings of each language that are gone on with."""

PROMPT_TOKENS = 16
NEW_TOKENS = 32

MARGIN = 0.05
"""How much smaller the share may be than the float model's."""


class Writer(Protocol):
    """A causal language model of transformers, or one of optimum-intel."""

    def generate(self, **arguments: Any) -> torch.Tensor:
        """Token ids of prompts and what follows them, shape (rows, tokens)."""


def beginnings(
    corpus: Corpus, tokenizer: PreTrainedTokenizerBase, *, seed: int, tokens_per_language: int
) -> dict[str, torch.Tensor]:
    """First tokens of sentences of every language.

    Parameters
    ----------
    corpus : Corpus
    tokenizer : transformers tokenizer
    seed, tokens_per_language : int
        As in the evaluation: of text that is not aligned, sentences are taken from those that it scores.

    Returns
    -------
    dict of language -> token ids, shape (1 to PROMPTS, PROMPT_TOKENS)
        Without languages that have no sentence so long.
    """
    found = {}
    for tag, text in corpus.texts.items():
        chosen = choose_sentences(text, tokenizer, tokens_per_language=tokens_per_language, seed=seed)
        rows = [torch.from_numpy(ids[:PROMPT_TOKENS]) for ids in chosen.ids if len(ids) >= PROMPT_TOKENS]
        if rows:
            found[tag] = torch.stack(rows[:PROMPTS]).long()
    return found


def written_shares(
    model: Writer,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Mapping[str, torch.Tensor],
    progress: Progress | None = None,
    *,
    stage: str = "writing",
) -> dict[str, float | None]:
    """Share of the letters that a model writes which are in the script of the language.

    Parameters
    ----------
    model : Writer
        Takes its most likely token each time.
    tokenizer : transformers tokenizer
    prompts : mapping of language -> token ids, shape (rows, tokens)
        What is gone on with; it does not count itself.
    progress : callable(stage, done, total), optional

    Returns
    -------
    dict of language -> float in [0, 1], or None where `script_share` can tell none.
    """
    from transformers import GenerationConfig

    greedy = GenerationConfig(
        do_sample=False,
        num_beams=1,
        repetition_penalty=1.0,
        no_repeat_ngram_size=0,
        max_new_tokens=NEW_TOKENS,
        min_new_tokens=NEW_TOKENS,
        pad_token_id=tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0,
        eos_token_id=tokenizer.eos_token_id,
    )
    found = {}
    for done, (tag, ids) in enumerate(prompts.items(), 1):
        written = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), generation_config=greedy)
        lines = tokenizer.batch_decode(written[:, ids.shape[1] :], skip_special_tokens=True)
        found[tag] = script_share(LanguageText(tag=tag, documents=(tuple(lines),)))
        if progress is not None:
            progress(stage, done, len(prompts))
    return found


def strange_scripts(before: Mapping[str, float | None], after: Mapping[str, float | None]) -> list[str]:
    """Say in which languages a model writes less in the script of the language than the float model did.

    Parameters
    ----------
    before, after : mapping of language -> share
        Of the float model and of the quantized one.
    """
    found = []
    for tag, share in after.items():
        wanted = before[tag]
        if wanted is not None and (share is None or share < wanted - MARGIN):
            found.append(
                f"{tag}: of the letters that the quantized model writes {share or 0.0:.0%} are {script(tag)}, and "
                f"{wanted:.0%} of those that the float model writes. Read what it writes"
            )
    return found

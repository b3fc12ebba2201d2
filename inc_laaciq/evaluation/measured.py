"""What a results file holds, whoever wrote it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from inc_laaciq.evaluation.items import ItemScores
from inc_laaciq.evaluation.losses import SentenceLosses


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """One model, measured by language.

    Parameters
    ----------
    source : str
        Path of the file, for messages.
    id : str
        SHA-256 of the content without what may differ between equal runs (`meta`).
    name : str
        What to call the model; may be empty.
    model, tokenizer, texts : mapping
        What is known of them; `sha256` where a hash is known.
    losses : mapping of language -> SentenceLosses
        Likelihood.
    tasks : mapping of task -> mapping of language -> ItemScores
        A task is called by the pattern that the policy gives it, or by its own name.
    missing : mapping of language -> str
        Languages that were asked for and have no figures, with the reason.
    notes : tuple of str
        What a reader of the report should know.
    """

    source: str
    id: str
    name: str = ""
    model: Mapping[str, Any] = field(default_factory=dict)
    tokenizer: Mapping[str, Any] = field(default_factory=dict)
    texts: Mapping[str, Any] = field(default_factory=dict)
    losses: Mapping[str, SentenceLosses] = field(default_factory=dict)
    tasks: Mapping[str, Mapping[str, ItemScores]] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

"""What all cells of a run share: the model, its layers, the text, and the rows that every method is given."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from inc_laaciq.calibration.batches import pack
from inc_laaciq.calibration.corpus import read_texts
from inc_laaciq.calibration.layers import find_layers
from inc_laaciq.calibration.prepare import row_length
from inc_laaciq.calibration.text import Corpus
from inc_laaciq.checkpoint import load_model
from inc_laaciq.config import WeightSpec
from inc_laaciq.evaluation.likelihood import sentence_losses
from inc_laaciq.evaluation.losses import SentenceLosses
from methods.registry import Job, NotRunError
from methods.remembered import Remembered

ENGLISH = "en"


@dataclass(frozen=True, kw_only=True)
class Options:
    """What is compared: folders, and tokens of each language."""

    model: str
    calibration: str
    evaluation: str
    calibration_tokens: int
    eval_tokens: int
    cells: Path

    @classmethod
    def of(cls, arguments: argparse.Namespace, cells: Path) -> Options:
        """From the command line of a benchmark that has all of them."""
        names = [field.name for field in fields(cls) if field.name != "cells"]
        return cls(**{name: getattr(arguments, name) for name in names}, cells=cells)


class Bench:
    """Loaded once in every process; everything is read on first use."""

    def __init__(self, options: Options) -> None:
        torch.set_num_threads(1)
        self.options = options

    @cached_property
    def source(self) -> Any:
        """The float model and its tokenizer."""
        return load_model(self.options.model)

    @cached_property
    def calibration(self) -> Corpus:
        """Text to calibrate on."""
        return read_texts(self.options.calibration)

    @cached_property
    def evaluation(self) -> Corpus:
        """Text to score."""
        return read_texts(self.options.evaluation)

    @cached_property
    def reference(self) -> Remembered:
        """The float model, as what the others are measured against."""
        return Remembered(self.source.model)

    @cached_property
    def sequence_length(self) -> int:
        """Tokens in a row of calibration text."""
        return row_length(self.source.model)

    def layers(self, bits: int, group_size: int) -> tuple[list[str], list[str]]:
        """Names of the linear layers to quantize, and of those that stay in float."""
        weight = WeightSpec(bits=bits, group_size=group_size, scheme="sym")
        found = find_layers(self.source.model, weight)
        modules = dict(self.source.model.named_modules())
        kept = [layer.name for layer in found if layer.weight is None and layer.name in modules]
        return sorted(layer.name for layer in found if layer.weight is not None), kept

    def batches(self, kind: str, seed: int) -> dict[str, tuple[torch.Tensor, ...]]:
        """Calibration text of a kind, by language; English gets as many tokens as all languages have together.

        Raises
        ------
        NotRunError
            If there is no English text.
        """
        if kind == "none":
            return {}
        quota = self.options.calibration_tokens
        everything = self._pack(self.calibration, quota, seed)
        if kind == "multilingual":
            return everything
        if ENGLISH not in self.calibration.texts:
            raise NotRunError("there is no English calibration text")
        english = Corpus(texts={ENGLISH: self.calibration.texts[ENGLISH]})
        total = sum(rows.numel() for batches in everything.values() for rows in batches)
        return self._pack(english, total, seed)

    def _pack(self, corpus: Corpus, quota: int, seed: int) -> dict[str, tuple[torch.Tensor, ...]]:
        return pack(
            corpus,
            self.source.tokenizer,
            tokens_per_language=quota,
            sequence_length=self.sequence_length,
            seed=seed,
        )

    def job(self, calibration: str, bits: int, group_size: int, seed: int) -> Job:
        """What a method is given."""
        layers, kept = self.layers(bits, group_size)
        batches = self.batches(calibration, seed)
        rows = [row.unsqueeze(0) for part in batches.values() for batch in part for row in batch]
        order = np.random.default_rng(seed).permutation(len(rows))
        sizes = self.calibration.sizes()
        return Job(
            source=self.source,
            layers=layers,
            kept=kept,
            batches=batches,
            rows=[rows[place] for place in order],
            text_bytes={tag: sizes[tag] for tag in batches},
            bits=bits,
            group_size=group_size,
            seed=seed,
            cache=self.options.cells,
        )

    def losses(self, model: Any) -> dict[str, SentenceLosses]:
        """Losses of every sentence by language, with divergence from the float model."""
        return sentence_losses(
            model,
            self.source.tokenizer,
            self.evaluation,
            tokens_per_language=self.options.eval_tokens,
            reference=self.reference,
        )

"""What a strategy needs besides the model, made from what the user gave: configuration, criterion, calibration text."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from inc_laaciq.backends.inc_registration import STRATEGY
from inc_laaciq.calibration.loader import LanguageLoader
from inc_laaciq.calibration.overlap import overlap_notes
from inc_laaciq.calibration.prepare import calibration_batches, read_corpus, row_length
from inc_laaciq.checkpoint.tokenizer import load_tokenizer
from inc_laaciq.config import RunSpec, run_spec
from inc_laaciq.errors import SpecError
from inc_laaciq.tuning.criterion import LanguageCriterion, Likelihood

logger = logging.getLogger(__name__)


def run_of(kwargs: Mapping[str, Any]) -> RunSpec:
    """Configuration behind `strategy_kwargs`: a `RunSpec` from `load_config`, or the keys of a `la_aciq:` section."""
    given = kwargs.get("run")
    return given if isinstance(given, RunSpec) else run_spec({"strategy": STRATEGY, "la_aciq": dict(kwargs)})


def criterion_of(run: RunSpec, model: torch.nn.Module, eval_func: Any) -> LanguageCriterion | None:
    """Judge by language, if the configuration has a gate and there is something to judge."""
    if isinstance(eval_func, LanguageCriterion):
        if eval_func.baseline is not None:
            raise SpecError("eval_func is a LanguageCriterion that has judged another search. Make a new one for each")
        return eval_func
    settings = run.la_aciq
    if settings.gate is None:
        return None
    if eval_func is not None:
        # A language that the configuration lists has to be among the figures.
        required = dict.fromkeys((*settings.gate.required_languages, *(settings.languages or ())))
        return LanguageCriterion(eval_func, replace(settings.gate, required_languages=tuple(required)))
    if settings.evaluation is None:
        logger.warning("la_aciq.gate has neither eval_func nor la_aciq.evaluation.texts: nothing is judged")
        return None
    corpus = read_corpus(settings.evaluation, settings)
    if settings.calibration is not None:
        overlap_notes(read_corpus(settings.calibration, settings), corpus, gated=True)
    return LanguageCriterion(
        Likelihood(load_tokenizer(_folder_of(run, model)), corpus, settings.evaluation), settings.gate
    )


def loader_of(run: RunSpec, model: torch.nn.Module) -> LanguageLoader:
    """Batches of the text that the configuration names.

    Raises
    ------
    SpecError
        If it names none, or if neither it nor the model says where the tokenizer is.
    """
    tokenizer = load_tokenizer(_folder_of(run, model))
    return calibration_batches(run.la_aciq, tokenizer, sequence_length=row_length(model))


def _folder_of(run: RunSpec, model: torch.nn.Module) -> Path:
    """Where the model's tokenizer is."""
    given = run.model or getattr(model, "name_or_path", "")
    if not given or not Path(given).is_dir():
        raise SpecError(
            "la_aciq.calibration.texts needs the model's tokenizer, and the model does not say where it is. Set "
            "la_aciq.model to the model's folder, or give fit() calib_dataloader=inc_laaciq.language_loader(...)"
        )
    return Path(given)

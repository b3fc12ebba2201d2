"""Calibration text by language for Neural Compressor's torch API, whose calibration function gets only the model.

A model that was prepared for LA-ACIQ carries a `Recorder`.  It takes the token ids of every forward pass under the
language of the surrounding `calibration_language` block, or all batches at once from `calibrate(loader)`.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from inc_laaciq.calibration.current_language import calibration_language, current_language
from inc_laaciq.calibration.loader import LanguageLoader
from inc_laaciq.errors import SpecError
from inc_laaciq.layerwise import Solution

logger = logging.getLogger(__name__)

RECORDER = "_la_aciq_recorder"
UNDETERMINED = "und"
"""ISO 639's tag of text whose language is not said."""


class Recorder:
    """What a model was calibrated on between `prepare` and `convert`.

    Attributes
    ----------
    loader : LanguageLoader or None
        Batches that were given as a whole.
    solution : Solution or None
        Codes and scales that are there already; then nothing is solved.
    """

    def __init__(self) -> None:
        self.loader: LanguageLoader | None = None
        self.solution: Solution | None = None
        self._batches: dict[str | None, list[torch.Tensor]] = {}
        self._hook: Any = None

    def attach(self, model: nn.Module) -> None:
        """Record every forward pass of a model from here on."""
        self._hook = model.register_forward_pre_hook(self._record, with_kwargs=True)
        setattr(model, RECORDER, self)

    def detach(self, model: nn.Module) -> None:
        """Leave no trace in the model."""
        self._hook.remove()
        delattr(model, RECORDER)

    def _record(self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        kwargs = {**_by_name(model, args), **kwargs}
        ids = kwargs.get("input_ids", args[0] if args else None)
        if not isinstance(ids, torch.Tensor) or ids.is_floating_point() or ids.dim() != 2:
            raise SpecError(
                "LA-ACIQ records the token ids of calibration batches. Run the model on input_ids, an integer tensor "
                f"of shape (n, sequence_length), not on {_shown(ids)}"
            )
        past = kwargs.get("past_key_values")
        if past is not None and past.get_seq_length() > 0:
            raise SpecError(
                "a calibration batch goes on from cached keys and values, so its token ids are not all that the model "
                "sees. Run whole rows of text, not generate()"
            )
        rows = [ids]
        mask = kwargs.get("attention_mask")
        if mask is not None and not bool(torch.as_tensor(mask).all()):
            if mask.shape != ids.shape:
                raise SpecError(
                    f"a calibration batch has an attention_mask of shape {tuple(mask.shape)} and input_ids of shape "
                    f"{tuple(ids.shape)}. Give one value a token, or rows without padding"
                )
            # Padding is no text: each row is kept by itself, as long as it is.
            rows = [row[is_text.bool()][None] for row, is_text in zip(ids, mask, strict=True)]
        group = self._batches.setdefault(current_language(), [])
        group += [row.detach().to("cpu", torch.long, copy=True) for row in rows if row.numel()]

    def take(self, loader: LanguageLoader) -> None:
        """Calibrate on a loader's batches.

        Raises
        ------
        SpecError
            If there are others already, which would be forgotten.
        """
        if self._batches or self.loader not in (None, loader):
            raise SpecError(
                "the model was already calibrated on other batches, which this would forget. Give one LanguageLoader "
                "with all languages"
            )
        self.loader = loader

    def batches(self) -> Mapping[str, Sequence[torch.Tensor]]:
        """Batches by language, in the order in which they came; empty without calibration.

        Raises
        ------
        SpecError
            If some batches have a language and some have none.
        """
        if self.loader is not None:
            return self.loader.batches
        untagged = len(self._batches.get(None, ()))
        if untagged and len(self._batches) > 1:
            known = ", ".join(tag for tag in self._batches if tag is not None)
            raise SpecError(
                f"{untagged} calibration batches were run outside of inc_laaciq.calibration_language(...), the others "
                f"inside ({known}). Say the language of all of them, or of none"
            )
        if untagged:
            logger.warning(
                "no calibration batch says its language: all of them count as one language, and nothing is known of "
                "single ones. Run them inside of inc_laaciq.calibration_language(tag), or give "
                "run_fn=inc_laaciq.calibrate(loader)"
            )
        return {UNDETERMINED if tag is None else tag: rows for tag, rows in self._batches.items() if rows}


def _by_name(model: nn.Module, args: tuple[Any, ...]) -> dict[str, Any]:
    """Positional arguments of a forward pass by name: the place of the mask differs between models."""
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    names = [name for name, each in inspect.signature(model.forward).parameters.items() if each.kind in positional]
    return dict(zip(names, args, strict=False))


def _shown(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        return f"a tensor of {value.dtype} and shape {tuple(value.shape)}"
    return "nothing" if value is None else f"a {type(value).__name__}"


def calibrate(loader: LanguageLoader) -> Callable[[nn.Module], None]:
    """A `run_fn` for Neural Compressor's torch API that runs every batch under its language.

    Parameters
    ----------
    loader : LanguageLoader
        For example from `inc_laaciq.language_loader(tokenizer, texts)`.

    Returns
    -------
    callable(model)
        For `quantize(model, config, run_fn=...)`, or to be called between `prepare` and `convert`.  A model that was
        prepared for LA-ACIQ takes the batches as they are and is not run; for any other algorithm it is run on them.
    """

    def run(model: nn.Module) -> None:
        recorder = getattr(model, RECORDER, None)
        if isinstance(recorder, Recorder):
            recorder.take(loader)
            return
        device = next(model.parameters()).device
        with torch.no_grad():
            for tag, rows in loader.batches.items():
                with calibration_language(tag):
                    for row in rows:
                        model(input_ids=row.to(device))

    return run

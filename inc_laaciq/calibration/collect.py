"""Per-language statistics of a torch model's layers, taken by hooks during plain forward passes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from inc_laaciq.errors import NumericError
from inc_laaciq.quant.moments import LanguageMoments

logger = logging.getLogger(__name__)

Progress = Callable[[str, int, int], None]
"""Called after each batch with the stage, such as "evaluating sw", what is done and what there is to do."""


@dataclass(frozen=True, kw_only=True)
class Collected:
    """Statistics of a calibration run.

    Parameters
    ----------
    moments : mapping of layer name -> language -> LanguageMoments
        A language is absent from a layer that none of its tokens reached.
    invalid : mapping of language -> str
        Languages on which the float model itself gives NaN or infinity, with what was seen.
    """

    moments: Mapping[str, Mapping[str, LanguageMoments]]
    invalid: Mapping[str, str] = field(default_factory=dict)


class _Recorder:
    """Adds up what the hooked layers receive; a tensor that feeds several layers is measured once."""

    def __init__(self, full: bool, counted: bool) -> None:
        self.full, self.counted = full, counted
        self.sums: dict[str, LanguageMoments] = {}
        self._last: tuple[torch.Tensor, LanguageMoments] | None = None

    def hook(self, name: str) -> Callable[[nn.Module, tuple[torch.Tensor, ...]], None]:
        def record(_module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
            x = inputs[0]
            if not x.numel():  # an expert that no token of this batch was routed to
                return
            if self._last is None or self._last[0] is not x:
                try:
                    self._last = (x, LanguageMoments.of(x, full=self.full, counted=self.counted))
                except NumericError as error:
                    raise NumericError(f"input of layer {name!r}: {error}") from None
            part = self._last[1]
            self.sums[name] = self.sums[name] + part if name in self.sums else part

        return record

    def forget_batch(self) -> None:
        self._last = None


@contextmanager
def _hooks(model: nn.Module, layers: Iterable[str], recorder: _Recorder) -> Iterator[None]:
    handles = [model.get_submodule(name).register_forward_pre_hook(recorder.hook(name)) for name in layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def evaluating(model: Any) -> Iterator[None]:
    """Dropout off, as a model that comes straight from training is noisy; every module's mode as it was afterwards.

    What is no module of PyTorch, such as a model that OpenVINO runs, has no dropout.
    """
    training = [module for module in model.modules() if module.training] if isinstance(model, nn.Module) else []
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True


def without_output(model: nn.Module, layers: Sequence[str]) -> nn.Module:
    """The model without its output projection, where no hooked layer lies there: its logits would be thrown away."""
    prefix = getattr(model, "base_model_prefix", "")
    body = getattr(model, prefix, None) if prefix else None
    if isinstance(body, nn.Module) and all(name.startswith(prefix + ".") for name in layers):
        return body
    return model


def collect(
    model: nn.Module,
    batches: Mapping[str, Sequence[torch.Tensor]],
    layers: Sequence[str],
    *,
    full: bool,
    counted: bool = False,
    progress: Progress | None = None,
) -> Collected:
    """Statistics of the inputs of `layers`, language by language.

    Parameters
    ----------
    model : nn.Module
        Called as `model(input_ids=...)`; neither modified nor left with hooks.
    batches : mapping of language -> sequence of integer tensors, shape (n, sequence_length)
        Token ids without padding.
    layers : sequence of str
        Module names.
    full : bool
        Keep full second moments (memory: in_features squared floats for every layer and language).
    counted : bool
        Count the values too, for a static range of the least error.
    progress : callable(stage, done, total), optional

    Returns
    -------
    Collected
    """
    moments: dict[str, dict[str, LanguageMoments]] = {name: {} for name in layers}
    invalid: dict[str, str] = {}
    total = sum(len(rows) for rows in batches.values())
    done = 0
    body = without_output(model, layers)
    for language, rows in batches.items():
        recorder = _Recorder(full, counted)
        try:
            with _hooks(model, layers, recorder), evaluating(model), torch.inference_mode():
                for batch in rows:
                    body(input_ids=batch)
                    recorder.forget_batch()
                    done += 1
                    if progress is not None:
                        progress("calibrating", done, total)
        except NumericError as error:
            invalid[language] = str(error)
            logger.warning("%s: the float model itself is broken on this language: %s", language, error)
            continue
        for name, part in recorder.sums.items():
            moments[name][language] = part
    return Collected(moments=moments, invalid=invalid)

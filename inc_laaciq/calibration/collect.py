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
    outputs : mapping of layer name -> language -> LanguageMoments
        The same of what the layers give; empty unless asked for.
    invalid : mapping of language -> str
        Languages on which the float model itself gives NaN or infinity, with what was seen.
    """

    moments: Mapping[str, Mapping[str, LanguageMoments]]
    outputs: Mapping[str, Mapping[str, LanguageMoments]] = field(default_factory=dict)
    invalid: Mapping[str, str] = field(default_factory=dict)


class _Recorder:
    """Adds up what the hooked layers receive and give; a tensor that feeds several layers is measured once."""

    def __init__(self, full: bool, counted: bool) -> None:
        self.full, self.counted = full, counted
        self.sums: dict[str, LanguageMoments] = {}
        self.outputs: dict[str, LanguageMoments] = {}
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

    def output_hook(self, name: str) -> Callable[[nn.Module, tuple[torch.Tensor, ...], torch.Tensor], None]:
        def record(_module: nn.Module, _inputs: tuple[torch.Tensor, ...], y: torch.Tensor) -> None:
            if not y.numel():
                return
            try:
                part = LanguageMoments.of(y, counted=self.counted)
            except NumericError as error:
                raise NumericError(f"output of layer {name!r}: {error}") from None
            self.outputs[name] = self.outputs[name] + part if name in self.outputs else part

        return record

    def forget_batch(self) -> None:
        self._last = None


@contextmanager
def _hooks(model: nn.Module, layers: Iterable[str], recorder: _Recorder, *, outputs: bool) -> Iterator[None]:
    modules = {name: model.get_submodule(name) for name in layers}
    handles = [module.register_forward_pre_hook(recorder.hook(name)) for name, module in modules.items()]
    if outputs:
        handles += [module.register_forward_hook(recorder.output_hook(name)) for name, module in modules.items()]
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
    outputs: bool = False,
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
    outputs : bool
        Statistics of the layers' outputs too, without full second moments.
    progress : callable(stage, done, total), optional

    Returns
    -------
    Collected
    """
    moments: dict[str, dict[str, LanguageMoments]] = {name: {} for name in layers}
    given: dict[str, dict[str, LanguageMoments]] = {name: {} for name in layers} if outputs else {}
    invalid: dict[str, str] = {}
    total = sum(len(rows) for rows in batches.values())
    done = 0
    body = without_output(model, layers)
    for language, rows in batches.items():
        recorder = _Recorder(full, counted)
        try:
            with _hooks(model, layers, recorder, outputs=outputs), evaluating(model), torch.inference_mode():
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
        for name, part in recorder.outputs.items():
            given[name][language] = part
    return Collected(moments=moments, outputs=given, invalid=invalid)

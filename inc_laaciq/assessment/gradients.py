"""How much rounding errors of the weights would raise the loss, from one pass forward and back over the float model.

An error E of a layer's weight changes the layer's output for a token x by E x.  With g the gradient of the loss in that
output, the loss rises by about half the mean of (g . E x)**2: a second-order expansion in which the Hessian is replaced
by the Fisher information, and errors of different tokens and layers are taken as independent.

Source: the expansion of Hassibi and Stork 1993 (Optimal Brain Surgeon) with the empirical Fisher information of Theis
et al. 2018 (arXiv 1801.05787).  The labels are the text itself.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from inc_laaciq.calibration.collect import Progress, evaluating
from inc_laaciq.errors import ModelError, NumericError
from inc_laaciq.fair.blocks import without_cache

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, eq=False)
class Rises:
    """What was found for one language, row by row of its text.

    Parameters
    ----------
    rise : float64 array, shape (n_rows, n_layers)
        Predicted rise of the loss, in nats summed over a row's predicted tokens; >= 0.
    activation : float64 array, shape (n_rows, n_layers)
        Mean magnitude of what the layer receives.
    loss : float64 array, shape (n_rows,)
        Of the float model, in nats summed over the predicted tokens.
    tokens : int64 array, shape (n_rows,)
        Predicted tokens.
    """

    rise: NDArray[np.float64]
    activation: NDArray[np.float64]
    loss: NDArray[np.float64]
    tokens: NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Predicted:
    """Rises by language, and the languages on which the float model itself fails, with what was seen."""

    rises: Mapping[str, Rises]
    invalid: Mapping[str, str] = field(default_factory=dict)


def predict_rises(
    model: nn.Module,
    errors: Mapping[str, torch.Tensor],
    rows: Mapping[str, Sequence[torch.Tensor]],
    progress: Progress | None = None,
) -> Predicted:
    """Predict how much the loss of every language would rise.

    Parameters
    ----------
    model : nn.Module
        A causal language model in float, called with `input_ids`; neither modified nor left with hooks.
    errors : mapping of layer -> tensor, shape (out_features, in_features)
        Rounded weight minus weight, any floating type.
    rows : mapping of language -> token ids, shape (1, tokens), two tokens or more
    progress : callable(stage, done, total), optional

    Raises
    ------
    ModelError
        If the model has no input embeddings from which to follow the gradient.
    """
    total, done = sum(map(len, rows.values())), 0
    found: dict[str, Rises] = {}
    invalid: dict[str, str] = {}
    with torch.inference_mode(False), torch.enable_grad(), evaluating(model), _followed(model):
        for tag, group in rows.items():
            measured = []
            try:
                for ids in group:
                    measured.append(_row(model, errors, ids))
                    done += 1
                    if progress is not None:
                        progress("assessing", done, total)
            except NumericError as error:
                invalid[tag] = str(error)
                _log.warning("%s: the float model itself is broken on this language: %s", tag, error)
                continue
            rise, activation, loss, tokens = (np.array(values) for values in zip(*measured, strict=True))
            found[tag] = Rises(rise=rise, activation=activation, loss=loss, tokens=tokens)
    return Predicted(rises=found, invalid=invalid)


@contextmanager
def _followed(model: nn.Module) -> Iterator[None]:
    """Gradients flow from the embeddings on, and into no weight: half of the work of a training step."""
    getter: Any = getattr(model, "get_input_embeddings", None)
    embeddings = getter() if callable(getter) else None
    if not isinstance(embeddings, nn.Module):
        raise ModelError(
            f"{type(model).__name__} has no input embeddings. Give a causal language model of transformers"
        )
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    model.requires_grad_(False)
    handle = embeddings.register_forward_hook(lambda _module, _inputs, output: output.requires_grad_())
    try:
        yield
    finally:
        handle.remove()
        for parameter in trained:
            parameter.requires_grad_()


class _Recorder:
    """Adds up what one row does in each layer; a layer that runs more than once, or not at all, is no matter."""

    def __init__(self, errors: Mapping[str, torch.Tensor]) -> None:
        self._errors = errors
        self._place = {name: number for number, name in enumerate(errors)}
        self.rise = np.zeros(len(errors))
        self.activation = np.zeros(len(errors))
        self._n = np.zeros(len(errors))

    def hook(self, name: str) -> Callable[[nn.Module, tuple[torch.Tensor, ...], torch.Tensor], None]:
        place = self._place[name]

        def forward(_module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
            x = inputs[0].detach()
            self.activation[place] += float(x.abs().sum(dtype=torch.float64))
            self._n[place] += x.numel()
            if output.requires_grad:
                output.register_hook(lambda gradient: self._add(name, x, gradient))  # type: ignore[no-untyped-call]

        return forward

    def _add(self, name: str, x: torch.Tensor, gradient: torch.Tensor) -> None:
        error = self._errors[name]
        change = functional.linear(x.to(error.dtype), error).float()
        along = (gradient.float() * change).sum(-1)
        self.rise[self._place[name]] += 0.5 * float(along.double().square().sum())

    def mean_activation(self) -> NDArray[np.float64]:
        found: NDArray[np.float64] = self.activation / np.maximum(self._n, 1)
        return found


def _row(
    model: nn.Module, errors: Mapping[str, torch.Tensor], ids: torch.Tensor
) -> tuple[NDArray[np.float64], NDArray[np.float64], float, int]:
    recorder = _Recorder(errors)
    handles = [model.get_submodule(name).register_forward_hook(recorder.hook(name)) for name in errors]
    try:
        logits = model(input_ids=ids, **without_cache(model)).logits[0, :-1].float()
        loss = functional.cross_entropy(logits, ids[0, 1:], reduction="sum")
        value = float(loss.detach())
        if not np.isfinite(value):
            raise NumericError(f"its loss is {value}")
        loss.backward()  # type: ignore[no-untyped-call]
    finally:
        for handle in handles:
            handle.remove()
    if not np.isfinite(recorder.rise).all():
        raise NumericError("its gradients hold NaN or infinity")
    return recorder.rise, recorder.mean_activation(), value, len(logits)

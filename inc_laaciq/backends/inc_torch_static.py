"""Static INT8 through Neural Compressor's torch API (3.9 and later), with given input ranges and weight codes."""

from __future__ import annotations

import importlib
import logging
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import nn

from inc_laaciq.backends.inc_registration import STRATEGY
from inc_laaciq.backends.static_export import ExportedModel, export_model
from inc_laaciq.config.specs import ActivationAlgorithm
from inc_laaciq.errors import BackendError, ModelError
from inc_laaciq.layerwise import Solution

_TALKATIVE = ("neural_compressor", "torch.export.pt2_archive._package")


def algorithm() -> Any:
    """The module `inc_torch_static_algorithm`, which registers the algorithm `laaciq_static`.

    Raises
    ------
    BackendError
        If Neural Compressor's torch API cannot do static INT8 here.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Neural Compressor and torchao warn while they are imported
            return importlib.import_module("inc_laaciq.backends.inc_torch_static_algorithm")
    except ImportError as error:
        raise BackendError(
            f"static INT8 through Neural Compressor's torch API is not possible with {_versions()}: {error}. Use the "
            "adaptor API, which has static INT8 (pip install 'inc-laaciq[adaptor]'), or Neural Compressor 3.10 with "
            "torchao (pip install 'inc-laaciq[torch-api]')"
        ) from error


def _versions() -> str:
    try:
        return f"neural-compressor {metadata.version('neural_compressor')} and torch {torch.__version__}"
    except metadata.PackageNotFoundError:
        return "no neural-compressor installed"


class StaticModel(nn.Module):
    """A quantized graph that is called as a causal language model is.

    Parameters
    ----------
    graph : torch.fx.GraphModule
        From Neural Compressor's `convert`; `Wrapped.graph` is what its `load` gives back, too.
    exported : ExportedModel
        What it was made from.
    config : object
        The float model's.
    solution : Solution
    """

    def __init__(self, graph: Any, exported: ExportedModel, config: Any, solution: Solution) -> None:
        super().__init__()
        self.graph = graph
        self.config = config
        self.la_aciq = solution
        self._examples = exported.example_inputs
        self._longest = exported.longest

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None) -> torch.Tensor:
        """Logits.

        Parameters
        ----------
        input_ids, attention_mask : integer tensors, shape (batch, tokens)
            No mask: no padding.

        Returns
        -------
        tensor, shape (batch, tokens, vocabulary)

        Raises
        ------
        ModelError
            If the text is longer than the model allows.
        """
        if self._longest is not None and input_ids.shape[1] > self._longest:
            raise ModelError(
                f"the quantized graph takes at most {self._longest} tokens, as the model does, and got "
                f"{input_ids.shape[1]}. Split the text"
            )
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        logits: torch.Tensor = self.graph(input_ids, mask)
        return logits

    def save(self, folder: str | Path) -> None:
        """Write Neural Compressor's own form, which its `load` reads: a graph for torch.export, and `qconfig.json`."""
        with quiet():
            self.graph.save(self._examples, output_dir=str(folder))


def quantize_static(
    model: nn.Module,
    solution: Solution,
    *,
    ranges: ActivationAlgorithm = STRATEGY,  # type: ignore[assignment]
    batches: Iterable[torch.Tensor] = (),
) -> StaticModel:
    """Static INT8 of a model, exactly as it was solved.

    Parameters
    ----------
    model : nn.Module
        The float model, its `Conv1D` layers linearized; left as it is.
    solution : Solution
        Eight bits, symmetric, one positive scale per channel, and ranges.
    ranges : "la_aciq", "minmax" or "kl"
        Where input ranges come from: the solution, or Neural Compressor's observers.
    batches : iterable of integer tensors, shape (n, tokens)
        Calibration text without padding, for Neural Compressor's observers; they also serve layers without a range.

    Raises
    ------
    BackendError
        If Neural Compressor cannot do it here, or torch cannot export the model.
    SpecError
        If the solution is on another grid, or an observer saw no batch.
    """
    parts = algorithm()
    from neural_compressor.torch.quantization import convert, prepare

    with quiet():
        config = parts.LAACIQStaticConfig(solution=solution, act_algo=ranges)
        config.check()  # before the export, which takes long
        exported = export_model(model)
        prepared = prepare(exported.graph, config, example_inputs=exported.example_inputs)
        if ranges != STRATEGY or solution.weights.keys() - solution.ranges.keys():
            with torch.no_grad():
                for rows in batches:
                    prepared(rows, torch.ones_like(rows))
        graph = convert(prepared)
    return StaticModel(graph, exported, model.config, solution)


@contextmanager
def quiet() -> Iterator[None]:
    """Only errors of Neural Compressor and of torch's export are heard inside, unless our own messages are wanted."""
    loggers = [logging.getLogger(name) for name in _TALKATIVE]
    before = [logger.level for logger in loggers]
    if not logging.getLogger("inc_laaciq").isEnabledFor(logging.INFO):
        for logger in loggers:
            logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's, of interfaces that Neural Compressor uses
            yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)

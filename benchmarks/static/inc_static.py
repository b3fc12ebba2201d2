"""W8A8 through Neural Compressor's static path: the ranges of la_aciq, and Neural Compressor's own."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from methods.bench import Bench
from methods.grids import check_layers
from methods.registry import NotRunError

from inc_laaciq.backends import inc_api
from inc_laaciq.calibration.loader import LanguageLoader
from inc_laaciq.config import run_spec
from inc_laaciq.errors import BackendError, LaaciqError

_FLOAT = {"weight": {"dtype": ["fp32"]}, "activation": {"dtype": ["fp32"]}}

Fit = Callable[[Bench, LanguageLoader], Any]


def fit_ours(algorithm: str) -> Fit:
    """A fit with la_aciq's weight codes, and input ranges by an algorithm of the yaml."""

    def fit(bench: Bench, loader: LanguageLoader) -> Any:
        from inc_laaciq.backends import inc_fit

        run = run_spec(
            {
                "quantization": {
                    "approach": "post_training_static_quant",
                    "model_wise": {"activation": {"algorithm": algorithm}},
                },
                "strategy": "la_aciq",
                # The text is given to `fit` as a loader, so the configuration only has to name some.
                "la_aciq": {"calibration": {"texts": bench.options.calibration}},
            }
        )
        return inc_fit.fit(bench.source.model, run, loader)

    return fit


def fit_stock(algorithm: str) -> Fit:
    """A fit that is Neural Compressor's own throughout: strategy `basic`, weights rounded without clipping."""

    def fit(bench: Bench, loader: LanguageLoader) -> Any:
        from neural_compressor import quantization
        from neural_compressor.config import PostTrainingQuantConfig, TuningCriterion

        from inc_laaciq.backends.inc_fit import private_workspace

        _, kept = bench.layers(8, -1)
        config = PostTrainingQuantConfig(
            approach="static",
            quant_level=1,
            excluded_precisions=["bf16"],
            calibration_sampling_size=[len(loader) * loader.batch_size],  # all text, not its first batches
            op_type_dict={
                "^(?!Linear$).*$": _FLOAT,
                "Linear": {
                    "weight": {"algorithm": ["minmax"]},
                    "activation": {"algorithm": [algorithm], "scheme": ["asym"]},
                },
            },
            op_name_dict={rf"{re.escape(name)}(\.module)?": _FLOAT for name in kept},
            tuning_criterion=TuningCriterion(strategy="basic", max_trials=1),
        )
        with private_workspace():
            return quantization.fit(copy.deepcopy(bench.source.model), config, calib_dataloader=loader)

    return fit


OURS = "la_aciq"
FITS: Mapping[str, Fit] = {
    OURS: fit_ours("la_aciq"),
    "la_aciq codes, inc minmax ranges": fit_ours("minmax"),
    "inc minmax": fit_stock("minmax"),
    "inc kl": fit_stock("kl"),
}
"""By method; the second differs from the first in nothing but the ranges of the inputs."""

MINMAX = ("la_aciq codes, inc minmax ranges", "inc minmax")


def quantize(bench: Bench, method: str, batches: Mapping[str, tuple[torch.Tensor, ...]]) -> torch.nn.Module:
    """The model with 8-bit weights and activations, from Neural Compressor.

    Parameters
    ----------
    bench : Bench
    method : str
        One of `FITS`.
    batches : mapping of language to token batches
        Calibration text.

    Raises
    ------
    NotRunError
        If Neural Compressor is not installed or cannot quantize this model, with its reason.
    LayersError
        If it quantized other layers than asked for.
    """
    try:
        inc_api.require("adaptor")
    except BackendError as error:
        raise NotRunError(str(error)) from error
    sizes = bench.calibration.sizes()
    loader = LanguageLoader(batches, text_bytes={tag: sizes[tag] for tag in batches})
    try:
        with inc_api.quiet("adaptor"):
            result = FITS[method](bench, loader)
    except (ImportError, LaaciqError) as error:
        raise NotRunError(f"{type(error).__name__}: {error}") from error
    if result is None:
        raise NotRunError("Neural Compressor returned no model; its own log says why")
    layers, _ = bench.layers(8, -1)
    check_layers(quantized_layers(result.q_config), layers, method)
    model: torch.nn.Module = result.model
    return model


def quantized_layers(q_config: Mapping[str, Any]) -> list[str]:
    """Names of what is not in float by Neural Compressor's configuration, sorted; anything but weights included."""
    found = []
    for (name, _), op in q_config["op"].items():
        if op.get("weight", op["activation"])["dtype"] != "fp32":
            found.append(name.removesuffix(".module"))  # a lone layer is wrapped
    return sorted(found)

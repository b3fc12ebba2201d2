"""Calls of Neural Compressor's `quantization.fit`: the strategy `la_aciq`, and its own RTN to compare with."""

from __future__ import annotations

import copy
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from torch import nn

from inc_laaciq.backends.inc_registration import STRATEGY
from inc_laaciq.calibration.layers import Layer
from inc_laaciq.calibration.loader import LanguageLoader
from inc_laaciq.config import RunSpec, WeightSpec
from inc_laaciq.errors import BackendError, SpecError
from inc_laaciq.tuning.criterion import LanguageCriterion

_APPROACH = {"post_training_weight_only": "weight_only", "post_training_static_quant": "static"}


def post_training_config(run: RunSpec, *, keep_best: bool = False) -> Any:
    """The configuration as Neural Compressor's `quantization.fit` takes it: a `PostTrainingQuantConfig`.

    With `keep_best`, a search in which no trial passes the gate gives the best one instead of an error.
    """
    if run.approach not in _APPROACH:
        raise SpecError(
            f"quantization.approach: {run.approach} is not one of the adaptor API. Run it by `inc-laaciq quantize`"
        )
    from neural_compressor.config import AccuracyCriterion, PostTrainingQuantConfig, TuningCriterion

    weight_only = run.approach == "post_training_weight_only"
    return PostTrainingQuantConfig(
        approach=_APPROACH[run.approach],
        quant_level=1,
        # Static rules are the strategy's: Neural Compressor's FX names are not the model's, so patterns would miss.
        op_type_dict={".*": _op(run.weight)} if weight_only else None,
        op_name_dict={rule.pattern: _op(rule.weight) for rule in run.rules} if weight_only and run.rules else None,
        excluded_precisions=["bf16"],
        accuracy_criterion=AccuracyCriterion(),
        tuning_criterion=TuningCriterion(
            strategy=STRATEGY,
            strategy_kwargs={"run": run, "keep_best": keep_best},
            timeout=run.tuning.timeout,
            max_trials=run.tuning.max_trials,
        ),
    )


def _op(weight: WeightSpec | None) -> dict[str, dict[str, list[Any]]]:
    """One leaf of Neural Compressor's op dictionaries."""
    if weight is None:
        return {"weight": {"dtype": ["fp32"]}, "activation": {"dtype": ["fp32"]}}
    return {
        "weight": {
            "dtype": ["int"],
            "bits": [weight.bits],
            "group_size": [weight.group_size],
            "scheme": [weight.scheme],
            "algorithm": ["RTN"],
        }
    }


def fit(
    model: nn.Module, run: RunSpec, loader: LanguageLoader | None, criterion: LanguageCriterion | None = None
) -> Any:
    """Quantize with `la_aciq`; the float model is not changed.

    Parameters
    ----------
    model : nn.Module
    run : RunSpec
    loader : LanguageLoader or None
    criterion : LanguageCriterion, optional
        Goes on until it is met; if it never is, the best trial is returned, and the criterion says so.

    Returns
    -------
    Neural Compressor's model, with `.la_aciq` (Solution) beside its own attributes.
    """
    from neural_compressor import quantization

    with private_workspace():
        conf = post_training_config(run, keep_best=True)
        return quantization.fit(model, conf, calib_dataloader=loader, eval_func=criterion)


def fit_rtn(model: nn.Module, layers: Sequence[Layer]) -> nn.Module:
    """Neural Compressor's own round-to-nearest of the same layers, at the same bits, on a fresh copy.

    Raises
    ------
    BackendError
        If Neural Compressor returns no model, or quantizes other layers than asked for.
    """
    from neural_compressor import PostTrainingQuantConfig, quantization

    config = PostTrainingQuantConfig(
        approach="weight_only",
        quant_level="auto",  # at level 1 the stock strategies lose `bits` and `group_size`, and fail
        op_name_dict={re.escape(layer.name): _op(layer.weight) for layer in layers},
    )
    with private_workspace():
        result = quantization.fit(copy.deepcopy(model), config)
    if result is None:
        raise BackendError("Neural Compressor's RTN returned no model; its own log says why")
    asked = {layer.name for layer in layers if layer.weight is not None}
    done = quantized_layers(result.q_config)
    if done != asked:
        raise BackendError(f"Neural Compressor's RTN quantized other layers than la_aciq: {sorted(done ^ asked)}")
    rounded: nn.Module = result.model
    return rounded


def quantized_layers(q_config: Mapping[str, Any]) -> set[str]:
    """Names of the layers that Neural Compressor's configuration of a quantized model does not leave in float."""
    return {name for (name, _), op in q_config["op"].items() if op["weight"]["dtype"] != "fp32"}


@contextmanager
def private_workspace() -> Iterator[None]:
    """Neural Compressor writes history and deployment files into the working folder; here into a temporary one."""
    from neural_compressor.config import options

    before = options.workspace
    with tempfile.TemporaryDirectory(prefix="inc-laaciq-") as folder:
        options.workspace = folder
        try:
            yield
        finally:
            options.workspace = before

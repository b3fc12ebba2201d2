"""Neural Compressor's `autotune` of its torch API, led and judged from outside.

By itself it compares one number with a tolerance, tries configurations in the order given, and returns the best
model even if none is good enough.  Here a sampler asks the trials what to try next, and the evaluation function is
the trials' verdict; the model is taken only if the gate passes it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from inc_laaciq.backends.inc_api import quiet, require
from inc_laaciq.backends.inc_torch_candidates import ConfigCandidate, candidates
from inc_laaciq.errors import BackendError, SpecError
from inc_laaciq.tuning.model_changes import state_digest
from inc_laaciq.tuning.trials import TrialRecord, Trials

_TOLERANCE = 0.5  # of a score of 1; a model that the gate rejects has less than minus a million


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """What Neural Compressor calibrates with.

    Parameters
    ----------
    run_fn : callable(model, *run_args), optional
    run_args : tuple, optional
    example_inputs : tensor, tuple or dict, optional
    """

    run_fn: Callable[..., Any] | None = None
    run_args: Any = None
    example_inputs: Any = None


def given_candidates(model: nn.Module, tune_config: Any) -> tuple[list[ConfigCandidate], int | None]:
    """Configurations to try, and the number of trials if a `TuningConfig` limits it.

    Parameters
    ----------
    model : nn.Module
    tune_config : TuningConfig, or BaseConfig, or sequence of BaseConfig

    Raises
    ------
    BackendError
        If Neural Compressor's torch API is not installed.
    SpecError
        If something in it cannot be used.
    """
    require("torch")
    from neural_compressor.common.base_tuning import TuningConfig, default_sampler

    if not isinstance(tune_config, TuningConfig):
        with quiet("torch"):
            return candidates(model, tune_config), None
    default = TuningConfig()
    if tune_config.sampler is not default_sampler or tune_config.tolerable_loss != default.tolerable_loss:
        raise SpecError(
            "the TuningConfig has a sampler or a tolerable_loss of its own. Leave them out: the gate's verdicts lead "
            "the search, and the policy's bounds say what is tolerable"
        )
    with quiet("torch"):
        found = candidates(model, tune_config.config_set)
    return found, None if tune_config.max_trials == default.max_trials else tune_config.max_trials


def tune(model: nn.Module, given: Sequence[ConfigCandidate], trials: Trials, calibration: Calibration) -> Any:
    """Run `autotune`.

    Returns
    -------
    nn.Module or None
        The model of the last trial, if the gate passes it.
    """
    from neural_compressor.common.base_tuning import Sampler, TuningConfig
    from neural_compressor.torch.quantization import autotune

    class TrialSampler(Sampler):  # type: ignore[misc]
        def __iter__(self) -> Iterator[int]:
            while (number := trials.next()) is not None:
                yield number

    configs = [copy.deepcopy(candidate.config) for candidate in given]
    conf = TuningConfig(
        # One more than will ever be asked for: at its limit it would quantize the best failing model once more.
        config_set=[*configs, configs[-1]],
        sampler=TrialSampler,
        tolerable_loss=_TOLERANCE,
        max_trials=len(configs) + 1,
    )
    with quiet("torch"):
        return autotune(
            model,
            conf,
            trials,
            run_fn=calibration.run_fn,
            run_args=calibration.run_args,
            example_inputs=calibration.example_inputs,
        )


def quantize_again(
    model: nn.Module, candidate: ConfigCandidate, record: TrialRecord, calibration: Calibration
) -> nn.Module:
    """The model of an earlier trial.

    Raises
    ------
    BackendError
        If it is not the one that was judged.
    """
    from neural_compressor.torch.quantization import quantize

    with quiet("torch"):
        quantized: nn.Module = quantize(
            copy.deepcopy(model),
            copy.deepcopy(candidate.config),
            run_fn=calibration.run_fn,
            run_args=calibration.run_args,
            example_inputs=calibration.example_inputs,
        )
    if state_digest(quantized) != record.sha256:
        raise BackendError(
            f"{candidate.label}: quantizing it again gave another model than the one that was judged. Let run_fn give "
            "the same batches in the same order each time"
        )
    return quantized

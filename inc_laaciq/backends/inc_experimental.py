"""The strategy `la_aciq` for `neural_compressor.experimental.Quantization('conf.yaml')` (neural-compressor 2.x only).

That API came before `quantization.fit`.  It reads the yaml file itself, against a closed schema that knows neither the
section `la_aciq:` nor weight-only quantization, so static INT8 is what it can carry.  A file that names `la_aciq` is
read by this package's reader instead, and only what the old API knows is handed on to it: the schema stays as it is.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import wrapt
import yaml
from neural_compressor.conf import config as old_config
from neural_compressor.experimental.quantization import Quantization
from neural_compressor.experimental.strategy.strategy import EXP_STRATEGIES, TuneStrategy
from schema import SchemaError

from inc_laaciq.backends.inc_adaptor import LaAciqSearch
from inc_laaciq.backends.inc_inputs import loader_of
from inc_laaciq.backends.inc_registration import STRATEGY
from inc_laaciq.calibration.layers import linearize
from inc_laaciq.config import RunSpec, read_config
from inc_laaciq.config.strict_yaml import parse_document
from inc_laaciq.errors import SpecError

logger = logging.getLogger(__name__)

_OLD_API = "neural_compressor.experimental.Quantization"
_INSTEAD = (
    "Use neural_compressor.quantization.fit with inc_laaciq.load_config(path), or the command `inc-laaciq quantize`"
)


class LaAciqExperimentalTuneStrategy(LaAciqSearch, TuneStrategy):  # type: ignore[misc]
    """Neural Compressor's tuning strategy `la_aciq`, as `experimental.Quantization` runs it."""

    def __init__(self, model: Any, conf: Any, *args: Any, **kwargs: Any) -> None:
        run = getattr(conf, STRATEGY, None)
        if run is None:
            raise SpecError(f"{_OLD_API} takes strategy 'la_aciq' from a yaml file only. {_INSTEAD}")
        policy, criterion = conf.usr_cfg.tuning.exit_policy, conf.usr_cfg.tuning.accuracy_criterion
        kind = "relative" if "relative" in criterion else "absolute"
        self._best: Any = None
        self._is_over = False
        self._begin(
            run, mode_is_given=True, timeout=policy.timeout, criterion=f"{kind} loss of at most {criterion[kind]}"
        )
        model._model = linearize(model._model)
        super().__init__(model, conf, *args, **kwargs)

    def set_q_func(self) -> None:
        """Put the own adaptor in, here because the base class asks the adaptor for its abilities right after."""
        self.adaptor = self._own_adaptor()

    def traverse(self) -> None:
        """The search of `quantization.fit`."""
        try:
            super().traverse()
        finally:
            self._is_over = True

    @property
    def best_qmodel(self) -> Any:
        """The best model so far; after the search the accepted one, or the reason why there is none as an error.

        `execute` swallows what the search raises, and asks for this at the end.
        """
        return self._accepted(self._best) if self._is_over else self._best

    @best_qmodel.setter
    def best_qmodel(self, model: Any) -> None:
        self._best = model


def register() -> None:
    """Make the old API know the strategy; doing so twice changes nothing."""
    if EXP_STRATEGIES.get(STRATEGY) is LaAciqExperimentalTuneStrategy:
        return
    EXP_STRATEGIES[STRATEGY] = LaAciqExperimentalTuneStrategy
    old_config.EXP_STRATEGIES.append(STRATEGY)  # a second list of the same names, which the schema goes by
    wrapt.wrap_function_wrapper(old_config.Quantization_Conf, "__init__", _read_file)
    wrapt.wrap_function_wrapper(Quantization, "pre_process", _give_calibration_text)


def _read_file(init: Callable[..., None], conf: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    """`QuantConf(path)`: files for `la_aciq` are read here, all else by Neural Compressor."""
    given = args[0] if args else kwargs.get("cfg")
    if not isinstance(given, (str, os.PathLike)) or not _is_for_la_aciq(Path(given)):
        init(*args, **kwargs)
        return
    run = read_config(Path(given))
    document = parse_document(run.text).data
    _check_can_be_carried(run, document)
    init()
    try:
        conf.usr_cfg = old_config.DotDict(old_config.schema.validate(_old_settings(run, document)))
    except (SchemaError, AssertionError) as error:
        raise SpecError(
            f"{given}: {_OLD_API} refuses the section tuning or evaluation: {error!r}. {_INSTEAD}"
        ) from None
    setattr(conf, STRATEGY, run)


def _is_for_la_aciq(path: Path) -> bool:
    """Whether a file has a section `la_aciq:` or names the strategy; what is not ours is left to Neural Compressor."""
    try:
        text = path.read_text(encoding="utf-8")
        root = yaml.compose(text, Loader=yaml.SafeLoader) if STRATEGY in text else None
    except (OSError, UnicodeDecodeError):
        return False
    except yaml.YAMLError:
        return True  # neither can read it, but the own reader says the line
    strategies = (_value(owner, "strategy") for owner in (root, _value(root, "tuning")))
    return _value(root, STRATEGY) is not None or any(
        getattr(node, "value", None) == STRATEGY for found in strategies for node in (found, _value(found, "name"))
    )


def _value(node: Any, key: str) -> Any:
    """Value of a key of a YAML node; None if it has none."""
    if not isinstance(node, yaml.MappingNode):
        return None
    return next((value for name, value in node.value if name.value == key), None)


def _check_can_be_carried(run: RunSpec, document: Mapping[str, Any]) -> None:
    where = f"{run.source}: {_OLD_API} cannot carry"
    if run.approach != "post_training_static_quant":
        raise SpecError(
            f"{where} quantization.approach: {run.approach} (the default). Of la_aciq it runs "
            f"post_training_static_quant only. {_INSTEAD}"
        )
    if run.la_aciq.gate is not None:
        raise SpecError(
            f"{where} la_aciq.gate: nothing would judge its bounds. Use the command `inc-laaciq quantize`, which "
            "does, or remove the section"
        )
    if "resume" in ((document.get("tuning") or {}).get("workspace") or {}):
        raise SpecError(f"{where} tuning.workspace.resume: its snapshots hold no solution. Remove it. {_INSTEAD}")
    if run.la_aciq.evaluation is not None:
        logger.warning("la_aciq.evaluation has no effect in %s; `inc-laaciq quantize` evaluates on it", _OLD_API)


def _old_settings(run: RunSpec, document: Mapping[str, Any]) -> dict[str, Any]:
    """What the old API has to know, as its schema spells it; layers and grids are the strategy's own business."""
    tuning = document.get("tuning") or {}
    policy = tuning.get("exit_policy") or {}
    settings = {
        "model": {"name": run.name or STRATEGY, "framework": "pytorch_fx"},
        "quantization": {"approach": run.approach, "quant_level": 1},
        "use_bf16": False,
        "tuning": {
            **tuning,
            "strategy": {"name": STRATEGY},
            "exit_policy": {**policy, "timeout": run.tuning.timeout, "max_trials": run.tuning.max_trials},
            "random_seed": run.tuning.random_seed,
        },
    }
    if document.get("evaluation"):
        settings["evaluation"] = document["evaluation"]
    return settings


def _give_calibration_text(pre_process: Callable[[], None], quantization: Any, _args: Any, _kwargs: Any) -> None:
    """Before the old API asks for a calib_dataloader: where none was given, the text that the file names is it."""
    run = getattr(quantization.conf, STRATEGY, None)
    if run is not None and quantization.calib_dataloader is None:
        if run.la_aciq.calibration is None:
            raise SpecError(
                f"{run.source}: static INT8 needs calibration text: give la_aciq.calibration.texts, or set "
                "calib_dataloader to an inc_laaciq.LanguageLoader"
            )
        quantization.calib_dataloader = loader_of(run, quantization.model.model)
    pre_process()

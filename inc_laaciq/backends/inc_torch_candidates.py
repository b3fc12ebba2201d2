"""Neural Compressor's configurations as a list to search: expanded, each effect once, its size and error estimated."""

from __future__ import annotations

import copy
import hashlib
import inspect
import json
import logging
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from inc_laaciq.errors import SpecError
from inc_laaciq.tuning.order import Candidate, rounding_error

logger = logging.getLogger(__name__)

_SCALE_BITS = 16
_FLOAT_BITS = 16
_PACKED = ("rtn", "gptq", "awq", "teq", "autoround")  # these put codes into Neural Compressor's packed layer


@dataclass(frozen=True, kw_only=True)
class ConfigCandidate(Candidate):
    """A candidate and its configuration.

    Parameters
    ----------
    config : BaseConfig
        As given; Neural Compressor changes configurations while it uses them, so it is to be copied for that.
    key : str
        Hash of the effect that it has on the model.
    """

    config: Any
    key: str


def candidates(model: nn.Module, config_set: Any) -> list[ConfigCandidate]:
    """What Neural Compressor would try, without what would have the same effect as another or is known to go wrong.

    Parameters
    ----------
    model : nn.Module
        In float.
    config_set : BaseConfig or sequence of BaseConfig
        Parameters that are lists stand for all their values.

    Returns
    -------
    list of ConfigCandidate
        In the order given, at least one.

    Raises
    ------
    SpecError
        If something is not a configuration, quantizes no layer, or is of a kind that Neural Compressor ignores; or if
        nothing is left.
    """
    found: dict[str, ConfigCandidate] = {}
    for config in _expanded(config_set):
        made = _candidate(model, config)
        if made.key in found:
            logger.warning("%s has the effect of %s and is tried once", made.label, found[made.key].label)
        elif _overflows(made):
            logger.warning("%s is left out: Neural Compressor unpacks 8-bit asymmetric weights wrongly", made.label)
        else:
            found[made.key] = made
    if not found:
        raise SpecError(
            "config_set has nothing to try: it is empty, or has only 8-bit asymmetric weights, which Neural Compressor "
            "unpacks wrongly (codes minus zero point overflow int8). Use use_sym=True for 8 bits"
        )
    return list(found.values())


def _expanded(config_set: Any) -> list[Any]:
    from neural_compressor.common.base_config import BaseConfig, ComposableConfig
    from neural_compressor.common.base_tuning import ConfigSet

    given = list(config_set) if isinstance(config_set, (list, tuple)) else [config_set]
    for config in given:
        if not isinstance(config, BaseConfig):
            raise SpecError(
                f"config_set holds {type(config).__name__}. Give Neural Compressor's configurations, such as "
                "RTNConfig(bits=[3, 4])"
            )
        if isinstance(config, ComposableConfig):
            _check_composed(config.config_list)
    if sum(isinstance(config, ComposableConfig) for config in given) > 1:
        raise SpecError(
            "config_set has several configurations that were added with +, which Neural Compressor cannot compare. "
            "Give one of them"
        )
    expanded: list[Any] = ConfigSet.generate_config_list(copy.deepcopy(given))
    for config in expanded:
        _load_no_files(config)
    return expanded


def _check_composed(parts: Sequence[Any]) -> None:
    for part in parts:
        if part.global_config is not None or not all(isinstance(name, str) for name in part.local_config):
            raise SpecError(
                f"config_set adds a {type(part).__name__} to another configuration with +, and Neural Compressor then "
                "ignores all but settings of single layers by name. Put the configurations into a list, or give each "
                "white_list=['name of layers']"
            )


def _load_no_files(config: Any) -> None:
    """RTN by layers reads weights from `model.name_or_path`, whatever the model in memory has; others need files too.

    A search copies the whole model for each trial, so that nothing would be saved by it.
    """
    for each in [config, *getattr(config, "config_list", [])]:
        for part in [*each.local_config.values(), each] if not hasattr(each, "config_list") else []:
            if getattr(part, "use_layer_wise", False) is True and not getattr(part, "model_path", ""):
                part.use_layer_wise = False


def _candidate(model: nn.Module, config: Any) -> ConfigCandidate:
    label = describe(config)
    probe = copy.deepcopy(config)
    mapping = _mapping(model, probe)
    if mapping is not None and all(_is_float(op) for op in mapping.values()):
        raise SpecError(
            f"{label} quantizes no layer of this model. Correct its white_list, its set_local patterns or its dtype, "
            "or leave it out"
        )
    effect = _plain(probe.to_dict()) if mapping is None else {name: _effect(op) for name, op in mapping.items()}
    key = hashlib.sha256(json.dumps([config.name, effect], sort_keys=True).encode()).hexdigest()
    bits, error = _size(model, config, mapping)
    return ConfigCandidate(label=label, family=config.name, bits=bits, error=error, config=config, key=key)


def _mapping(model: nn.Module, config: Any) -> dict[str, Any] | None:
    """Configuration by layer; None where Neural Compressor decides that only with the traced model."""
    parameters = inspect.signature(config.get_model_info).parameters
    if "example_inputs" in parameters:
        return None
    info = config.get_model_info(model=model)
    if info is None:
        return None
    return {name: op for (name, _), op in config.to_config_mapping(model_info=info).items()}


def _effect(op: Any) -> Any:
    return [op.name, _plain({key: value for key, value in op.to_dict().items() if key != "model_path"})]


def _plain(value: Any) -> Any:
    """Something that JSON can hold, equal for equal settings."""
    if isinstance(value, Mapping):
        return {getattr(key, "__name__", str(key)): _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    return value if value is None or isinstance(value, (bool, int, float, str)) else repr(value)


def _is_float(op: Any) -> bool:
    return bool(getattr(op, "dtype", None) == "fp32")


def _width(op: Any) -> int:
    """Bits of a weight: `int` leaves it to `bits`, other types such as `int8`, `nf4` and `fp8_e4m3` name it."""
    dtype = str(getattr(op, "w_dtype", None) or getattr(op, "dtype", None) or "int")
    named = re.match(r"[a-z]+(\d+)", dtype)
    return int(named[1]) if named else int(getattr(op, "bits", 8))


def _scheme(op: Any) -> Literal["sym", "asym"]:
    return "sym" if getattr(op, "use_sym", getattr(op, "w_sym", False)) else "asym"


def _size(model: nn.Module, config: Any, mapping: Mapping[str, Any] | None) -> tuple[float, float | None]:
    """Mean bits and squared error of the weights of linear layers but the output projection.

    Whether that is quantized, not every algorithm says in its mapping; and it may be the embeddings.
    """
    if mapping is None:
        width = _width(config)
        return width, rounding_error(width, _scheme(config), -1)
    outer = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    head = getattr(model, "get_output_embeddings", lambda: None)()
    outer.add(id(getattr(head, "weight", None)))
    n_weights, bits, error = 0, 0.0, 0.0
    for name, module in model.named_modules():
        op, weight = mapping.get(name), getattr(module, "weight", None)
        if not isinstance(weight, torch.Tensor) or id(weight) in outer:
            continue
        if op is None and not isinstance(module, nn.Linear):
            continue
        n = weight.numel()
        n_weights += n
        if op is None or _is_float(op):
            bits += n * _FLOAT_BITS
            continue
        width, group = _width(op), int(getattr(op, "group_size", -1))
        overhead = (_SCALE_BITS + (width if _scheme(op) == "asym" else 0)) / group if group > 0 else 0.0
        bits += n * (width + overhead)
        error += n * rounding_error(width, _scheme(op), group)
    return (bits / n_weights, error / n_weights) if n_weights else (math.inf, None)


def _overflows(candidate: ConfigCandidate) -> bool:
    config = candidate.config
    return config.name in _PACKED and not _is_float(config) and (_width(config), _scheme(config)) == (8, "asym")


def describe(config: Any) -> str:
    """A configuration by what is not the default in it.

    Examples
    --------
    `RTNConfig(bits=3, group_size=64)`
    """
    parts = getattr(config, "config_list", None)
    if parts is not None:
        return " + ".join(describe(part) for part in parts)
    given = [
        f"{name}={getattr(config, name)!r}"
        for name, parameter in inspect.signature(type(config).__init__).parameters.items()
        if name not in ("self", "args", "kwargs", "model_path", "use_layer_wise")
        and getattr(config, name, parameter.default) != parameter.default
    ]
    local = f", {len(config.local_config)} local" if config.local_config and config.global_config is not None else ""
    return f"{type(config).__name__}({', '.join(given)}{local})"

"""The configuration of an export: a file, and what arguments say before it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from inc_laaciq.config import RunSpec, read_config, run_spec
from inc_laaciq.config.quantization import ALL_LINEAR
from inc_laaciq.config.strict_yaml import read_document
from inc_laaciq.errors import SpecError

WEIGHT_FORMATS: Mapping[str, int] = {"int4": 4, "int8": 8}

_GROUP_SIZES = {4: 128, 8: -1}
"""Without a configuration, by bits: what optimum-intel takes."""

_OTHER_WORDS = {"bits": ("bit", "dtype"), "group_size": ("granularity",), "scheme": ("zero_point",)}
"""Keys that say the same in Neural Compressor's words."""


def export_settings(
    config: str | Path | Mapping[str, Any] | RunSpec | None,
    *,
    weight_format: str | None = None,
    group_size: int | None = None,
    sym: bool | None = None,
    mode: str | None = None,
    calibration: str | Path | None = None,
    evaluation: str | Path | None = None,
    gate: str | Path | None = None,
) -> RunSpec:
    """The settings of a configuration with those arguments that are not None in place of its own.

    Paths among the arguments are relative to the current folder, those in a file to the file.

    Raises
    ------
    SpecError
        If the file or the result is wrong, or a `RunSpec` is given together with other settings.
    """
    if weight_format is not None and weight_format not in WEIGHT_FORMATS:
        raise SpecError(f"weight_format={weight_format!r} is not known. Allowed: {', '.join(WEIGHT_FORMATS)}.")
    bits = None if weight_format is None else WEIGHT_FORMATS[weight_format]
    if bits == 8 and group_size is None:
        group_size = -1  # a configuration's groups are meant for its own bits
    scheme = None if sym is None else "sym" if sym else "asym"
    weight = _given(bits=bits, group_size=group_size, scheme=scheme)
    section = _given(mode=mode, gate=_gate(gate))
    texts = _given(calibration=_absolute(calibration), evaluation=_absolute(evaluation))
    if isinstance(config, RunSpec):
        if weight or section or texts:
            raise SpecError("a RunSpec was given together with other settings. Put them into it, or give a file")
        return config
    if config is None:
        weight = {"bits": 4, "group_size": _GROUP_SIZES[bits or 4], **weight}
        section = {"mode": "balanced" if calibration is not None else "fast", **section}
        return run_spec(_merged({}, weight, section, texts))
    if not (weight or section or texts):
        return run_spec(config) if isinstance(config, Mapping) else read_config(config)
    if isinstance(config, Mapping):
        run_spec(config)  # what is wrong in it is told as it was written
        return run_spec(_merged(config, weight, section, texts))
    before = read_config(config)  # what is wrong in the file is told with its line
    return run_spec(_merged(read_document(config).data, weight, section, texts), folder=before.folder)


def _given(**values: Any) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}


def _absolute(path: str | Path | None) -> str | None:
    return None if path is None else os.path.abspath(path)


def _gate(given: str | Path | None) -> dict[str, str] | None:
    """A file is a policy, and anything else a bound."""
    if given is None:
        return None
    if os.path.isfile(given) or str(given).endswith((".yaml", ".yml")):
        return {"policy": os.path.abspath(given)}
    return {"max_degradation": str(given)}


def _merged(
    content: Mapping[str, Any], weight: Mapping[str, Any], section: Mapping[str, Any], texts: Mapping[str, str]
) -> dict[str, Any]:
    """A configuration with other settings in their places; what was given is left as it is."""
    merged = dict(content)
    if weight:
        merged["quantization"] = _with_weight(merged.get("quantization") or {}, weight)
    ours = {**(merged.get("la_aciq") or {}), **section}
    for key, folder in texts.items():
        before = ours.get(key)
        ours[key] = {**(before if isinstance(before, Mapping) else {}), "texts": folder}
    return {**merged, "la_aciq": ours}


def _with_weight(quantization: Mapping[str, Any], weight: Mapping[str, Any]) -> dict[str, Any]:
    """The section with other settings for all layers, wherever and in whatever words it had its own."""
    types = quantization.get("optype_wise") or {}
    name = next((name for name in ALL_LINEAR if name in types), None)
    leaf = (quantization.get("model_wise") or {}) if name is None else types[name]
    replaced = {other for key in weight for other in _OTHER_WORDS[key]}
    before = {key: value for key, value in (leaf.get("weight") or {}).items() if key not in replaced}
    changed = {**leaf, "weight": {**before, **weight}}
    if name is None:
        return {**quantization, "model_wise": changed}
    return {**quantization, "optype_wise": {**types, name: changed}}

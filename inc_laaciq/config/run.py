"""A whole configuration: what one run is told to do, and where it was told so."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any

from inc_laaciq.config import checks
from inc_laaciq.config.checks import check_fields
from inc_laaciq.config.policy import Policy
from inc_laaciq.config.policy_plain import plain_policy
from inc_laaciq.config.specs import (
    APPROACHES,
    ActivationSpec,
    Approach,
    Fp8Spec,
    LaaciqSpec,
    OpRule,
    TuningSpec,
    WeightSpec,
)


@dataclass(frozen=True, kw_only=True)
class RunSpec:
    """Everything a configuration says.

    Two of them are equal if their settings are; `source`, `folder`, `text`, `lines` and `notes` only tell where the
    settings came from.

    Parameters
    ----------
    model : str or None
        Folder or hub id of the model (`la_aciq.model`); None if the caller has to give one.
    name : str
        INC's label of the model (`model.name`).
    approach : str
    weight : WeightSpec
    activation : ActivationSpec
        Used only by `post_training_static_quant`.
    rules : tuple of OpRule
    la_aciq : LaaciqSpec
    tuning : TuningSpec
    fp8 : Fp8Spec or None
        Of `post_training_fp8_quant`; None for the other approaches.
    source : path or None
        The file; None if the settings came from Python.
    folder : path
        What relative paths were relative to.
    text : str
        The file as read, or the settings as JSON.
    lines : mapping of str to int
        Line of every key, by path such as `la_aciq.mode`; empty if the settings came from Python.
    notes : tuple of str
        What the reader should know: keys without effect here, aliases that were resolved.
    """

    model: str | None = None
    name: str = ""
    approach: Approach = "post_training_weight_only"
    weight: WeightSpec = field(default_factory=WeightSpec)
    activation: ActivationSpec = field(default_factory=ActivationSpec)
    rules: tuple[OpRule, ...] = ()
    la_aciq: LaaciqSpec = field(default_factory=LaaciqSpec)
    tuning: TuningSpec = field(default_factory=TuningSpec)
    fp8: Fp8Spec | None = None
    source: Path | None = field(default=None, compare=False)
    folder: Path = field(default=Path(), compare=False)
    text: str = field(default="", compare=False, repr=False)
    lines: Mapping[str, int] = field(default_factory=dict, compare=False, repr=False)
    notes: tuple[str, ...] = field(default=(), compare=False, repr=False)

    def __post_init__(self) -> None:
        check_fields(self, approach=checks.word(APPROACHES))

    def as_dict(self) -> dict[str, Any]:
        """Give the settings as plain data for provenance: the same on every machine.

        Paths are relative to `folder`, mappings sorted, bounds as text; nothing about where the settings came from.
        """
        settings = {
            item.name: _plain(getattr(self, item.name), item.name, self.folder) for item in fields(self) if item.compare
        }
        if self.approach != "post_training_static_quant":
            settings["activation"] = None
        # Settings without what came later keep their digest.
        if self.fp8 is None:
            del settings["fp8"]
        if self.la_aciq.mode == "fair":  # what is not given is told too: it may come to mean something else
            settings["la_aciq"]["fair"]["labels"] = self.la_aciq.fair.label_share
        else:
            del settings["la_aciq"]["fair"]["labels"]
        return settings

    @property
    def digest(self) -> str:
        """SHA-256, in hexadecimal, of `as_dict` as JSON: equal for equal settings."""
        canonical_json = json.dumps(self.as_dict(), sort_keys=True, ensure_ascii=False, separators=(",", ":"))
        return hashlib.sha256(canonical_json.encode()).hexdigest()


def _plain(value: Any, name: str, folder: Path) -> Any:
    """Value of the field `name` as JSON knows it."""
    if isinstance(value, Policy):
        return plain_policy(value)
    if is_dataclass(value):
        return {item.name: _plain(getattr(value, item.name), item.name, folder) for item in fields(value)}
    if isinstance(value, Mapping):
        return {key: _plain(value[key], name, folder) for key in sorted(value)}
    if isinstance(value, (tuple, list)):
        return [_plain(item, name, folder) for item in value]
    if name in ("model", "texts") and isinstance(value, str) and os.path.isabs(value):
        return Path(os.path.relpath(value, folder)).as_posix()
    return value

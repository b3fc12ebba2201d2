"""The `la_aciq:` section: what is solved, for which languages, on which text, and what the gate demands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from inc_laaciq.config import checks
from inc_laaciq.config.policy_file import policy_section
from inc_laaciq.config.section import Keys, Section
from inc_laaciq.config.specs import (
    LABELS_REFUSED,
    MODES,
    NAN_POLICIES,
    NEED_TEXT,
    RECONCILE,
    TUNE,
    FairSpec,
    LaaciqSpec,
    Mode,
    Reconcile,
)
from inc_laaciq.config.tags import read_language_keys, read_languages
from inc_laaciq.config.texts import read_text, resolve_path

KEYS = Keys(
    used=(
        "model",
        "mode",
        "reconcile",
        "range_reconcile",
        "weights",
        "shares",
        "languages",
        "calibration",
        "evaluation",
        "gate",
        "signed",
        "scaling",
        "damping",
        "refine",
        "fair",
        "lm_head",
        "nan",
        "strict_lid",
    ),
    refused={
        "bits": "write it under quantization.model_wise.weight",
        "group_size": "write it under quantization.model_wise.weight",
        "scheme": "write it under quantization.model_wise.weight",
    },
)
_RECONCILE_KEYS = Keys(used=("rule", "weights", "shares"))

_FAIR_KEYS = Keys(used=("tune", "steps", "tilt", "sampled", "labels"))


@dataclass(frozen=True, kw_only=True)
class Laaciq:
    """What the section says; `model` is a folder, a hub id or None."""

    model: str | None
    spec: LaaciqSpec


def read_laaciq(root: Section, folder: Path) -> Laaciq:
    """Read the `la_aciq:` section.

    Parameters
    ----------
    root : Section
        The whole configuration.
    folder : path
        What relative paths are relative to.

    Raises
    ------
    SpecError
        With file and line, about the first thing that is wrong.
    """
    section = root.child("la_aciq", KEYS)
    languages = read_languages(section, "languages") if "languages" in section else None
    reconcile, weights, shares = _read_reconcile(section, languages)
    mode = section.take("mode", checks.word(MODES), LaaciqSpec.mode)
    calibration = read_text(section, "calibration", folder, least_tokens=1)
    if mode not in NEED_TEXT and calibration is None:
        _refuse_data_free(section)
    evaluation = read_text(section, "evaluation", folder, least_tokens=0)
    gate = policy_section(section, "gate", folder) if "gate" in section else None
    if gate is not None and evaluation is None:
        section.note("gate", "has no la_aciq.evaluation.texts to judge on: without other text its verdict is NOT-RUN.")
    model = section.take("model", checks.text, None)
    return Laaciq(
        model=None if model is None else resolve_path(model, folder, or_hub_id=True),
        spec=LaaciqSpec(
            mode=mode,
            reconcile=reconcile,
            weights=weights,
            shares=shares,
            languages=languages,
            calibration=calibration,
            evaluation=evaluation,
            gate=gate,
            signed=section.take("signed", checks.boolean, LaaciqSpec.signed),
            scaling=section.take("scaling", checks.boolean, LaaciqSpec.scaling),
            damping=section.take("damping", checks.open_fraction, LaaciqSpec.damping),
            refine=section.take("refine", checks.integer(0, 100), LaaciqSpec.refine),
            fair=_read_fair(section, mode),
            lm_head=section.take("lm_head", checks.boolean, LaaciqSpec.lm_head),
            nan=section.take("nan", checks.word(NAN_POLICIES), LaaciqSpec.nan),
            strict_lid=section.take("strict_lid", checks.boolean, LaaciqSpec.strict_lid),
        ),
    )


def _read_fair(section: Section, mode: Mode) -> FairSpec:
    """Read `fair`, which means something for that mode only."""
    if "fair" not in section:
        return FairSpec()
    if mode != "fair":
        raise section.error("fair", f"says how mode fair works, and the mode is {mode}.", with_value=False)
    given = section.child("fair", _FAIR_KEYS)
    tune = given.take("tune", checks.word(TUNE), FairSpec.tune)
    labels = given.take("labels", checks.fraction, FairSpec.labels)
    if labels and tune in LABELS_REFUSED:
        raise given.error("labels", LABELS_REFUSED[tune])
    return FairSpec(
        tune=tune,
        steps=given.take("steps", checks.integer(1), FairSpec.steps),
        tilt=given.take("tilt", checks.at_least_zero, FairSpec.tilt),
        sampled=given.take("sampled", checks.integer(0), FairSpec.sampled),
        labels=labels,
    )


def _by_language(section: Section, key: str, languages: tuple[str, ...] | None) -> dict[str, float]:
    """Read a mapping of language to a number of 0 or more; canonical tags, sorted."""
    given = section.child(key, None, required=True)
    written_as = read_language_keys(section, key, given)
    numbers = {tag: given.take(written, checks.at_least_zero, 0.0) for tag, written in written_as.items()}
    for tag, written in written_as.items():
        if languages is not None and tag not in languages:
            listed = ", ".join(languages)
            raise given.error(written, f"is for a language that la_aciq.languages does not list: {listed}.")
    if not any(numbers.values()):
        raise section.error(key, "gives no language a value above 0.", with_value=False)
    return dict(sorted(numbers.items()))


def _read_reconcile(
    section: Section, languages: tuple[str, ...] | None
) -> tuple[Reconcile, dict[str, float], dict[str, float] | None]:
    """Read `reconcile`, a word or a mapping, and the `weights` and `shares` beside or inside it."""
    rule_section, rule_key = section, "reconcile"
    inner = section
    if isinstance(section.data.get("reconcile"), Mapping):
        inner = section.child("reconcile", _RECONCILE_KEYS)
        rule_section, rule_key = inner, "rule"
        for key in ("weights", "shares"):
            if key in inner and key in section:
                raise inner.conflict(key, section, key, "keep one of them")
    weights_section = inner if "weights" in inner else section
    shares_section = inner if "shares" in inner else section
    weights = _by_language(weights_section, "weights", languages) if "weights" in weights_section else {}

    default: Reconcile = "natural" if "shares" in shares_section and rule_key == "rule" else LaaciqSpec.reconcile
    rule = rule_section.take(rule_key, checks.word(RECONCILE), default)
    if "shares" not in shares_section:
        return rule, weights, None
    if rule != "natural":
        if rule_key not in rule_section:
            raise shares_section.error("shares", "needs reconcile: natural beside it.")
        raise shares_section.conflict("shares", rule_section, rule_key, "only natural goes by shares")
    shares = _by_language(shares_section, "shares", languages)
    if max(shares.values()) > 1 or sum(shares.values()) > 1.01:
        total = sum(shares.values())
        raise shares_section.error("shares", f"sums to {total:g}. Shares are fractions: divide each by the total.")
    return rule, weights, shares


def _refuse_data_free(section: Section) -> None:
    """Without calibration text there is nothing by language for these settings to act on."""
    for key in ("reconcile", "weights", "shares"):
        if key in section:
            reason = "without la_aciq.calibration this mode is data-free and knows no languages"
            raise section.conflict(key, section, "mode", reason)

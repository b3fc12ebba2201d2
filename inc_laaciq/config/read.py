"""From a configuration to a `RunSpec`: reads every section, then checks what only holds between sections."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from inc_laaciq.config import checks
from inc_laaciq.config.fp8 import refuse_solver_keys
from inc_laaciq.config.inc import ROOT_KEYS, read_model_name, read_tuning, read_unused
from inc_laaciq.config.laaciq import read_laaciq
from inc_laaciq.config.plain import document_of
from inc_laaciq.config.quantization import Quantization, read_quantization
from inc_laaciq.config.run import RunSpec
from inc_laaciq.config.section import Section
from inc_laaciq.config.specs import RANGE_RECONCILE, ActivationSpec, LaaciqSpec
from inc_laaciq.config.strict_yaml import Document, read_document
from inc_laaciq.errors import SpecError

_PAPER_BITS = range(3, 6)


def read_config(path: Path | str) -> RunSpec:
    """Read a configuration file.

    Parameters
    ----------
    path : path
        YAML with INC's keys and a `la_aciq:` section.  Relative paths in it are relative to its folder.

    Returns
    -------
    RunSpec
        Its `notes` tell which keys have no effect here and which aliases were resolved.

    Raises
    ------
    SpecError
        About the first thing that is wrong, with file and line.
    """
    return _run_spec(read_document(path), source=Path(path), folder=Path(path).parent)


def run_spec(settings: Mapping[str, Any] | None = None, *, folder: Path | str = ".", **sections: Any) -> RunSpec:
    """Make a RunSpec from Python, with the keys and the checks of a configuration file.

    Parameters
    ----------
    settings : mapping, optional
        What the file would hold.
    folder : path
        What relative paths are relative to; the current folder by default.
    **sections
        Top-level keys, in place of those in `settings` or beside them.

    Raises
    ------
    SpecError
        About the first thing that is wrong.

    Examples
    --------
    >>> spec = run_spec(quantization={"model_wise": {"weight": {"bits": 3}}}, la_aciq={"languages": ["en", "swh"]})
    >>> spec.weight.bits, spec.la_aciq.languages
    (3, ('en', 'sw'))
    """
    if settings is not None and not isinstance(settings, Mapping):
        raise SpecError(f"configuration: must be a mapping of keys to values, not {type(settings).__name__}.")
    return _run_spec(document_of({**(settings or {}), **sections}), source=None, folder=Path(folder))


def _run_spec(document: Document, *, source: Path | None, folder: Path) -> RunSpec:
    root = Section(document, ROOT_KEYS)
    name = read_model_name(root)
    read_unused(root)
    tuning = read_tuning(root)
    quantization = read_quantization(root)
    laaciq = read_laaciq(root, folder)
    spec = _agree(root, quantization, laaciq.spec)
    return RunSpec(
        model=laaciq.model,
        name=name,
        approach=quantization.approach,
        weight=quantization.weight,
        activation=_read_range_reconcile(root, quantization),
        rules=quantization.rules,
        la_aciq=spec,
        tuning=tuning,
        fp8=quantization.fp8,
        source=source,
        folder=folder.absolute(),
        text=document.text,
        lines=document.lines,
        notes=tuple(text for _, text in sorted(root.notes, key=lambda note: note[0])),
    )


def _agree(root: Section, quantization: Quantization, spec: LaaciqSpec) -> LaaciqSpec:
    """Check the `la_aciq:` section against the `quantization:` section."""
    section = root.child("la_aciq", None)
    if quantization.fp8 is not None:
        refuse_solver_keys(section)
        if spec.calibration is None:
            raise section.error("calibration", "is needed: FP8 ranges are measured on it.", with_value=False)
        return replace(spec, scaling=False, signed=False)
    widths = [quantization.weight.bits, *(rule.weight.bits for rule in quantization.rules if rule.weight is not None)]
    outside = [bits for bits in widths if bits not in _PAPER_BITS]
    if spec.mode == "paper" and outside:
        raise section.error(
            "mode",
            f"does not work at {outside[0]} bits: its formula, alpha = sigma (2.5 + 0.3 ln(1 + kurtosis)), fits 4 bits "
            "only. Against the optimum its squared error is 1.08 to 1.27 times as large at 3 bits, 2.7 to 5.7 times at "
            "6, 27 to 54 times at 8. Allowed: 3..5 bits; or use mode fast or balanced.",
        )
    static = quantization.approach == "post_training_static_quant"
    if spec.mode == "fair" and static:
        raise section.error("mode", "is for weights only. With post_training_static_quant use balanced or fast.")
    if spec.scaling and (static or spec.mode == "paper"):
        if "scaling" in section:
            what = "post_training_static_quant" if static else "mode paper"
            raise section.error("scaling", f"is not possible with {what}. Leave it out: it has no effect there.")
        # In mode paper it stays, for the other modes that a search for the gate tries.
        spec = replace(spec, scaling=not static)
    every_layer_asym = all(
        weight.scheme == "asym"
        for weight in (quantization.weight, *(rule.weight for rule in quantization.rules))
        if weight is not None
    )
    if not spec.signed or not (static or every_layer_asym):
        return spec
    if "signed" in section:
        if static:
            raise section.error("signed", "is not possible with post_training_static_quant: its scales are positive.")
        weights = root.child("quantization", None).child("model_wise", None).child("weight", None)
        if "scheme" in weights:
            raise section.conflict("signed", weights, "scheme", "only a symmetric grid can have a negative scale")
        raise section.error(
            "signed", "is not possible with scheme asym: only a symmetric grid can have a negative scale."
        )
    return replace(spec, signed=False)


def _read_range_reconcile(root: Section, quantization: Quantization) -> ActivationSpec:
    """Read `la_aciq.range_reconcile` into the activation's settings; it is for ranges that la_aciq solves."""
    section, activation = root.child("la_aciq", None), quantization.activation
    if "range_reconcile" not in section:
        return activation
    rule = section.take("range_reconcile", checks.word(RANGE_RECONCILE), activation.reconcile)
    if quantization.approach != "post_training_static_quant":
        raise section.error(
            "range_reconcile", "is for post_training_static_quant only: with weights alone there are no input ranges."
        )
    if activation.algorithm != "la_aciq":
        raise section.error(
            "range_reconcile",
            f"is for activation algorithm la_aciq, and it is {activation.algorithm} here, Neural Compressor's own, "
            "which takes all text as one. Remove one of the two.",
        )
    return replace(activation, reconcile=rule)

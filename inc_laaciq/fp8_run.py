"""A run of `quantize` for FP8: measured by language, merged, quantized by Neural Compressor on a CPU, and judged."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from inc_laaciq.backends import gaudi_fp8_measure
from inc_laaciq.backends.gaudi_fp8_files import Measurement
from inc_laaciq.calibration.loader import LanguageLoader
from inc_laaciq.config.specs import Fp8Spec
from inc_laaciq.errors import BackendError
from inc_laaciq.fp8_inputs import Dumps
from inc_laaciq.fp8_merge import MergeSettings, merge
from inc_laaciq.fp8_merge_report import merge_report
from inc_laaciq.job import Job
from inc_laaciq.layerwise import Solution
from inc_laaciq.quant.fp8_scales import Fp8Target


@dataclass(frozen=True, kw_only=True)
class Fp8Quantized:
    """What a run for FP8 made, in place of Neural Compressor's model with integer codes.

    Parameters
    ----------
    model : nn.Module
        As Neural Compressor quantized it.
    la_aciq : Solution
        The layers; it has no codes.
    languages : mapping of language -> Measurement
    merged : Measurement
        What the model was quantized by.
    report : dict
        Content of the merge report.
    """

    model: Any
    la_aciq: Solution
    languages: Mapping[str, Measurement]
    merged: Measurement
    report: dict[str, Any]


def require() -> None:
    """Raise a BackendError if Neural Compressor has no FP8 here."""
    gaudi_fp8_measure.require()


def fit(job: Job, spec: Fp8Spec, loader: LanguageLoader) -> Fp8Quantized:
    """Measure the model in every language, merge, and quantize it; the float model is not changed.

    Raises
    ------
    BackendError
        If Neural Compressor has no FP8 here, or takes other layers than asked for.
    LaaciqError
        As `merge`.
    """
    model = job.source.model
    # Neural Compressor searches names for these patterns.
    blocklist = [f"^{re.escape(layer.name)}$" for layer in job.layers if layer.weight is None]
    measured = gaudi_fp8_measure.measure(model, loader, blocklist=blocklist)
    asked = {layer.name for layer in job.layers if layer.weight is not None}
    taken = set(next(iter(measured.values())).nodes)
    if taken != asked:
        raise BackendError(f"Neural Compressor measured other layers than asked for: {sorted(taken ^ asked)}")
    settings = MergeSettings(rule=spec.reconcile, target=Fp8Target(device=spec.device, method=spec.scale_method))
    dumps: Dumps = {tag: {None: found} for tag, found in measured.items()}
    merged = merge(dumps, settings)
    return Fp8Quantized(
        model=gaudi_fp8_measure.quantize(model, merged[None], scale_method=spec.scale_method, blocklist=blocklist),
        la_aciq=Solution(weights={}, layers=job.layers),
        languages=measured,
        merged=merged[None],
        report=merge_report(dumps, merged, settings),
    )


def notes(spec: Fp8Spec) -> list[str]:
    """What a reader of the figures should know."""
    found = [
        "FP8 was computed on a CPU, by rounding to E4M3 with 448 as its largest number and computing in float; no "
        "Gaudi took part"
    ]
    if spec.device == "gaudi2":
        found.append("a Gaudi 2 ends at 240: its scales are made anew from the same measurement, about twice as large")
    return found

"""The modes of this package, through Neural Compressor's `fit`, and the same modes without balancing of languages."""

from __future__ import annotations

from typing import Any

import torch

from inc_laaciq.backends import inc_api, inc_fit
from inc_laaciq.calibration.loader import LanguageLoader
from inc_laaciq.config import run_spec
from inc_laaciq.config.specs import MODES
from inc_laaciq.errors import SpecError
from methods.grids import check_float, check_layers
from methods.registry import Job, Method, NotRunError, Quantized, Stopwatch, register

POOLED = "en"
"""Where all text is filed if languages are not to be told apart; any one tag does."""


def run_settings(job: Job, mode: str, fair: dict[str, Any] | None = None) -> Any:
    """The configuration of one run, as a yaml would give it.

    Raises
    ------
    NotRunError
        If the installed package does not know the mode.
    """
    weight = {"bits": job.bits, "group_size": job.group_size, "scheme": "sym"}
    # The text is given to `fit` as a loader, so the configuration only has to name some.
    calibration = {"texts": str(job.cache), "tokens_per_language": 1, "seed": job.seed}
    content = {
        "quantization": {"approach": "post_training_weight_only", "model_wise": {"weight": weight}},
        "strategy": "la_aciq",
        "la_aciq": {"mode": mode, "calibration": calibration, **({"fair": fair} if fair else {})},
    }
    try:
        return run_spec(content)
    except SpecError as error:
        raise NotRunError(f"the installed package refuses mode {mode!r}: {error}") from error


def quantize(job: Job, mode: str, *, pooled: bool, fair: dict[str, Any] | None = None) -> Quantized:
    """Quantize with a mode of `la_aciq`.

    Raises
    ------
    LayersError
        If it quantized other layers than asked for.
    NotRunError
        If the installed package does not know the mode.
    """
    run = run_settings(job, mode, fair)
    batches, sizes = job.batches, job.text_bytes
    if pooled:
        together: tuple[torch.Tensor, ...] = tuple(batch for part in batches.values() for batch in part)
        batches, sizes = {POOLED: together}, {POOLED: sum(sizes.values())}
    watch = Stopwatch()
    with inc_api.quiet("adaptor"), watch.running():
        result = inc_fit.fit(job.source.model, run, LanguageLoader(batches, text_bytes=sizes))
    layers = sorted(inc_fit.quantized_layers(result.q_config))
    check_layers(layers, list(job.layers), mode)
    check_float(result.model, job.source.model, list(job.kept))
    return Quantized(model=result.model, layers=layers, seconds=watch.seconds, scheme="sym")


def _method(
    mode: str,
    *,
    pooled: bool = False,
    labels: float | None = None,
    calibrations: tuple[str, ...] = ("multilingual",),
) -> None:
    def run(job: Job) -> Quantized:
        return quantize(job, mode, pooled=pooled, fair=None if labels is None else {"labels": labels})

    def check() -> str | None:
        return None if mode in MODES else f"the installed package has no mode {mode!r}, only {', '.join(MODES)}"

    register(
        Method(
            name=f"la_aciq-{mode}" + ("" if labels is None else f"-labels-{labels:g}") + "-pooled" * pooled,
            run=run,
            calibrations=calibrations,
            packages=("neural-compressor", "numpy", "scipy"),
            about=f"this package: mode {mode}"
            + ("" if labels is None else f", fair.labels: {labels:g}")
            + ", all text filed under one language" * pooled,
            is_ours=True,
            check=check,
        )
    )


_method("fast")
_method("balanced", calibrations=("multilingual", "english"))
_method("fair")
_method("fair", labels=0)
_method("balanced", pooled=True)
_method("fair", pooled=True)

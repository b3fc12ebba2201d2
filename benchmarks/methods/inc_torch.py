"""Neural Compressor's own weight-only methods, called through its torch API."""

from __future__ import annotations

import copy
import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from methods.grids import check_float, check_grid, check_layers
from methods.registry import Job, Method, Quantized, Stopwatch, register

_PACKAGES = ("neural-compressor", "pydantic")
_SYM = {"use_sym": True}


def _method(name: str, kind: str, about: str, *, calibrated: bool, **settings: Any) -> None:
    scheme = "sym" if settings.get("use_sym") else "asym, a zero point of its own in every group"

    def run(job: Job) -> Quantized:
        return quantize(job, kind, settings, scheme, calibrated=calibrated)

    register(
        Method(
            name=name,
            run=run,
            calibrations=("english", "multilingual") if calibrated else ("none",),
            packages=(*_PACKAGES, "accelerate") if kind == "GPTQConfig" else _PACKAGES,
            about=f"Neural Compressor: {about}",
        )
    )


def quantize(job: Job, kind: str, settings: dict[str, Any], scheme: str, *, calibrated: bool) -> Quantized:
    """Quantize a fresh copy with one of Neural Compressor's configuration classes.

    Raises
    ------
    LayersError
        If it quantized other layers, or on another grid, than it was asked to.
    """
    os.environ["HQQ_NOT_USE_HALF"] = "1"  # read when it is imported: else it turns the whole model into float16
    with quiet():
        import neural_compressor.torch.quantization as inc

        config_class = getattr(inc, kind)
        config = config_class(bits=job.bits, group_size=job.group_size, **settings)
        for name in job.kept:
            config.set_local(re.escape(name), config_class(dtype="fp32"))
        model = copy.deepcopy(job.source.model)
        watch = Stopwatch()
        with watch.running(), torch.no_grad():
            model = inc.prepare(model, config, example_inputs=job.rows[0] if job.rows else None)
            if calibrated:
                for row in job.rows:
                    model(input_ids=row)
            model = inc.convert(model)
    model.eval()
    layers, notes = _read_back(model, job)
    check_layers(layers, list(job.layers), kind)
    check_float(model, job.source.model, list(job.kept))
    return Quantized(model=model, layers=layers, seconds=watch.seconds, scheme=scheme, notes=notes)


def _read_back(model: torch.nn.Module, job: Job) -> tuple[list[str], dict[str, Any]]:
    """Names of the quantized layers, and the codes and the type of scale that were found in them."""
    layers, ends, scale_types = [], [], set()
    for name, module in list(model.named_modules()):
        kind = type(module).__name__
        if kind not in ("INCWeightOnlyLinear", "HQQLinear"):
            continue
        layers.append(name.removesuffix(".linear"))  # a layer that AWQ put a multiplication before
        if kind == "HQQLinear":
            continue
        with quiet():
            weight, scales = module.recover(), module.unpack()["scales"]
        scale_types.add(str(scales.dtype).removeprefix("torch."))
        ends.append(check_grid(name, weight, scales, module.g_idx, bits=job.bits, group_size=job.group_size))
    notes: dict[str, Any] = {"scale_types": sorted(scale_types)}
    if ends:
        notes["codes"] = [min(low for low, _ in ends), max(high for _, high in ends)]
    return layers, notes


@contextmanager
def quiet() -> Iterator[None]:
    """Neural Compressor logs every step; inside this block only its errors are heard."""
    import neural_compressor.common  # noqa: F401 - it sets its own level when it is imported

    found = logging.getLogger("neural_compressor")
    before = found.level
    found.setLevel(logging.ERROR)
    try:
        yield
    finally:
        found.setLevel(before)


_method("inc-rtn", "RTNConfig", "round to nearest", calibrated=False, **_SYM)
_method(
    "inc-rtn-mse", "RTNConfig", "RTN, clipping searched by squared error", calibrated=False, use_mse_search=True, **_SYM
)
_method("inc-awq", "AWQConfig", "AWQ with scales and clipping searched", calibrated=True, **_SYM)
_method("inc-gptq", "GPTQConfig", "GPTQ", calibrated=True, **_SYM)
_method("inc-gptq-mse", "GPTQConfig", "GPTQ, scales searched", calibrated=True, use_mse_search=True, **_SYM)
_method("inc-gptq-act-order", "GPTQConfig", "GPTQ, columns by activation", calibrated=True, act_order=True, **_SYM)
_method("inc-hqq", "HQQConfig", "HQQ", calibrated=False, quant_zero=False)

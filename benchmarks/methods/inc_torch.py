"""Neural Compressor's own weight-only methods, called through its torch API.

Methods called `inc-...` are those of versions that still have the adaptor API (up to 3.7), `inc3.10-...` those of later
ones.  One environment has one of the two: the other's cells are made by the same command in another environment, and
are found in the folder of finished cells.
"""

from __future__ import annotations

import copy
import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch

from methods.grids import check_float, check_grid, check_layers
from methods.registry import Job, Method, Quantized, Stopwatch, register, version

_PACKAGES = ("neural-compressor", "pydantic")
_SYM = {"use_sym": True}
_LAST_WITH_ADAPTOR = (3, 7)


def _method(name: str, kind: str, about: str, *, calibrated: bool, **settings: Any) -> None:
    scheme = "sym" if settings.get("use_sym") else "asym, a zero point of its own in every group"

    def run(job: Job) -> Quantized:
        return quantize(job, kind, settings, scheme, calibrated=calibrated)

    for prefix, is_later in (("inc", False), ("inc3.10", True)):
        register(
            Method(
                name=f"{prefix}-{name}",
                run=run,
                calibrations=("english", "multilingual") if calibrated else ("none",),
                packages=(*_PACKAGES, "accelerate") if kind == "GPTQConfig" else _PACKAGES,
                about=f"Neural Compressor {'3.8 and later' if is_later else 'up to 3.7'}: {about}",
                check=partial(_other_version, is_later=is_later),
            )
        )


def _other_version(*, is_later: bool) -> str | None:
    """Why a method of the other generation cannot be run here."""
    installed = version("neural-compressor") or "0"
    if (tuple(map(int, installed.split(".")[:2])) > _LAST_WITH_ADAPTOR) == is_later:
        return None
    return f"neural-compressor {installed} is installed: run it in another environment, with the same --cells"


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


_method("rtn", "RTNConfig", "round to nearest", calibrated=False, **_SYM)
_method(
    "rtn-mse", "RTNConfig", "RTN, clipping searched by squared error", calibrated=False, use_mse_search=True, **_SYM
)
_method("awq", "AWQConfig", "AWQ with scales and clipping searched", calibrated=True, **_SYM)
_method("gptq", "GPTQConfig", "GPTQ", calibrated=True, **_SYM)
_method("gptq-mse", "GPTQConfig", "GPTQ, scales searched", calibrated=True, use_mse_search=True, **_SYM)
_method("gptq-act-order", "GPTQConfig", "GPTQ, columns by activation", calibrated=True, act_order=True, **_SYM)
_method("hqq", "HQQConfig", "HQQ", calibrated=False, quant_zero=False)

"""NNCF's weight compression of the exported OpenVINO model, as it is deployed."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any

import numpy as np
import torch

from methods.grids import check_layers
from methods.openvino_ir import OpenVINOModel, embedding_nodes, exported, inputs, linear_nodes, read, stored_weight
from methods.registry import Job, LayersError, Method, Quantized, Stopwatch, register

SETTINGS: dict[str, dict[str, bool]] = {
    "rtn": {},
    "awq": {"awq": True},
    "scale-estimation": {"scale_estimation": True},
    "gptq": {"gptq": True},
    "awq-scale-estimation": {"awq": True, "scale_estimation": True},
}


def quantize(job: Job, settings: dict[str, bool]) -> Quantized:
    """Compress a fresh copy of the exported model, as `compress`, and run it in float32."""
    model, seconds = compress(job, settings)
    layers, notes = read_back(model, job)
    return Quantized(
        model=OpenVINOModel(model, job.source.model.config),
        layers=layers,
        seconds=seconds,
        scheme="sym, scales with a sign",
        notes=notes,
    )


def compress(job: Job, settings: dict[str, bool]) -> tuple[Any, float]:
    """A copy of the exported model compressed to INT4_SYM, and the processor seconds that it took.

    Raises
    ------
    LayersError
        If it compressed other layers, or to another format, than it was asked to.
    """
    with _quiet():
        import nncf

        model = read(exported(job.source, job.cache))
        nodes = linear_nodes(model)
        check_layers(sorted(set(nodes) & {*job.layers}), list(job.layers), "the export")
        others = [node for name, node in nodes.items() if name not in job.layers] + embedding_nodes(model)
        names = {name for entry in model.inputs for name in entry.names}
        data = [inputs(row, torch.ones_like(row), names) for row in job.rows] if settings else []
        watch = Stopwatch()
        with watch.running():
            model = nncf.compress_weights(
                model,
                mode=nncf.CompressWeightsMode.INT4_SYM,
                ratio=1.0,
                group_size=job.group_size,
                # NNCF's own rule leaves out what it takes for the last layer; and by default the embeddings get 8 bits.
                all_layers=True,
                backup_mode=nncf.BackupMode.NONE,
                ignored_scope=nncf.IgnoredScope(names=[node.get_friendly_name() for node in others]),
                dataset=nncf.Dataset(data) if data else None,
                subset_size=max(1, len(data)),
                advanced_parameters=_every_row(len(data)) if data else None,
                **settings,
            )
    check_layers(read_back(model, job)[0], list(job.layers), "NNCF")
    return model, watch.seconds


def _every_row(n: int) -> Any:
    """NNCF's defaults use a part of the text (32 rows for AWQ, 64 for scale estimation); here all methods use all."""
    import nncf
    from nncf.quantization import advanced_parameters as parts

    return nncf.AdvancedCompressionParameters(
        awq_params=parts.AdvancedAWQParameters(subset_size=n),
        scale_estimation_params=parts.AdvancedScaleEstimationParameters(subset_size=n),
        gptq_params=parts.AdvancedGPTQParameters(subset_size=n),
    )


def read_back(model: Any, job: Job) -> tuple[list[str], dict[str, Any]]:
    """Names of the compressed layers; every constant of four bits must belong to one of them."""
    layers, ends = [], []
    for name, node in linear_nodes(model).items():
        weight, scale = stored_weight(node)
        kind = weight.get_element_type().get_type_name()
        if kind.startswith("f"):
            continue
        size = weight.shape[-1]
        if kind != "i4" or job.group_size not in (-1, size) or scale is None or scale.shape[-1] != 1:
            raise LayersError(f"{name}: has {kind} in groups of {size}, not i4 in groups of {job.group_size}")
        layers.append(name)
        packed_codes = np.asarray(weight.data).view(np.uint8)  # two codes in a byte
        codes = np.stack([packed_codes & 15, packed_codes >> 4]).astype(np.int8)
        codes[codes > 7] -= 16
        ends.append((int(codes.min()), int(codes.max())))
    packed = sum(
        node.get_type_name() == "Constant" and node.get_element_type().get_type_name() in ("i4", "u4")
        for node in model.get_ops()
    )
    if packed != len(layers):
        raise LayersError(f"{packed} constants have four bits, and {len(layers)} linear layers")
    notes = {"codes": [min(low for low, _ in ends), max(high for _, high in ends)]} if ends else {}
    return layers, notes


@contextmanager
def _quiet() -> Iterator[None]:
    """NNCF prints tables and progress bars; inside this block only its errors are heard."""
    with open(os.devnull, "w", encoding="utf-8") as nowhere, redirect_stdout(nowhere), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import nncf  # noqa: F401 - it sets its own level when it is imported

        logger = logging.getLogger("nncf")
        before = logger.level
        logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            logger.setLevel(before)


def _method(name: str, settings: dict[str, bool]) -> None:
    def run(job: Job) -> Quantized:
        return quantize(job, settings)

    register(
        Method(
            name=f"nncf-{name}",
            run=run,
            calibrations=("english", "multilingual") if settings else ("none",),
            packages=("nncf", "openvino", "optimum", "optimum-intel"),
            about=f"NNCF on the OpenVINO model: INT4_SYM, {name}",
            bits=(4,),
        )
    )


for _name, _given in SETTINGS.items():
    _method(_name, _given)

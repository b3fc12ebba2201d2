"""AutoRound through Neural Compressor's torch API, which needs the package auto-round 0.9."""

from __future__ import annotations

import copy
import tempfile
from pathlib import Path
from typing import Any

import torch

from methods.grids import check_float, check_layers
from methods.inc_torch import quiet
from methods.registry import Job, Method, NotRunError, Quantized, Stopwatch, register, version


def _check() -> str | None:
    have = version("auto-round")
    if have is not None and not have.startswith("0.9."):
        return f"Neural Compressor 3.7 imports parts of auto-round 0.9 that version {have} does not have"
    return None


def _run(job: Job) -> Quantized:
    """Quantize a fresh copy with AutoRound's default settings but for half precision, on all rows.

    Raises
    ------
    NotRunError
        If auto-round cannot run the model's blocks, as Bloom's, whose position biases have another shape by now.
    LayersError
        If it quantized other layers than asked for.
    """
    with quiet():
        import neural_compressor.torch.quantization as inc

        model = copy.deepcopy(job.source.model)
        watch = Stopwatch()
        with tempfile.TemporaryDirectory(prefix="bench-methods-") as folder, watch.running():
            config = inc.AutoRoundConfig(
                bits=job.bits,
                group_size=job.group_size,
                use_sym=True,
                dtype="int",
                nsamples=len(job.rows),
                seqlen=max(row.numel() for row in job.rows),
                seed=job.seed,
                amp=False,  # with it the whole model becomes bfloat16, what stays in float too
                device_map="cpu",
                export_format="itrex",
                output_dir=str(Path(folder) / "out"),
            )
            model = inc.prepare(model, config)
            for row in job.rows:
                model(row)
            try:
                model = inc.convert(model)
            except (IndexError, RuntimeError) as error:
                raise NotRunError(f"auto-round stops with {type(error).__name__}: {error}") from error
    model.eval()
    layers = [name for name, module in model.named_modules() if _is_packed(module)]
    check_layers(layers, list(job.layers), "AutoRound")
    check_float(model, job.source.model, list(job.kept))
    return Quantized(model=model, layers=layers, seconds=watch.seconds, scheme="sym")


def _is_packed(module: Any) -> bool:
    return isinstance(module, torch.nn.Module) and type(module).__name__ in ("WeightOnlyLinear", "INCWeightOnlyLinear")


register(
    Method(
        name="inc-autoround",
        run=_run,
        calibrations=("english", "multilingual"),
        packages=("neural-compressor", "pydantic", "auto-round"),
        about="Neural Compressor: AutoRound",
        bits=(2, 3, 4, 8),
        check=_check,
    )
)

"""Measure a model by language with Neural Compressor, and quantize by what was measured, on a CPU.

A CPU computes FP8 by quantizing and dequantizing (`use_qdq`), which is what Neural Compressor allows there.  Files of
measurements go to a Gaudi as they are; files of scales do not, because the largest FP8 number of a Gaudi 2 is another
one.  Neural Compressor writes its scales beside the measurements and later prefers them to a newer measurement, so
everything that it writes here goes to a private folder.
"""

from __future__ import annotations

import copy
import json
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import nn

from inc_laaciq.backends.gaudi_fp8_files import Measurement, measurement_files
from inc_laaciq.backends.gaudi_fp8_names import DumpName, Rank
from inc_laaciq.backends.inc_registration import FP8_OBSERVER
from inc_laaciq.calibration.current_language import calibration_language
from inc_laaciq.calibration.loader import LanguageLoader
from inc_laaciq.errors import BackendError, SpecError

STOCK_OBSERVER = "maxabs"
CPU_METHODS = ("maxabs_pow2", "maxabs_arbitrary")
_HP_DTYPES = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}


def missing() -> str | None:
    """Why FP8 cannot be quantized here; None if it can."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            import_module("neural_compressor.torch.algorithms.fp8_quant.observer")
            import_module("torchao")  # what a CPU rounds to FP8 with
            module = import_module("neural_compressor.torch.quantization")
        except ImportError as error:
            return str(error)
    lacking = [name for name in ("FP8Config", "prepare", "convert") if not hasattr(module, name)]
    return f"neural_compressor.torch.quantization has no {', '.join(lacking)}" if lacking else None


def require() -> None:
    """Raise a BackendError that says what to install if `missing`."""
    if reason := missing():
        raise BackendError(
            "FP8 needs the torch API of neural-compressor 3.8 or later, with torchao, which cannot be imported: "
            f"{reason}. Install it with pip install 'inc-laaciq[torch-api]'"
        )


def measure(
    model: nn.Module, loader: LanguageLoader, *, blocklist: Sequence[str] = ("lm_head",)
) -> dict[str, Measurement]:
    """Largest magnitudes of every layer's input, for each language, as Neural Compressor's stock observer has them.

    Parameters
    ----------
    model : nn.Module
        Not changed: a copy of it is measured.
    loader : LanguageLoader
    blocklist : sequence of str
        Regular expressions; a module in whose name one is found stays as it is.

    Returns
    -------
    dict
        Language -> Measurement.  `write_measurements` writes them.

    Raises
    ------
    BackendError
        If Neural Compressor cannot do it here.
    NumericError
        If an activation is NaN or infinite.
    """
    require()
    from neural_compressor.torch.quantization import FP8Config, prepare

    from inc_laaciq.backends.gaudi_fp8_observer import language_measurements

    with tempfile.TemporaryDirectory(prefix="inc-laaciq-") as folder:
        settings = _settings(model, Path(folder), mode="MEASURE", observer=FP8_OBSERVER, blocklist=blocklist)
        prepared = prepare(copy.deepcopy(model), FP8Config.from_json_file(str(settings)))
        _run(prepared, loader)
        return language_measurements(prepared)


def write_measurements(
    found: Mapping[str, Measurement], folder: Path, *, name: str = "measure", rank: Rank = None
) -> dict[str, DumpName]:
    """Write a folder of each language, with files that Neural Compressor's stock observer reads.

    Parameters
    ----------
    found : mapping of language -> Measurement
    folder : Path
        Must exist; ``<folder>/<language>/<name>_hooks_maxabs.npz`` and the files beside it are written.
    rank : (rank, world), optional
        Of a distributed run.

    Returns
    -------
    dict
        Language -> name of its dump.
    """
    written = {}
    for tag, measurement in found.items():
        (folder / tag).mkdir(exist_ok=True)
        written[tag] = DumpName(prefix=folder / tag / name, observer=STOCK_OBSERVER, ranks=(rank,))
        for path, content in measurement_files(written[tag], rank, measurement).items():
            path.write_bytes(content)
    return written


def write_language_dumps(model: nn.Module, folder: Path, *, name: str = "measure") -> dict[str, DumpName]:
    """Write what this worker measured of each language: for a model that Neural Compressor prepared, on any device.

    Parameters
    ----------
    model : nn.Module
        From ``prepare(model, FP8Config(observer="laaciq", mode="MEASURE", ...))``, and run on text of every language
        inside `inc_laaciq.calibration_language`.
    folder : Path
        As for `write_measurements`; all workers write into the same one.
    """
    from inc_laaciq.backends.gaudi_fp8_observer import language_measurements, worker

    return write_measurements(language_measurements(model), folder, name=name, rank=worker(model))


def quantize(
    model: nn.Module,
    measured: Measurement,
    *,
    scale_method: str = "maxabs_pow2",
    blocklist: Sequence[str] = ("lm_head",),
) -> Any:
    """The model as stock Neural Compressor quantizes it to FP8 by a measurement.

    Parameters
    ----------
    model : nn.Module
        Not changed: a copy of it is quantized.
    measured : Measurement
        With ranges of every layer that is to be quantized.
    scale_method : {"maxabs_pow2", "maxabs_arbitrary"}
        Those that a CPU has.
    blocklist : sequence of str
        As for `measure`.

    Raises
    ------
    SpecError
        If the scale method needs a Gaudi.
    BackendError
        If Neural Compressor cannot do it here, or leaves a layer without a measurement.
    """
    require()
    if scale_method not in CPU_METHODS:
        raise SpecError(f"scale_method={scale_method!r} does not run on a CPU. Use {' or '.join(CPU_METHODS)}.")
    from neural_compressor.torch.quantization import FP8Config, convert

    with tempfile.TemporaryDirectory(prefix="inc-laaciq-") as folder:
        name = DumpName(prefix=Path(folder) / "measure", observer=STOCK_OBSERVER)
        for path, content in measurement_files(name, None, measured).items():
            path.write_bytes(content)
        settings = _settings(
            model,
            Path(folder),
            mode="QUANTIZE",
            observer=STOCK_OBSERVER,
            blocklist=blocklist,
            scale_method=scale_method,
        )
        quantized = convert(copy.deepcopy(model), FP8Config.from_json_file(str(settings)))
    without = [name for name, module in quantized.named_modules() if type(module).__name__ == "PatchedUnmeasuredModule"]
    if without:
        raise BackendError(
            f"no range was measured for {', '.join(without[:5])}, where Neural Compressor puts a module that only "
            "fails. Measure all modules, or name these in the blocklist."
        )
    return quantized


def input_scales(quantized: nn.Module) -> dict[str, float]:
    """The scale of each FP8 layer's input, which Neural Compressor multiplies codes by."""
    found = {}
    for name, module in quantized.named_modules():
        quantizer = getattr(module, "quant_input", None)
        if quantizer is not None and hasattr(quantizer, "scale"):
            found[name] = float(quantizer.scale)
    return found


def _settings(model: nn.Module, folder: Path, *, blocklist: Sequence[str], **more: Any) -> Path:
    """Write Neural Compressor's configuration; given one without a file it leaves files in the temporary folder."""
    dtype = next(model.parameters()).dtype
    if dtype not in _HP_DTYPES:
        raise SpecError(f"the model is in {dtype}, and FP8 is made from {', '.join(map(str, _HP_DTYPES))}.")
    content = {
        "dump_stats_path": str(folder / "measure"),
        "hp_dtype": _HP_DTYPES[dtype],
        "blocklist": {"names": list(blocklist), "types": []},
        "use_qdq": "True",
        "measure_on_hpu": "False",
        **more,
    }
    path = folder / "fp8.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


@torch.no_grad()
def _run(model: nn.Module, loader: LanguageLoader) -> None:
    model.eval()
    total = len(loader)
    done = 0
    for tag, batches in loader.batches.items():
        with calibration_language(tag):
            for batch in batches:
                model(input_ids=batch)
                done += 1
                if loader.progress is not None:
                    loader.progress("measuring", done, total)

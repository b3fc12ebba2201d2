"""Makes the OpenVINO model of every method: a folder with the model, ready to be deployed."""

from __future__ import annotations

import shutil
import time
import warnings
from pathlib import Path
from typing import Any

from methods import nncf_openvino
from methods.bench import Bench
from methods.cells import FLOAT
from methods.openvino_ir import exported, read
from methods.registry import Job

from inc_laaciq.backends.openvino_export import save_ir
from inc_laaciq.backends.openvino_ir import let_cache_be_compressed
from inc_laaciq.openvino import export

BITS = 4
OURS = {f"la_aciq-{mode}": mode for mode in ("fast", "balanced", "fair")}
THEIRS = {f"nncf-{name}": settings for name, settings in nncf_openvino.SETTINGS.items()}
MODEL = "openvino_model.xml"


def calibration_of(method: str) -> str:
    """What a method is calibrated on, as `Cell` names it."""
    return "none" if method == FLOAT or THEIRS.get(method) == {} else "multilingual"


def make(method: str, bench: Bench, job: Job, folder: Path) -> float:
    """Make a method's model; processor seconds.

    Ours go from the float model to the finished folder.  NNCF's start from the float model in OpenVINO's form, which is
    there by then; what that takes is the time of the method `float`.
    """
    shutil.rmtree(folder, ignore_errors=True)
    before = time.process_time()
    if method == FLOAT:
        path = exported(bench.source, folder.parent)
        folder.mkdir()
        _save(read(path), folder)
    elif method in OURS:
        _export(OURS[method], bench, job, folder)
    else:
        model, _ = nncf_openvino.compress(job, THEIRS[method])
        folder.mkdir()
        _save(model, folder)
    return time.process_time() - before


def _save(model: Any, folder: Path) -> None:
    let_cache_be_compressed(model)  # as optimum does to every model that it quantizes
    save_ir(model, folder / MODEL)


def _export(mode: str, bench: Bench, job: Job, folder: Path) -> None:
    calibration = {
        "texts": str(Path(bench.options.calibration).resolve()),
        "tokens_per_language": bench.options.calibration_tokens,
        "seed": job.seed,
    }
    config = {
        "quantization": {
            "approach": "post_training_weight_only",
            "model_wise": {"weight": {"bits": job.bits, "group_size": job.group_size, "scheme": "sym"}},
        },
        "la_aciq": {"mode": mode, "calibration": calibration},
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracer's, by the dozen
        export(bench.options.model, folder, config, floats="fp32", embeddings="float")

"""The way in through OpenVINO: a float model becomes an OpenVINO model that holds exactly what was solved, judged.

>>> from inc_laaciq.openvino import export  # doctest: +SKIP
>>> export("path/to/model", "model-int4", "conf.yaml").verdict  # doctest: +SKIP
'PASS'
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from inc_laaciq.config import RunSpec, WeightSpec
from inc_laaciq.errors import BackendError, ModelError, SpecError
from inc_laaciq.export_format import MODEL_FILE, Embeddings, ExportFormat, Floats, Task
from inc_laaciq.export_settings import export_settings
from inc_laaciq.inputs import input_paths
from inc_laaciq.output import OutputFolder, atomic_folder, check_space
from inc_laaciq.output.disk import disk_full, is_disk_full

if TYPE_CHECKING:
    from inc_laaciq.calibration.collect import Progress


@dataclass(frozen=True, kw_only=True)
class Export:
    """What became of an export.

    Parameters
    ----------
    folder : Path
        Where the result is: the output, or `<output>.failed` if the gate failed.
    report : dict
        Content of `laaciq.json`.
    exit_code : int
        0, 3 if the gate failed, 4 if it is not certain and `strict` was asked for.
    """

    folder: Path
    report: Mapping[str, Any]
    exit_code: int

    @property
    def verdict(self) -> str:
        """PASS, FAIL, INCONCLUSIVE or NOT-RUN."""
        return str(self.report["verdict"])


def export(
    model: str | Path | None,
    output: str | Path,
    config: str | Path | Mapping[str, Any] | RunSpec | None = None,
    *,
    task: Task = "text-generation-with-past",
    weight_format: Literal["int4", "int8"] | None = None,
    group_size: int | None = None,
    sym: bool | None = None,
    mode: str | None = None,
    calibration: str | Path | None = None,
    evaluation: str | Path | None = None,
    gate: str | Path | None = None,
    floats: Floats | None = None,
    embeddings: Embeddings = "float",
    trust_remote_code: bool = False,
    revision: str | None = None,
    allow_pickle: bool = False,
    overwrite: bool = False,
    keep_failed: bool = False,
    strict: bool = False,
    progress: Progress | None = None,
) -> Export:
    """Quantize a model, write it as an OpenVINO model, evaluate every language on it, and judge.

    Parameters
    ----------
    model : path or hub id
        A float model; None takes `la_aciq.model` of the configuration.
    output : path
        Folder that is written, complete or not at all.
    config : path, mapping or RunSpec, optional
        The same file as for Neural Compressor.  What the arguments below say goes before it.
    weight_format : "int4" or "int8", optional
    group_size : int, optional
        Weights that share a scale; -1 = an output channel, which `weight_format="int8"` takes unless told otherwise.
        Without a configuration 128 for int4, as in optimum-intel.
    sym : bool, optional
        Symmetric, which is the default without a configuration, or asymmetric.
    mode : "fast", "balanced" or "fair", optional
        Without a configuration "balanced" if there is calibration text, else "fast".
    calibration, evaluation : path, optional
        Folder of `<language>.txt`, or a JSONL file.
    gate : path or str, optional
        A policy file, or a bound on every language's degradation such as "5%".
    task, floats, embeddings
        As in `ExportFormat`.
    trust_remote_code, revision, allow_pickle
        For the model, as in `inc-laaciq quantize`.
    overwrite : bool
        Replace an output that is there.
    keep_failed : bool
        If the gate fails, keep the model as `<output>.failed`; the reports are kept there in any case.
    strict : bool
        A verdict that is not certain is a failure.
    progress : callable(stage, done, total), optional

    Returns
    -------
    Export

    Raises
    ------
    LaaciqError
        With what is wrong and what to do; nothing is left at `output` then.
    """
    run = export_settings(
        config,
        weight_format=weight_format,
        group_size=group_size,
        sym=sym,
        mode=mode,
        calibration=calibration,
        evaluation=evaluation,
        gate=gate,
    )
    if run.fp8 is not None:
        raise SpecError(
            f"quantization.approach: {run.approach} is for Gaudi, and not for OpenVINO. Use post_training_weight_only "
            "or post_training_static_quant"
        )
    form = ExportFormat(task=task, floats=floats, embeddings=embeddings)
    if run.approach == "post_training_static_quant" and run.activation.algorithm != "la_aciq":
        raise SpecError(
            f"quantization.model_wise.activation.algorithm: {run.activation.algorithm} is Neural Compressor's own. "
            "For OpenVINO, leave it out: the ranges are la_aciq's"
        )
    inputs = [*input_paths(model, config, run), *([gate] if gate is not None and os.path.isfile(gate) else [])]
    with atomic_folder(output, overwrite=overwrite, inputs=inputs) as folder:
        from inc_laaciq.artifacts import REPORTS, write_export
        from inc_laaciq.backends.openvino_export import check_exportable
        from inc_laaciq.backends.openvino_ir import require_openvino
        from inc_laaciq.evaluation.gate import exit_code
        from inc_laaciq.export_run import run_export
        from inc_laaciq.job import prepare

        require_openvino()
        _refuse_ir(model if model is not None else run.model)
        job = prepare(
            run,
            model,
            trust_remote_code=trust_remote_code,
            revision=revision,
            allow_pickle=allow_pickle,
            check=_carries,
        )
        check_exportable(job.source.model.config.model_type, form.task)
        if form.floats is None:
            form = replace(form, floats=_stored_floats(job.source.folder))
        # Besides what `quantize` writes, the float model is there for a time, in OpenVINO's form.
        check_space(output, job.plan.disk_bytes)
        with _told_of_a_full_disk(folder, job.plan.disk_bytes):
            exported = run_export(job, form, folder.folder, trust_remote_code=trust_remote_code, progress=progress)
        exported.report["strict"] = strict
        write_export(job, exported, folder)
        code = exit_code(exported.report["verdict"], run.la_aciq.gate, strict=strict)
        if code:
            folder.reject(keep_model=keep_failed, reports=REPORTS)
    if folder.result is None:
        raise RuntimeError("the output folder was left without a result")
    return Export(folder=folder.result, report=exported.report, exit_code=code)


@contextlib.contextmanager
def _told_of_a_full_disk(output: OutputFolder, needed: int) -> Iterator[None]:
    """OpenVINO says no more than that a stream failed."""
    try:
        yield
    except (BackendError, ModelError) as error:
        if error.__cause__ is not None and is_disk_full(error.__cause__, output.folder):
            raise disk_full(output.path, needed=needed) from error
        raise


def _refuse_ir(model: str | Path | None) -> None:
    if model is not None and os.path.isfile(os.path.join(model, MODEL_FILE)):
        raise ModelError(
            f"{model} is an OpenVINO model already. Give the float model that it was exported from: what is quantized "
            "twice has the errors of both"
        )


def _carries(_name: str, _weight: WeightSpec) -> None:
    """Every grid that the solver knows can be stored in 4 or 8 bits."""


def _stored_floats(folder: Path) -> Floats:
    """16 bits for a checkpoint of 16 bits, else 32."""
    from inc_laaciq.checkpoint.folder import read_config

    config = read_config(folder)
    dtype = config.get("dtype") or config.get("torch_dtype")
    return "fp16" if dtype in ("float16", "bfloat16") else "fp32"

"""Export of a float model to OpenVINO, by optimum-intel, and writing a model that was changed since."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from inc_laaciq.backends.interruption import uninterrupted
from inc_laaciq.backends.openvino_ir import quiet, require_openvino
from inc_laaciq.checkpoint.foreign import foreign_errors
from inc_laaciq.errors import BackendError, ModelError


def check_exportable(model_type: str, task: str) -> None:
    """Refuse a kind of model that optimum-intel cannot export, before any long work.

    Raises
    ------
    ModelError
    """
    require_openvino()
    with quiet():
        import optimum.exporters.openvino  # noqa: F401 - it makes its models known there
        from optimum.exporters.tasks import TasksManager

        try:
            known = TasksManager.get_supported_tasks_for_model_type(model_type, "openvino", library_name="transformers")
        except KeyError:
            known = {}
    if task not in known:
        raise ModelError(
            f"optimum-intel cannot export a {model_type} model for {task} to OpenVINO. Try a newer optimum-intel, or "
            "`inc-laaciq quantize`, which goes another way"
        )


def export_float(model: Any, tokenizer: Any, folder: Path, *, task: str, trust_remote_code: bool = False) -> Path:
    """Export a model in float32, with its configuration and tokenizer.

    Parameters
    ----------
    model : PreTrainedModel
        In memory; not modified.
    tokenizer : PreTrainedTokenizerBase
    folder : Path
    task : str
        Of `export_format.TASKS`.

    Returns
    -------
    Path of the model's xml file.

    Raises
    ------
    ModelError
        If optimum-intel cannot export the architecture.
    """
    require_openvino()
    with quiet(), foreign_errors(f"optimum-intel cannot export {type(model).__name__} to OpenVINO", kind=ModelError):
        from optimum.exporters.openvino import export_from_model
        from optimum.intel.openvino import OVConfig

        cached = getattr(model.config, "use_cache", None)
        # Without a type, models over a thousand million parameters are quantized to 8 bits by default.
        with uninterrupted():
            export_from_model(
                model, folder, task=task, ov_config=OVConfig(dtype="fp32"), trust_remote_code=trust_remote_code
            )
        model.config.use_cache = cached  # a model that is to keep nothing between calls is set so, and stays so
        tokenizer.save_pretrained(folder)
    path = folder / "openvino_model.xml"
    if not path.is_file():
        raise ModelError(f"optimum-intel exported {type(model).__name__} in several parts. Only one is supported")
    return path


def export_tokenizer(tokenizer: Any, folder: Path, *, task: str) -> bool:
    """Export the tokenizer as OpenVINO models, which openvino-genai needs; False if OpenVINO does not support it."""
    with quiet(), foreign_errors("optimum-intel cannot export the tokenizer", kind=BackendError):
        from optimum.exporters.openvino.convert import export_tokenizer as export

        export(copy.deepcopy(tokenizer), folder, task=task)  # it changes the side of padding
    return (folder / "openvino_tokenizer.xml").is_file()


def save_ir(model: Any, path: Path) -> None:
    """Write a model's xml and bin files, with every constant as it is."""
    openvino = require_openvino()
    with foreign_errors(f"{path}: OpenVINO cannot write it", kind=BackendError):
        openvino.save_model(model, str(path), compress_to_fp16=False)

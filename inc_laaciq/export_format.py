"""What an exported model is, beside its quantized layers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from inc_laaciq.config import checks
from inc_laaciq.config.checks import check_fields

Task = Literal["text-generation-with-past", "text-generation"]
Embeddings = Literal["float", "int8"]
Floats = Literal["fp32", "fp16"]
Runtime = Literal["default", "exact"]
"""What an OpenVINO model computes in: what OpenVINO takes if it is asked for nothing, or float32 throughout."""

TASKS: tuple[Task, ...] = get_args(Task)
EMBEDDINGS: tuple[Embeddings, ...] = get_args(Embeddings)
FLOATS: tuple[Floats, ...] = get_args(Floats)

RUNTIMES: tuple[Runtime, ...] = get_args(Runtime)

MODEL_FILE = "openvino_model.xml"
WEIGHTS_FILE = "openvino_model.bin"


@dataclass(frozen=True, kw_only=True)
class ExportFormat:
    """Form of an exported model.

    Parameters
    ----------
    task : "text-generation-with-past" or "text-generation"
        The first one keeps keys and values between calls, as generation needs.
    floats : "fp32", "fp16" or None
        How matrices that stay in float are stored; None stores those of a checkpoint of 16 bits in 16, of others in 32.
    embeddings : "float" or "int8"
        With "int8", one scale for each row; an output projection that is tied to them goes with them.
    """

    task: Task = "text-generation-with-past"
    floats: Floats | None = None
    embeddings: Embeddings = "float"

    def __post_init__(self) -> None:
        check_fields(
            self,
            task=checks.word(TASKS),
            floats=lambda value: None if value is None else checks.word(FLOATS)(value),
            embeddings=checks.word(EMBEDDINGS),
        )

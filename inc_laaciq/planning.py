"""What a run would do, before it does it: layers, memory, disk and time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from inc_laaciq.calibration.layers import Layer
from inc_laaciq.config.specs import NEED_TEXT
from inc_laaciq.layerwise import passes, statistics_bytes
from inc_laaciq.memory import available_memory

if TYPE_CHECKING:
    from torch import nn

# Seconds per million weights on one core: the solver alone on large layers, rounded up from
# benchmarks/results/speed.json.  That of `fair` is a guess: balanced, and the targets that it solves for besides.
_SOLVE_SECONDS = {"paper": 0.02, "fast": 0.3, "balanced": 1.5, "fair": 2.0}
# Mode `fair` runs a row of 256 tokens of every language through the model four times in each step, forward or back, and
# once for each row that it samples.
_ROW_TOKENS = 256
_STEP_PASSES = 4
_OPERATIONS = 2  # for each weight and token of a pass
_OPERATIONS_A_SECOND = 4e10
# Share of the memory that is free which statistics may take.
_SHARE = 0.4


@dataclass(frozen=True, kw_only=True)
class Plan:
    """An estimate of a run.

    Parameters
    ----------
    layers : tuple of Layer
    n_languages : int
    calibration_passes : int
        Times that the calibration text goes through the model.
    statistics_budget : int
        Bytes that statistics may take at a time.
    memory_bytes : int
        Peak on top of the float model that is loaded: its quantized copies, statistics, the solver's matrices.
    available_bytes : int or None
        Memory that is free now, as far as the system tells.
    disk_bytes : int
        What the output folder will take.
    solve_seconds : float
        On one core; calibration and evaluation come on top.
    """

    layers: tuple[Layer, ...]
    n_languages: int
    calibration_passes: int
    statistics_budget: int
    memory_bytes: int
    available_bytes: int | None
    disk_bytes: int
    solve_seconds: float

    @property
    def fits(self) -> bool:
        """Whether the estimate is within the memory that is free; True where that is unknown."""
        return self.available_bytes is None or self.memory_bytes <= self.available_bytes


def plan_run(
    layers: Sequence[Layer],
    model_bytes: int,
    n_languages: int,
    mode: str,
    *,
    counted: bool = False,
    tuning_steps: int = 0,
    sampled: int = 0,
) -> Plan:
    """Estimate a run from its layers and the size of the float model in bytes.

    Parameters
    ----------
    counted : bool
        Values are counted too, for static ranges.
    tuning_steps, sampled : int
        Of mode "fair": steps, and rows of each language that the model goes on with.
    """
    tokens = (_STEP_PASSES * tuning_steps + sampled) * _ROW_TOKENS * n_languages
    tuning = tokens * _OPERATIONS * (model_bytes / 4) / _OPERATIONS_A_SECOND
    solved = [layer for layer in layers if layer.weight is not None]
    full = mode in NEED_TEXT
    budget = statistics_memory()
    parts = passes(solved, n_languages, full=full, memory=budget, counted=counted) if n_languages else []
    statistics = max(
        (sum(statistics_bytes(layer, n_languages, full=full, counted=counted) for layer in part) for part in parts),
        default=0,
    )
    widest = max((layer.in_features for layer in solved), default=0)
    largest = max((layer.n_weights for layer in solved), default=0)
    matrices = 4 * (6 * widest * widest if full else 0) + 6 * 4 * largest
    packed = sum(layer.n_weights * _bits(layer) / 8 for layer in solved)
    codes = sum(layer.n_weights + 2 * layer.n_weights / _group(layer) for layer in solved)
    rest = model_bytes - 4 * sum(layer.n_weights for layer in solved)
    return Plan(
        layers=tuple(layers),
        n_languages=n_languages,
        calibration_passes=len(parts),
        statistics_budget=budget,
        memory_bytes=int(2 * model_bytes + 64 * sum(layer.n_weights / _group(layer) for layer in solved))
        + statistics
        + matrices,
        available_bytes=available_memory(),
        disk_bytes=int(model_bytes + packed + rest + codes),
        solve_seconds=_SOLVE_SECONDS[mode] * sum(layer.n_weights for layer in solved) / 1e6 + tuning,
    )


def _group(layer: Layer) -> int:
    size = layer.weight.group_size if layer.weight is not None else -1
    return layer.in_features if size == -1 else size


def _bits(layer: Layer) -> float:
    """Bits per packed weight, its share of the group's fp16 scale included."""
    return (layer.weight.bits if layer.weight is not None else 32) + 16 / _group(layer)


def module_bytes(module: nn.Module) -> int:
    """Bytes of a module's parameters and buffers, shared ones once, in memory or on the device "meta"."""
    tensors = {tensor.data_ptr() or id(tensor): tensor for tensor in [*module.parameters(), *module.buffers()]}
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())


def statistics_memory() -> int:
    """Bytes that statistics may take: a share of what is free, 4 GiB where that is unknown."""
    available = available_memory()
    return 4 << 30 if available is None else int(_SHARE * available)

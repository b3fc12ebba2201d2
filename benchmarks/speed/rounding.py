"""Solving without data, against absmax rounding of the same weights and against merely reading them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from inc_laaciq.quant.solver import SolverSpec, solve
from speed.names import BLOCKED, COPY, FAST, READ, UNBLOCKED
from speed.settings import Settings
from speed.timing import interleave, ratios, rows, timed

_GRID_END = 7
_BLOCK = 1 << 16  # weights: a block and what is made of it fit the cache of a core


def measure(settings: Settings) -> dict[str, Any]:
    """Seconds, and bandwidths: bytes of float32 weights read in a second, for the copy also those written."""
    torch.manual_seed(0)
    weight = torch.randn(*settings.rounding)
    array, target = weight.numpy(), np.empty(settings.rounding, np.float32)
    group = settings.group_size

    def mode(name: str, group_size: int, *, signed: bool = True) -> Any:
        spec = SolverSpec(bits=4, group_size=group_size, mode=name, signed=signed)
        return timed(lambda: solve(weight, spec))

    work = {
        READ: timed(weight.sum),
        COPY: timed(lambda: np.copyto(target, array)),
        BLOCKED: timed(lambda: absmax(weight, -1, _BLOCK)),
        UNBLOCKED: timed(lambda: absmax(weight, -1, weight.numel())),
        f"absmax group {group}, blocked": timed(lambda: absmax(weight, group, _BLOCK)),
        FAST: mode("fast", -1),
        f"fast group {group}": mode("fast", group),
        f"fast group {group}, positive scales": mode("fast", group, signed=False),
        "paper per channel": mode("paper", -1),
        f"paper group {group}": mode("paper", group),
    }
    methods = rows(interleave(work, settings.repetitions), weight.numel())
    for name, found in methods.items():
        moved = weight.nbytes * (2 if name == COPY else 1)
        found["bytes_per_second"] = moved / found["seconds"]
        found["million_weights_per_second"] = 1 / found["seconds_per_million_weights"]
    bandwidth = methods[READ]["bytes_per_second"]
    for found in methods.values():
        found["share_of_read_bandwidth"] = found["bytes_per_second"] / bandwidth
    pairs = [(FAST, BLOCKED), (FAST, UNBLOCKED), (f"fast group {group}", f"absmax group {group}, blocked")]
    return {
        "weights": weight.numel(),
        "bytes": weight.nbytes,
        "group_size": group,
        "methods": methods,
        "ratios": ratios(methods, pairs),
    }


def absmax(weight: torch.Tensor, group_size: int, block: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes and scales of plain absmax rounding to 4 bits, so many weights at a time, without a needless copy."""
    size = weight.shape[1] if group_size == -1 else group_size
    groups = weight.view(-1, size)
    rows_at_once = max(1, block // size)
    codes = torch.empty(groups.shape, dtype=torch.int8)
    scales = torch.empty(len(groups), 1)
    levels = torch.empty(min(rows_at_once, len(groups)), size)
    for start in range(0, len(groups), rows_at_once):
        part = groups[start : start + rows_at_once]
        low, high = torch.aminmax(part, dim=1, keepdim=True)
        scale = torch.maximum(-low, high).div_(_GRID_END)
        scale = scale.half().float().clamp_min_(torch.finfo(torch.float16).tiny)
        scales[start : start + rows_at_once] = scale
        rounded = torch.div(part, scale, out=levels[: len(part)]).round_().clamp_(-_GRID_END, _GRID_END)
        codes[start : start + rows_at_once] = rounded
    return codes.view(weight.shape), scales

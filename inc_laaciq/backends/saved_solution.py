"""Read back what was solved: `scales.safetensors` and `laaciq.json` of an output folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from inc_laaciq.backends.inc_saved import SCALES
from inc_laaciq.calibration.folding import Fold
from inc_laaciq.checkpoint.digest import verify_manifest
from inc_laaciq.checkpoint.safetensors_file import read_header
from inc_laaciq.errors import IntegrityError
from inc_laaciq.quant.grid import Grid
from inc_laaciq.quant.solver import QuantizedWeight


@dataclass(frozen=True, kw_only=True)
class SavedSolution:
    """Codes and scales of the layers, and the folds that they were solved with."""

    weights: Mapping[str, QuantizedWeight]
    folds: tuple[Fold, ...]


def read_solution(folder: Path, record: Mapping[str, Any]) -> SavedSolution:
    """Read the solution of an output folder.

    Parameters
    ----------
    folder : Path
    record : mapping
        Its `laaciq.json`, which promises the hash of the file.

    Raises
    ------
    IntegrityError
        If the file is not the one of the record, or the two do not fit each other.
    """
    file = folder / SCALES
    try:
        promised = {name: digest for name, digest in record["files"].items() if name == SCALES}
        layers = {layer["name"]: layer for layer in record["layers"] if "bits" in layer}
        folds = {fold["norm"]: tuple(fold["layers"]) for fold in record["folds"]}
    except (AttributeError, KeyError, TypeError) as error:
        raise IntegrityError(f"{folder}: laaciq.json is not a complete record ({error!r}); quantize again") from error
    verify_manifest(folder, promised, required=[SCALES])
    read_header(file)
    tensors = load_file(str(file))
    # Embeddings of an OpenVINO model, and a projection that is tied to them, are in the record and not in the file.
    weights = {
        name: _weight(file, name, layer, tensors) for name, layer in layers.items() if f"{name}.codes" in tensors
    }
    found = tuple(
        Fold(norm=norm, layers=names, scale=_taken(file, tensors, f"{norm}.fold")) for norm, names in folds.items()
    )
    if tensors:
        raise IntegrityError(f"{file}: {', '.join(sorted(tensors)[:5])} is not in laaciq.json; quantize again")
    return SavedSolution(weights=weights, folds=found)


def _taken(file: Path, tensors: dict[str, torch.Tensor], name: str) -> torch.Tensor:
    tensor = tensors.pop(name, None)
    if tensor is None:
        raise IntegrityError(f"{file}: {name} is missing; quantize again")
    return tensor


def _weight(file: Path, name: str, layer: Mapping[str, Any], tensors: dict[str, torch.Tensor]) -> QuantizedWeight:
    grid = Grid(bits=layer["bits"], scheme=layer["scheme"])
    codes, scale = _taken(file, tensors, f"{name}.codes"), _taken(file, tensors, f"{name}.scale")
    zero_point = _taken(file, tensors, f"{name}.zero_point") if grid.scheme == "asym" else None
    columns = layer["group_size"] if layer["group_size"] != -1 else codes.shape[-1]
    is_sound = (
        codes.dtype == grid.code_dtype
        and codes.dim() == 2
        and codes.numel() == layer["n_weights"]
        and scale.dtype == torch.float16
        and scale.shape == (len(codes), codes.shape[1] // columns)
        and bool(torch.isfinite(scale).all())
        and grid.qmin <= int(codes.min()) <= int(codes.max()) <= grid.qmax
        and (zero_point is None or (zero_point.shape == scale.shape and int(zero_point.max()) <= grid.qmax))
    )
    if not is_sound:
        raise IntegrityError(
            f"{file}: what it holds of layer {name!r} does not fit {layer['bits']} bits {layer['scheme']} in groups of "
            f"{layer['group_size']}, which laaciq.json says; quantize again"
        )
    return QuantizedWeight(
        codes=codes, scale=scale.float(), zero_point=zero_point, grid=grid, group_size=layer["group_size"]
    )

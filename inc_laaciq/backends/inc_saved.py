"""Quantized models on disk: Neural Compressor's own form, the packed form, and the codes as solved.

Neural Compressor's own form is what its `load` reads: `best_model.pt`, `qconfig.json` and `gptq_config.json` of the
adaptor API hold fake-quantized float weights, `quantized_weight.pt` and `qconfig.json` of the torch API packed layers.
`packed.safetensors` holds Neural Compressor's packed layers in the form that both APIs read, and is what is deployed
and evaluated.  `scales.safetensors` holds the solver's codes and scales, the same names in every backend.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from inc_laaciq.backends.inc_api import is_available, quiet, require
from inc_laaciq.backends.restoring import restore
from inc_laaciq.calibration.folding import Fold
from inc_laaciq.calibration.layers import linear_layer
from inc_laaciq.checkpoint.foreign import foreign_errors
from inc_laaciq.checkpoint.pickled import check_torch_version
from inc_laaciq.errors import BackendError, IntegrityError
from inc_laaciq.quant.solver import QuantizedWeight

PACKED = "packed.safetensors"
SCALES = "scales.safetensors"
INC_MODEL = "best_model.pt"


def save_inc(quantized: Any, folder: Path) -> None:
    """Neural Compressor's own saved form."""
    with quiet():
        quantized.save(str(folder))


def save_solution(weights: Mapping[str, QuantizedWeight], file: Path, *, folds: Sequence[Fold] = ()) -> None:
    """Codes (int8, uint8 when asym), scales (fp16) and zero points of every layer, and what columns were scaled by."""
    tensors: dict[str, torch.Tensor] = {}
    for name, weight in weights.items():
        tensors[f"{name}.codes"] = weight.codes.contiguous()
        tensors[f"{name}.scale"] = weight.scale.half().contiguous()
        if weight.zero_point is not None:
            tensors[f"{name}.zero_point"] = weight.zero_point.contiguous()
    for fold in folds:
        tensors[f"{fold.norm}.fold"] = fold.scale.contiguous()
    save_file(tensors, str(file))


def pack(quantized: Any) -> nn.Module:
    """Neural Compressor's packed model; the layers of `quantized` are replaced.

    Scales stay in float32 in memory (they hold fp16 values), so that the packed layers compute with exactly the
    solver's weights: Neural Compressor's fp16 form rounds every product of code and scale once more.
    """
    packed: nn.Module = quantized.export_compressed_model(use_optimum_format=False, scale_dtype=torch.float32)
    return packed


def save_packed(packed: nn.Module, file: Path) -> None:
    """Weights of a packed model; scales as fp16, tied weights once."""
    tensors: dict[str, torch.Tensor] = {}
    seen: set[tuple[int, torch.Size]] = set()
    for name, tensor in packed.state_dict().items():
        key = (tensor.data_ptr(), tensor.shape)
        if key in seen:
            continue
        seen.add(key)
        tensors[name] = (tensor.half() if _is_scale(packed, name) else tensor).contiguous()
    save_file(tensors, str(file))


def _is_scale(model: nn.Module, name: str) -> bool:
    parent, _, leaf = name.rpartition(".")
    return leaf == "scales" and hasattr(model.get_submodule(parent), "qweight")


def load_int8(skeleton: nn.Module, file: Path) -> nn.Module:
    """A static INT8 model from Neural Compressor's saved form; weights only, never code.

    Parameters
    ----------
    skeleton : nn.Module
        The architecture with any weights.
    file : Path
        `best_model.pt`.

    Raises
    ------
    IntegrityError
        If the file is damaged, or holds more than tensors and plain data.
    BackendError
        If the adaptor API is not there, which alone reads it.
    """
    if not is_available("adaptor"):
        raise BackendError(
            f"{file} is static INT8 as Neural Compressor's adaptor API saves it, and only that API (neural-compressor "
            "2.6 to 3.7) reads it. Install it with pip install 'inc-laaciq[adaptor]', or quantize again with "
            "--api torch"
        )
    from neural_compressor.utils.pytorch import load

    check_torch_version(torch.__version__)
    what = f"{file}: cannot be read as weights, and was not read any further"
    with foreign_errors(what, kind=IntegrityError), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        state = torch.load(file, weights_only=True)
    with quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loaded: nn.Module = load(state, skeleton)
    return loaded.eval()


def load_packed(skeleton: nn.Module, layers: Sequence[Mapping[str, Any]], file: Path) -> nn.Module:
    """A packed model from its file.

    Parameters
    ----------
    skeleton : nn.Module
        The architecture with any weights, its `Conv1D` layers linearized; changed and returned.
    layers : sequence of mapping
        `layers` of `laaciq.json`: name, bits, group_size, scheme of the packed ones.
    file : Path
        `packed.safetensors`.

    Raises
    ------
    IntegrityError
        If the file does not hold exactly the weights that the layers need.
    """
    make = _adaptor_layer if is_available("adaptor") else _torch_layer
    for layer in layers:
        if "bits" in layer:
            parent, _, child = layer["name"].rpartition(".")
            packed = make(linear_layer(skeleton, layer["name"]), layer)
            setattr(skeleton.get_submodule(parent), child, packed)
    return restore(skeleton, file)


def _adaptor_layer(linear: nn.Linear, layer: Mapping[str, Any]) -> nn.Module:
    """An empty packed layer of the adaptor API."""
    from neural_compressor.adaptor.torch_utils.model_wrapper import WeightOnlyLinear

    packed: nn.Module = WeightOnlyLinear(
        linear.in_features,
        linear.out_features,
        layer["bits"],
        layer["group_size"],
        zp=layer["scheme"] == "asym",
        bias=linear.bias is not None,
        scale_dtype=torch.float32,
        use_optimum_format=False,
    )
    return packed


def _torch_layer(linear: nn.Linear, layer: Mapping[str, Any]) -> nn.Module:
    """An empty packed layer of the torch API."""
    require("torch")
    from inc_laaciq.backends.inc_torch_packing import exact_layer

    return exact_layer(
        linear.in_features,
        linear.out_features,
        bits=layer["bits"],
        group_size=layer["group_size"],
        is_asym=layer["scheme"] == "asym",
        has_bias=linear.bias is not None,
    )

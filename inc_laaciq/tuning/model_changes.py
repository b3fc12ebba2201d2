"""What quantization did to a model, told from the model itself and not from what was asked for."""

from __future__ import annotations

import hashlib

import torch
from torch import nn


def changed_layers(before: nn.Module, after: nn.Module) -> list[str]:
    """Names of the layers whose weights or kind differ.

    Parameters
    ----------
    before, after : nn.Module
        The float model, and what was made of a copy of it.

    Returns
    -------
    list of str
        Layers with a matrix of weights; `graph` where only the code of a traced model differs.  An empty list means
        that nothing was quantized.
    """
    modules = dict(after.named_modules())
    found = [
        name
        for name, module in before.named_modules()
        if (weight := _matrix(module)) is not None and not _is_same(module, weight, modules.get(name))
    ]
    if not found and getattr(before, "code", None) != getattr(after, "code", None):
        return ["graph"]
    return found


def _matrix(module: nn.Module | None) -> torch.Tensor | None:
    weight = getattr(module, "weight", None)
    return weight if isinstance(weight, torch.Tensor) and weight.dim() > 1 else None


def _is_same(module: nn.Module, weight: torch.Tensor, other: nn.Module | None) -> bool:
    found = _matrix(other)
    return (
        type(module) is type(other)
        and found is not None
        and found.dtype == weight.dtype
        and found.shape == weight.shape
        and bool(torch.equal(found, weight.to(found.device)))
    )


def state_digest(model: nn.Module) -> str:
    """Hash of all parameters and buffers with their names; equal for models that compute the same."""
    digest = hashlib.sha256()
    for name, value in model.state_dict().items():
        if not isinstance(value, torch.Tensor):
            digest.update(f"{name} {value!r}\n".encode())
            continue
        tensor = value.dequantize() if value.is_quantized else value
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def leave_inference_mode(model: nn.Module) -> None:
    """Replace tensors that were made in torch's inference mode by ordinary ones, so that the model runs anywhere.

    Neural Compressor's packed layers keep what they unpacked when they first ran, and that was during an evaluation.
    """
    for module in model.modules():
        for place in (module.__dict__, module._buffers):
            for name, value in list(place.items()):
                if isinstance(value, torch.Tensor) and value.is_inference():
                    place[name] = value.clone()


def release(model: nn.Module) -> None:
    """Free what a model holds, whoever else keeps the object; it cannot be used any more."""
    for module in list(model.modules()):
        module.__dict__.clear()

"""Reads quantized weights back, so that what a method was asked for is what it did."""

from __future__ import annotations

from typing import Any

import torch

from methods.registry import LayersError


def check_layers(found: list[str], wanted: list[str], method: str) -> None:
    """Refuse a method that quantized another set of layers.

    Raises
    ------
    LayersError
        Naming the layers that differ.
    """
    if sorted(found) != sorted(wanted):
        raise LayersError(f"{method} quantized other layers than asked for: {sorted(set(found) ^ set(wanted))}")


def check_grid(
    name: str, weight: torch.Tensor, scales: torch.Tensor, group: torch.Tensor, *, bits: int, group_size: int
) -> tuple[int, int]:
    """Smallest and largest integer code of a symmetric layer, `weight` being what its codes stand for.

    Parameters
    ----------
    weight : tensor, shape (out_features, in_features)
    scales : tensor, shape (out_features, n_groups)
    group : integer tensor, shape (in_features,)
        Group of each column.

    Raises
    ------
    LayersError
        If there are other groups than asked for, or values that no code of so many bits and no zero point gives.
    """
    rows, columns = weight.shape
    size = columns if group_size == -1 else group_size
    if tuple(scales.shape) != (rows, columns // size) or not bool((torch.bincount(group.long()) == size).all()):
        raise LayersError(f"{name}: scales of shape {tuple(scales.shape)}, not {(rows, columns // size)}")
    steps = weight.float() / scales.float()[:, group.long()]
    codes = steps.round()
    if float((steps - codes).abs().max()) > 0.01 or float(codes.max() - codes.min()) > 2**bits - 1:
        raise LayersError(f"{name}: has values that {bits} bits without a zero point do not give")
    return int(codes.min()), int(codes.max())


def check_float(model: torch.nn.Module, source: Any, kept: list[str]) -> None:
    """Refuse a model whose embeddings, or layers that were to stay in float, are not those of the float model.

    Raises
    ------
    LayersError
        Naming the layer.
    """
    embeddings = [name for name, module in source.named_modules() if isinstance(module, torch.nn.Embedding)]
    for name in (*kept, *embeddings):
        before, after = source.get_submodule(name).weight, getattr(model.get_submodule(name), "weight", None)
        if after is None or after.dtype != before.dtype or not torch.equal(before, after):
            raise LayersError(f"{name} was to stay in float and was changed")

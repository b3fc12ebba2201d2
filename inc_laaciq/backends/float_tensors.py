"""What a packed checkpoint holds of a model beside its packed layers."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import torch
from torch import nn

from inc_laaciq.errors import SpecError

_TYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}


class FloatTensors:
    """Name and tensor of everything but the weights of some layers: each once, in the smallest type that is exact.

    Parameters
    ----------
    model : nn.Module
        In float32.
    packed : collection of str
        Layers whose weights are left out; their biases are not.
    dtype : "float16", "bfloat16" or "float32"
        Tensors that it does not hold exactly stay in float32: norms that took the scale of columns, for example.

    Raises
    ------
    SpecError
        If the type is another.
    """

    def __init__(self, model: nn.Module, packed: Collection[str], dtype: str) -> None:
        if dtype not in _TYPES:
            raise SpecError(f"dtype={dtype!r} is not known; it is one of {', '.join(_TYPES)}")
        self._model, self._packed, self._dtype = model, packed, dtype
        self._inexact: list[str] = []

    def __iter__(self) -> Iterator[tuple[str, torch.Tensor]]:
        seen: set[tuple[int, torch.Size]] = set()
        for name, tensor in self._model.state_dict().items():
            layer, _, leaf = name.rpartition(".")
            key = (tensor.data_ptr(), tensor.shape)
            # Embeddings come before a projection that is tied to them, and are what loaders tie it to.
            if (leaf == "weight" and layer in self._packed) or key in seen:
                continue
            seen.add(key)
            yield name, self._stored(name, tensor)

    def _stored(self, name: str, tensor: torch.Tensor) -> torch.Tensor:
        if not tensor.is_floating_point():
            return tensor
        small = tensor.to(_TYPES[self._dtype])
        if torch.equal(small.to(tensor.dtype), tensor):
            return small
        self._inexact.append(name)
        return tensor

    @property
    def dtype(self) -> str:
        """In which type a model computes with exactly what is stored; known after all tensors were given."""
        return "float32" if self._inexact else self._dtype

    def notes(self) -> list[str]:
        """What a reader should know."""
        if not self._inexact:
            return []
        return [
            f"{len(self._inexact)} tensors are not exact in {self._dtype} ({', '.join(self._inexact[:3])}): they are "
            "stored in float32, and the model is marked as float32"
        ]

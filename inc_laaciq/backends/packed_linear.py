"""A linear layer that runs on its packed GPTQ codes."""

from __future__ import annotations

import torch
from torch import nn

from inc_laaciq.backends.gptq_layout import Variant, read_gptq_tensors


class PackedLinear(nn.Module):
    """Computes what a linear layer with the dequantized weight computes.

    The weight exists only while the layer runs, so a model takes the memory of its packed codes and of one layer in
    float.  It is exact in float32; in 16 bits each weight is rounded once.

    Parameters
    ----------
    in_features, out_features : int
    bits : int
        2, 4 or 8.
    group_size : int
        -1 = all columns.
    variant : "gptq" or "gptq_v2"
    bias : tensor, shape (out_features,), or None
        Whose type and device count, not its values.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        bits: int,
        group_size: int,
        variant: Variant,
        bias: torch.Tensor | None,
    ) -> None:
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        self.bits, self.group_size, self.variant = bits, group_size, variant
        groups = 1 if group_size == -1 else in_features // group_size
        self.register_buffer("qweight", torch.zeros(in_features * bits // 32, out_features, dtype=torch.int32))
        self.register_buffer("qzeros", torch.zeros(groups, out_features * bits // 32, dtype=torch.int32))
        self.register_buffer("scales", torch.zeros(groups, out_features, dtype=torch.float16))
        self.register_buffer("g_idx", torch.zeros(in_features, dtype=torch.int32))
        self.bias = None if bias is None else nn.Parameter(torch.zeros_like(bias), requires_grad=False)

    def dequantize(self) -> torch.Tensor:
        """The weight, shape (out_features, in_features), float32."""
        qweight, qzeros, scales = self.get_buffer("qweight"), self.get_buffer("qzeros"), self.get_buffer("scales")
        return read_gptq_tensors(qweight, qzeros, scales, bits=self.bits, variant=self.variant).dequantize()

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Outputs, shape (..., out_features), in the type of the inputs."""
        return nn.functional.linear(input, self.dequantize().to(input.dtype), self.bias)

    def extra_repr(self) -> str:
        """What the layer is, for `print(model)`."""
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, bits={self.bits}, "
            f"group_size={self.group_size}, bias={self.bias is not None}"
        )

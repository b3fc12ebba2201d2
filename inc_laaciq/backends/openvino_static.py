"""Static INT8 in an OpenVINO model: the inputs of quantized layers are rounded to the range that was solved for them.

Every quantized linear layer gets a `FakeQuantize` in front, which OpenVINO's CPU plugin turns into integers; layers
that share their input share it.  Other operations, such as the products within attention, stay in float.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from inc_laaciq.backends.openvino_ir import linear_nodes
from inc_laaciq.errors import BackendError
from inc_laaciq.quant.activation import Range, aligned_ends

_BITS = 8


def put_ranges(model: Any, ranges: Mapping[str, Range]) -> None:
    """Round the inputs of layers to eight bits between the ends of their ranges.

    Parameters
    ----------
    model : openvino.Model
        Changed.
    ranges : mapping of layer -> Range

    Raises
    ------
    BackendError
        If a layer is not in the model.
    """
    from openvino import opset13

    nodes = linear_nodes(model)
    rounded: dict[tuple[Any, ...], Any] = {}
    for name, limits in ranges.items():
        if name not in nodes:
            raise BackendError(f"the exported model has no linear layer {name!r}. Leave it in float with op_wise")
        ends = tuple(np.float32(end) for end in aligned_ends(limits, _BITS))
        for node in nodes[name]:
            port = node.input(0)
            source = port.get_source_output()
            key = (source.get_node().get_friendly_name(), source.get_index(), *map(float, ends))
            if key not in rounded:
                label = f"{key[0]}/fq_output_{key[1]}"
                rounded[key] = opset13.fake_quantize(source, *ends, *ends, levels=1 << _BITS, name=label).output(0)
            port.replace_source_output(rounded[key])

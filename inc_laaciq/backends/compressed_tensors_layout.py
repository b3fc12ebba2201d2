"""The pack-quantized form of the `compressed-tensors` package: tensors of a layer, and the configuration.

    weight_packed       (out_features, in_features * bits / 32)   int32    codes, packed along the inputs
    weight_scale        (out_features, n_groups)                  float16
    weight_zero_point   (out_features * bits / 32, n_groups)      int32    packed along the outputs; only asym
    weight_shape        (2,)                                      int64

The package calls the codes signed and stores them with 2**(bits-1) added, which are our unsigned ones. Layers may
differ in bits, groups and scheme.  Nothing of the package is needed to write it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from inc_laaciq.backends.packed_integers import PackedForm, common_form, pack_words, unsigned_codes
from inc_laaciq.quant.solver import QuantizedWeight


def compressed_tensors(weight: QuantizedWeight) -> dict[str, torch.Tensor]:
    """Tensors of a layer by the last part of their names."""
    form = common_form([weight])
    codes = unsigned_codes(weight, form)
    tensors = {
        "weight_packed": pack_words(codes.codes, form.bits),
        "weight_scale": codes.scale,
        "weight_shape": torch.tensor(weight.codes.shape),
    }
    if not form.sym:
        tensors["weight_zero_point"] = pack_words(codes.zero_point.T, form.bits).T
    return tensors


def compressed_tensors_config(weights: Mapping[str, QuantizedWeight], float_layers: Sequence[str]) -> dict[str, Any]:
    """`quantization_config` of such a checkpoint.

    Parameters
    ----------
    weights : mapping of layer name -> QuantizedWeight
    float_layers : sequence of str
        Linear layers that are not quantized.
    """
    layers: dict[PackedForm, list[str]] = defaultdict(list)
    for name, weight in weights.items():
        layers[common_form([weight])].append(name)
    groups = {
        f"group_{number}": {
            # The class, where one form is all there is: readers that fuse layers know no names of single ones.
            "targets": ["Linear"] if len(layers) == 1 else names,
            "weights": {
                "num_bits": form.bits,
                "type": "int",
                "symmetric": form.sym,
                "strategy": "channel" if form.group_size == -1 else "group",
                "group_size": None if form.group_size == -1 else form.group_size,
                "dynamic": False,
            },
            "input_activations": None,
            "output_activations": None,
        }
        for number, (form, names) in enumerate(layers.items())
    }
    return {
        "quant_method": "compressed-tensors",
        "format": "pack-quantized",
        "quantization_status": "compressed",
        "config_groups": groups,
        "ignore": list(float_layers),
        "kv_cache_scheme": None,
    }

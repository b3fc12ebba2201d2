"""A Hugging Face checkpoint with packed layers: GPTQ layout, or compressed-tensors' pack-quantized form.

What is stored computes exactly the weights that were solved.  Who reads it rounds as it does: Neural Compressor and
gptqmodel round each product of code and scale to 16 bits, and loaders that hold scales in bfloat16 round those; only
`packed_loading` and, in float32, compressed-tensors compute without.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import nn

from inc_laaciq.backends.compressed_tensors_layout import compressed_tensors, compressed_tensors_config
from inc_laaciq.backends.float_tensors import FloatTensors
from inc_laaciq.backends.gptq_layout import Variant, gptq_codes, gptq_tensors
from inc_laaciq.backends.packed_integers import common_form
from inc_laaciq.backends.packed_readers import NEURAL_COMPRESSOR, GptqFacts, modules_in_block, problems
from inc_laaciq.backends.shard_files import SHARD_BYTES, write_shards
from inc_laaciq.calibration.folding import Fold, folded
from inc_laaciq.calibration.layers import linear_layer
from inc_laaciq.errors import BackendError, ModelError
from inc_laaciq.quant.solver import QuantizedWeight

Layout = Literal["gptq", "gptq_v2", "compressed-tensors"]
LAYOUTS: tuple[Layout, ...] = get_args(Layout)


@dataclass(frozen=True, kw_only=True)
class PackedCheckpoint:
    """What was written.

    Parameters
    ----------
    quantization_config : mapping
        As in config.json.
    dtype : str
        In which loaders run it unless they are told otherwise.
    n_bytes : int
        Of all tensors.
    readers : mapping of reader -> list of str
        What is known to stand in its way; empty for compressed-tensors, which its own package reads.
    notes : tuple of str
    """

    quantization_config: Mapping[str, Any]
    dtype: str
    n_bytes: int
    readers: Mapping[str, list[str]]
    notes: tuple[str, ...]


def write_packed_checkpoint(
    model: nn.Module,
    weights: Mapping[str, QuantizedWeight],
    folder: Path | None,
    *,
    folds: Sequence[Fold] = (),
    layout: Layout = "gptq",
    positive_scales: bool = False,
    dtype: str = "float32",
    shard_bytes: int = SHARD_BYTES,
) -> PackedCheckpoint:
    """Write config.json and the weights; a tokenizer is the caller's to add.

    Parameters
    ----------
    model : PreTrainedModel
        The float model that was quantized; its norms are scaled meanwhile, and it is left as it was.
    weights : mapping of layer name -> QuantizedWeight
        `weights` of a `Solution`.
    folder : Path or None
        Exists; None writes nothing, and still finds everything that writing would find.
    folds : sequence of Fold
        `folds` of the `Solution`.
    layout : "gptq", "gptq_v2" or "compressed-tensors"
    positive_scales : bool
        GPTQ only: no negative scales, at the price of zero points that are not in the middle.
    dtype : "float16", "bfloat16" or "float32"
        Of what is not quantized, where it holds the values exactly; the others stay in float32.
    shard_bytes : int
        Of one file, at most.

    Raises
    ------
    ModelError
        If the layout cannot carry a layer, or a layer is not linear in the model that loaders build.
    BackendError
        If a fold cannot be applied: the codes would be those of another model.
    """
    kept = _check_layers(model, weights)
    facts = None
    if layout == "compressed-tensors":
        packed = _compressed_layers(weights, positive_scales=positive_scales)
    else:
        facts = GptqFacts(form=common_form(weights.values()), variant=layout)
        packed = _gptq_layers(model, weights, facts, layout, positive_scales=positive_scales)
    with folded(model, folds) as applied:
        if len(applied) != len(folds):
            missing = sorted({fold.norm for fold in folds} - {fold.norm for fold in applied})
            raise BackendError(f"the norms {', '.join(missing)} cannot take the scale that the codes were solved with")
        floats = FloatTensors(model, set(weights), dtype)
        tensors = _all_tensors(floats, packed)
        if folder is None:
            n_bytes = sum(tensor.nbytes for _, tensor in tensors)
        else:
            n_bytes = write_shards(tensors, folder, shard_bytes=shard_bytes)
    if facts is None:
        config = compressed_tensors_config(weights, kept)
        readers: dict[str, list[str]] = {}
        notes = _widened(weights, "each layer")
    else:
        config, readers, notes = _gptq_config(model, weights, kept, facts)
    notes += floats.notes()
    if folder is not None:
        _write_config(model, config, floats.dtype, folder)
    return PackedCheckpoint(
        quantization_config=config, dtype=floats.dtype, n_bytes=n_bytes, readers=readers, notes=tuple(notes)
    )


def _check_layers(model: nn.Module, weights: Mapping[str, QuantizedWeight]) -> list[str]:
    """Linear layers that stay in float; refuses a model of which loaders would make something else."""
    if not weights:
        raise ModelError("no layer was quantized, so there is nothing to pack")
    if fused := [name for name, module in model.named_modules() if _is_fused(module)]:
        raise ModelError(
            f"{fused[0]!r} holds several matrices in one parameter (fused experts). Loaders of packed checkpoints "
            "expect one linear layer for each. Export to OpenVINO instead"
        )
    # Built anew, because GPT-2's layers have been made linear in the model that was quantized.
    any_model: Any = model
    with torch.device("meta"):
        built: nn.Module = type(model)(copy.deepcopy(any_model.config))
    found = dict(built.named_modules())
    for name, weight in weights.items():
        kind = type(found.get(name)).__name__
        if not isinstance(found.get(name), nn.Linear):
            raise ModelError(
                f"layer {name!r} is a {kind} in {type(model).__name__}, and loaders of packed checkpoints replace "
                "linear layers only: they would leave it with random weights. Use the output of `quantize` through "
                "Neural Compressor's own load, or export to OpenVINO"
            )
        shape = tuple(linear_layer(model, name).weight.shape)
        if tuple(weight.codes.shape) != shape:
            raise ModelError(
                f"layer {name!r} has codes of shape {tuple(weight.codes.shape)} and weights of shape {shape}: it was "
                "solved on another model"
            )
    return [name for name, module in found.items() if isinstance(module, nn.Linear) and name not in weights]


def _is_fused(module: nn.Module) -> bool:
    is_convolution = isinstance(module, nn.modules.conv._ConvNd)
    return not is_convolution and any(parameter.dim() > 2 for parameter in module.parameters(recurse=False))


_Layers = Iterator[tuple[str, Mapping[str, torch.Tensor]]]


def _gptq_layers(
    model: nn.Module,
    weights: Mapping[str, QuantizedWeight],
    facts: GptqFacts,
    variant: Variant,
    *,
    positive_scales: bool,
) -> _Layers:
    for name, weight in weights.items():
        codes = gptq_codes(weight, facts.form, variant, positive_scales=positive_scales)
        facts.add(name, codes, bias=getattr(model.get_submodule(name), "bias", None) is not None)
        if facts.overflowing and variant == "gptq":
            raise ModelError(
                f"layer {name!r}: Neural Compressor holds the difference of a code and its zero point in 8 bits and "
                f"would read another weight. {_instead(weight, positive_scales=positive_scales)}"
            )
        yield name, gptq_tensors(name, codes, facts.form, variant)


def _instead(weight: QuantizedWeight, *, positive_scales: bool) -> str:
    if weight.zero_point is None and positive_scales:
        return "Leave positive_scales out"
    return "Write compressed-tensors, or gptq_v2 for gptqmodel, or quantize to 8 bits with scheme sym"


def _compressed_layers(weights: Mapping[str, QuantizedWeight], *, positive_scales: bool) -> _Layers:
    if positive_scales:
        raise ModelError("positive_scales is for the GPTQ layout; compressed-tensors takes negative ones. Leave it out")
    for name, weight in weights.items():
        yield name, compressed_tensors(weight)


def _all_tensors(floats: FloatTensors, packed: _Layers) -> Iterator[tuple[str, torch.Tensor]]:
    yield from floats
    for layer, tensors in packed:
        for leaf, tensor in tensors.items():
            yield f"{layer}.{leaf}", tensor


def _gptq_config(
    model: nn.Module, weights: Mapping[str, QuantizedWeight], kept: Sequence[str], facts: GptqFacts
) -> tuple[dict[str, Any], dict[str, list[str]], list[str]]:
    form = facts.form
    getter: Any = getattr(model, "get_output_embeddings", None)
    output = getter() if callable(getter) else None
    head = next((name for name, module in model.named_modules() if module is output), None)
    config: dict[str, Any] = {
        "quant_method": "gptq",
        "bits": form.bits,
        "group_size": form.group_size,
        "sym": facts.middle_only,
        "desc_act": False,
        "true_sequential": True,
        "damp_percent": 0.01,  # transformers refuses 0
        "checkpoint_format": facts.variant,
        "lm_head": head in weights,
        "meta": {"quantizer": ["inc-laaciq"]},
    }
    if in_float := [name for name in kept if name != head]:
        config["dynamic"] = {f"-:^{name.replace('.', chr(92) + '.')}$": {} for name in in_float}
    if (inside := modules_in_block(list(weights), in_float)) is not None:
        config["modules_in_block_to_quantize"] = [inside]
    notes = _widened(weights, "all layers")
    if facts.n_rounded:
        notes.append(
            f"{facts.n_rounded} of {facts.n_scales} scales are not exact in bfloat16, the furthest by "
            f"{100 * facts.largest_rounding:.2g} %: on Gaudi, and wherever the model is loaded in bfloat16 by a loader "
            "that rounds scales, weights differ by as much"
        )
    if facts.has_biases:
        notes.append(f"{NEURAL_COMPRESSOR} rounds biases of packed layers to 16 bits when it loads them")
    return config, problems(facts, list(weights), in_float, head=head), notes


def _widened(weights: Mapping[str, QuantizedWeight], what: str) -> list[str]:
    """Say where codes take more room than they need."""
    used = sorted({weight.grid.bits for weight in weights.values()})
    stored = {common_form([weight]).bits for weight in weights.values()} if what == "each layer" else set()
    stored = stored or {common_form(weights.values()).bits}
    if set(used) == stored:
        return []
    return [f"codes of {', '.join(map(str, used))} bits are stored in {', '.join(map(str, sorted(stored)))} bits"]


def _write_config(model: nn.Module, quantization: Mapping[str, Any], dtype: str, folder: Path) -> None:
    any_model: Any = model
    any_model.config.save_pretrained(str(folder))
    file = folder / "config.json"
    content = json.loads(file.read_text(encoding="utf-8"))
    # transformers 4.56 renamed torch_dtype to dtype.
    keyword = "dtype" if hasattr(any_model.config, "dtype") else "torch_dtype"
    content.pop("torch_dtype", None)
    content |= {keyword: dtype, "quantization_config": dict(quantization)}
    file.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    generation = getattr(any_model, "generation_config", None)
    if generation is not None:
        generation.save_pretrained(str(folder))

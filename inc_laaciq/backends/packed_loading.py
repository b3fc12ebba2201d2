"""Load packed checkpoints in plain transformers: GPTQ layout without gptqmodel, and compressed-tensors' form.

transformers finds the quantizer of a checkpoint by the name in its config.json, and "gptq" belongs to gptqmodel. So
ours is registered under a name of its own, `la_aciq_gptq`, only when a checkpoint is loaded through here, and the name
in the file stays "gptq": whoever has gptqmodel loads the same folder with `from_pretrained` as ever.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from inc_laaciq.backends.packed_linear import PackedLinear
from inc_laaciq.checkpoint.folder import check_kind, find_weights, read_config
from inc_laaciq.checkpoint.foreign import foreign_errors
from inc_laaciq.checkpoint.safetensors_file import TensorEntry, read_header
from inc_laaciq.errors import IntegrityError, ModelError

METHOD = "la_aciq_gptq"


def load_packed_checkpoint(folder: str | Path, *, dtype: torch.dtype | None = None) -> Any:
    """A causal language model from a folder that `inc-laaciq pack` wrote.

    Parameters
    ----------
    folder : path
        No code that comes with a model is run.
    dtype : torch.dtype, optional
        In which it computes; default is what config.json says. Scales of the GPTQ layout stay in float16 whatever it
        is; the package compressed-tensors, which reads its own form, rounds scales to it.

    Returns
    -------
    PreTrainedModel
        In eval mode. Packed layers of the GPTQ layout are `PackedLinear`: they take the memory of their codes, and one
        at a time is in float while it runs.  It cannot be saved again or trained; keep the folder.

    Raises
    ------
    ModelError
        If it is no such checkpoint, or transformers cannot build the model.
    IntegrityError
        If files are damaged, or lack something that the model needs.
    """
    folder = Path(folder)
    found = _quantization(folder)
    if found["quant_method"] == "gptq":
        found |= {"quant_method": METHOD, "layers": _packed_layers(folder)}
        _register()
    from transformers import AutoConfig, AutoModelForCausalLM

    with foreign_errors(f"{folder}: transformers cannot load the model"):
        config = AutoConfig.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
        config.quantization_config = found
        keyword = "dtype" if hasattr(config, "dtype") else "torch_dtype"
        model, info = AutoModelForCausalLM.from_pretrained(
            str(folder),
            config=config,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
            **{keyword: "auto" if dtype is None else dtype},
        )
    if strange := sorted([*info["missing_keys"], *info["unexpected_keys"]]):
        raise IntegrityError(
            f"{folder}: weights and model differ in {', '.join(strange[:5])}. Write the checkpoint again"
        )
    return model.eval()


def _quantization(folder: Path) -> dict[str, Any]:
    """What config.json says of the packing, as far as it can be read here."""
    if not (folder / "config.json").is_file():
        check_kind(folder)
    found = read_config(folder).get("quantization_config")
    if not isinstance(found, dict) or found.get("quant_method") not in ("gptq", "compressed-tensors"):
        method = found.get("quant_method") if isinstance(found, dict) else None
        raise _wrong(folder, "quant_method", method, "'gptq' or 'compressed-tensors'")
    if found["quant_method"] == "gptq":
        _check_gptq(folder, found)
    return dict(found)


def _check_gptq(folder: Path, found: Mapping[str, Any]) -> None:
    allowed: dict[str, tuple[Any, ...]] = {
        "bits": (2, 4, 8),
        "desc_act": (False,),
        "checkpoint_format": ("gptq", "gptq_v2"),
    }
    for key, values in allowed.items():
        if found.get(key) not in values:
            raise _wrong(folder, key, found.get(key), " or ".join(map(repr, values)))
    size = found.get("group_size")
    if type(size) is not int or size < -1 or size == 0:
        raise _wrong(folder, "group_size", size, "a number of columns, or -1")


def _wrong(folder: Path, key: str, given: Any, allowed: str) -> ModelError:
    return ModelError(
        f"{folder}: {key} of quantization_config is {given!r}, and must be {allowed}. "
        "Load a folder that `inc-laaciq pack` wrote"
    )


def _packed_layers(folder: Path) -> dict[str, dict[str, TensorEntry]]:
    """Entries of the tensors of each packed layer, by the headers of the files."""
    entries: dict[str, TensorEntry] = {}
    for file in find_weights(folder).files:
        entries.update(read_header(file).tensors)
    names = [name.removesuffix(".qweight") for name in entries if name.endswith(".qweight")]
    leaves = ("qweight", "qzeros", "scales", "g_idx")
    if missing := [f"{name}.{leaf}" for name in names for leaf in leaves if f"{name}.{leaf}" not in entries]:
        raise IntegrityError(f"{folder}: {', '.join(missing[:5])} is missing. Write the checkpoint again")
    return {name: {leaf: entries[f"{name}.{leaf}"] for leaf in leaves} for name in names}


@functools.cache
def _register() -> None:
    """Make the quantizer known to transformers, once."""
    from transformers.quantizers import HfQuantizer
    from transformers.quantizers.auto import register_quantization_config, register_quantizer
    from transformers.utils.quantization_config import QuantizationConfigMixin

    @register_quantization_config(METHOD)
    class _Config(QuantizationConfigMixin):  # type: ignore[misc]
        def __init__(self, **settings: Any) -> None:
            self.__dict__.update(settings)

    @register_quantizer(METHOD)
    class _Quantizer(HfQuantizer):  # type: ignore[misc]
        requires_calibration = True

        def _process_model_before_weight_loading(self, model: nn.Module, **_kwargs: Any) -> nn.Module:
            replace_layers(model, self.quantization_config)
            return model

        def is_serializable(self, *_args: Any, **_kwargs: Any) -> bool:
            return False

        @property
        def is_trainable(self) -> bool:
            return False


def replace_layers(model: nn.Module, config: Any) -> None:
    """Put packed layers where the files have their tensors.

    Parameters
    ----------
    model : nn.Module
        Changed; it may be on the meta device.
    config : object
        With `bits`, `group_size`, `checkpoint_format` and `layers`.

    Raises
    ------
    IntegrityError
        If a layer is not in the model, or its tensors are of other shapes: transformers would take them as they are.
    """
    modules = dict(model.named_modules())
    for name, entries in config.layers.items():
        linear = modules.get(name)
        if not isinstance(linear, nn.Linear):
            raise IntegrityError(
                f"the checkpoint has packed weights of {name!r}, which is no linear layer of the model"
            )
        packed = PackedLinear(
            linear.in_features,
            linear.out_features,
            bits=config.bits,
            group_size=config.group_size,
            variant=config.checkpoint_format,
            bias=linear.bias,
        )
        for leaf, entry in entries.items():
            expected = tuple(packed.get_buffer(leaf).shape)
            if entry.shape != expected:
                raise IntegrityError(
                    f"{name}.{leaf} has shape {entry.shape} in the checkpoint; the model needs {expected}"
                )
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, packed)

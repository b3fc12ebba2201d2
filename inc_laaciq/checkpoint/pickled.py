"""Read the pickled weights of old checkpoints, when the caller insists, without running what is in them.

The weights are written once more as safetensors into a temporary folder, and loaded from there: one way of loading, the
checked one, is enough.
"""

from __future__ import annotations

import re
import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from inc_laaciq.checkpoint.folder import INDEX, SINGLE, Weights
from inc_laaciq.checkpoint.foreign import foreign_errors
from inc_laaciq.checkpoint.shards import differences, raise_if_any, read_index
from inc_laaciq.errors import IntegrityError, ModelError, ResourceError
from inc_laaciq.output import write_json_atomic

if TYPE_CHECKING:
    from torch import Tensor

# Before 2.6, weights_only=True could be made to run code (CVE-2025-32434), and before 2.10 to corrupt memory, which can
# end in the same (CVE-2026-24747).
FIRST_SAFE_TORCH = (2, 10)


def check_torch_version(version: str) -> None:
    """Refuse a torch whose `weights_only` is not safe.

    Raises
    ------
    ModelError
        Naming the version, and the first one that is safe.
    """
    found = tuple(int(part) for part in re.findall(r"\d+", version)[:2])
    if found < FIRST_SAFE_TORCH:
        raise ModelError(
            f"Pickled weights are not read with torch {version}: weights_only=True can run code there "
            f"(CVE-2025-32434, CVE-2026-24747). Install torch {'.'.join(map(str, FIRST_SAFE_TORCH))} or later, or save "
            "the model as safetensors."
        )


def read_pickle(path: Path) -> dict[str, Tensor]:
    """Read one pickled state dict, with `weights_only=True` and no way around it.

    Returns
    -------
    dict
        Name -> dense tensor on the CPU.

    Raises
    ------
    ModelError
        If this torch is too old to do it safely.
    IntegrityError
        If the file is damaged, or holds anything but named tensors.
    """
    import torch

    check_torch_version(torch.__version__)
    what = f"{path}: is not a plain pickle of tensors, and was not read any further"
    with foreign_errors(what, kind=IntegrityError), warnings.catch_warnings():
        # About pickle protocols and TorchScript; what torch cannot read safely it refuses all the same.
        warnings.simplefilter("ignore", UserWarning)
        found = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(found, Mapping):
        raise IntegrityError(f"{path}: must hold named tensors, and holds a {type(found).__name__}.")
    for name, value in found.items():
        if (
            not isinstance(name, str)
            or not isinstance(value, torch.Tensor)
            or value.layout != torch.strided
            or value.is_quantized
            or value.is_meta
        ):
            raise IntegrityError(
                f"{path}: {str(name)[:120]!r} must be an ordinary dense tensor, and is a {type(value).__name__}."
            )
    return dict(found)


def convert_pickles(weights: Weights, source: Path, target: Path) -> None:
    """Write pickled weights as safetensors, beside copies of the small files that a model needs.

    Parameters
    ----------
    weights : Weights
        Pickled ones, of `find_weights`.
    source, target : Path
        The model folder, and an empty folder to fill.

    Raises
    ------
    IntegrityError, ModelError
        As `read_pickle`, and if the index and the shards differ.
    ResourceError
        If the temporary folder is full.
    """
    import torch
    from safetensors.torch import save_file

    contents: dict[str, list[str]] = {}
    for path in weights.files:
        state = read_pickle(path)
        contents[path.name] = list(state)
        # safetensors refuses tensors that share memory, as tied weights do; each gets its own.
        owned = {name: tensor.detach().clone(memory_format=torch.contiguous_format) for name, tensor in state.items()}
        with foreign_errors(f"{path}: cannot be written as safetensors into {target}", kind=ResourceError):
            save_file(owned, target / (_new_name(path.name) if weights.index else SINGLE), metadata={"format": "pt"})
    if weights.index is not None:
        weight_map = read_index(weights.index)
        raise_if_any(differences(weight_map, contents), source)
        renamed = {tensor: _new_name(shard) for tensor, shard in weight_map.items()}
        write_json_atomic(target / INDEX, {"metadata": {}, "weight_map": renamed})
    with foreign_errors(f"{source}: its small files cannot be copied into {target}", kind=ResourceError):
        for path in (*source.glob("*.json"), *source.glob("*.py")):
            if not path.name.endswith(".index.json"):
                shutil.copyfile(path, target / path.name)


def _new_name(shard: str) -> str:
    return Path(shard).stem + ".safetensors"

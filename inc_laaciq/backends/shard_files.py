"""Write tensors to safetensors files as they come, so that only one file's worth of them is in memory."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import torch
from safetensors.torch import save_file

from inc_laaciq.checkpoint.folder import INDEX, SINGLE

SHARD_BYTES = 4 << 30


def write_shards(tensors: Iterable[tuple[str, torch.Tensor]], folder: Path, *, shard_bytes: int = SHARD_BYTES) -> int:
    """Write `model.safetensors`, or numbered parts with their index, as transformers names them.

    Parameters
    ----------
    tensors : iterable of (name, tensor)
        Each name once; tensors that share memory must come once as well.
    folder : Path
        Exists, and has no weights yet.
    shard_bytes : int
        A file is closed before it would become larger.

    Returns
    -------
    int
        Bytes of all tensors.
    """
    place: dict[str, int] = {}
    part: dict[str, torch.Tensor] = {}
    parts = used = total = 0

    def close() -> None:
        nonlocal part, parts, used
        save_file(part, str(folder / f"part-{parts}"), metadata={"format": "pt"})
        part, parts, used = {}, parts + 1, 0

    for name, tensor in tensors:
        if part and used + tensor.nbytes > shard_bytes:
            close()
        part[name] = tensor.contiguous()
        place[name] = parts
        used += tensor.nbytes
        total += tensor.nbytes
    close()
    # Named at the end, because a name says how many there are.
    names = [f"model-{n + 1:05d}-of-{parts:05d}.safetensors" for n in range(parts)] if parts > 1 else [SINGLE]
    for number, name in enumerate(names):
        (folder / f"part-{number}").rename(folder / name)
    if parts > 1:
        weight_map = {name: names[number] for name, number in sorted(place.items())}
        index = {"metadata": {"total_size": total}, "weight_map": weight_map}
        (folder / INDEX).write_text(json.dumps(index, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    return total

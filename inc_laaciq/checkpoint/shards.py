"""Compare the index of a sharded checkpoint with what the shards hold, and say every difference at once.

A folder that lost a shard, or mixes two downloads, is seldom wrong in one place only; fixing it one message at a time
would take as many loads.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from inc_laaciq.checkpoint.containment import check_plain_name, check_regular
from inc_laaciq.checkpoint.safetensors_file import MAX_HEADER_BYTES, Header, read_header
from inc_laaciq.checkpoint.strict_json import parse_object, shorten
from inc_laaciq.errors import IntegrityError

SHARD_PATTERN = re.compile(r"(model-\d+-of-\d+\.safetensors|pytorch_model-\d+-of-\d+\.bin)")


def read_index(path: Path) -> dict[str, str]:
    """Read the index of a sharded checkpoint.

    Returns
    -------
    dict
        Tensor name -> plain name of the shard that should hold it.

    Raises
    ------
    IntegrityError
        If it is not an index, is empty, or a shard's name is not a plain file name.
    """
    size = check_regular(path).st_size
    if size > MAX_HEADER_BYTES:
        raise IntegrityError(f"{path}: {size} bytes, where an index has at most {MAX_HEADER_BYTES}.")
    weight_map = parse_object(path.read_bytes(), where=str(path), floats=True).get("weight_map")
    if (
        not isinstance(weight_map, dict)
        or not weight_map
        or not all(isinstance(shard, str) for shard in weight_map.values())
    ):
        raise IntegrityError(f"{path}: must have a weight_map from tensor names to shard names.")
    for shard in set(weight_map.values()):
        check_plain_name(shard, where=str(path))
    return weight_map


def read_shards(folder: Path, weight_map: Mapping[str, str]) -> tuple[Header, ...]:
    """Read the header of every shard of an index, in the order of their names.

    Raises
    ------
    IntegrityError
        Listing every damaged, missing and extra shard, and every tensor that is not where the index says.
    """
    headers: dict[str, Header] = {}
    faults: list[str] = []
    for shard in sorted(set(weight_map.values())):
        if (folder / shard).exists():
            try:
                headers[shard] = read_header(folder / shard)
            except IntegrityError as error:
                faults.append(str(error))
    damaged = {shard for shard in weight_map.values() if (folder / shard).exists()} - set(headers)
    listed = {tensor: shard for tensor, shard in weight_map.items() if shard not in damaged}
    faults += differences(listed, {shard: header.tensors for shard, header in headers.items()})
    faults += extra_shards(folder, weight_map.values(), suffix=".safetensors")
    raise_if_any(faults, folder)
    return tuple(headers.values())


def differences(weight_map: Mapping[str, str], contents: Mapping[str, Collection[str]]) -> list[str]:
    """Say how an index and the shards differ.

    Parameters
    ----------
    weight_map : mapping
        Tensor name -> shard, as the index has it.
    contents : mapping
        Shard -> names of the tensors in it, for each shard that exists.
    """
    holders: defaultdict[str, list[str]] = defaultdict(list)
    for shard, tensors in contents.items():
        for tensor in tensors:
            holders[tensor].append(shard)
    lost = Counter(shard for shard in weight_map.values() if shard not in contents)
    faults = [f"shard {shard} is missing ({count} tensors)" for shard, count in sorted(lost.items())]
    for tensor, shard in sorted(weight_map.items()):
        if shard in contents and tensor not in contents[shard]:
            faults.append(f"the index lists {shorten(tensor)} in {shard}, which does not hold it")
    for tensor, shards in sorted(holders.items()):
        for shard in shards:
            if weight_map.get(tensor) != shard:
                faults.append(f"{shard} holds {shorten(tensor)}, which the index does not list there")
    return faults


def extra_shards(folder: Path, shards: Iterable[str], *, suffix: str) -> list[str]:
    """Say which files are named like shards of this kind, and are in no index."""
    known = set(shards)
    names = sorted(entry.name for entry in folder.iterdir() if entry.suffix == suffix)
    return [
        f"{name} is a shard that the index does not list"
        for name in names
        if SHARD_PATTERN.fullmatch(name) and name not in known
    ]


def raise_if_any(faults: list[str], folder: Path) -> None:
    """Raise one IntegrityError that lists all `faults`, one a line."""
    if faults:
        raise IntegrityError(
            f"{folder}: the weights are not what they should be:\n  "
            + "\n  ".join(faults)
            + "\nCopy or download the folder again."
        )

"""What merging FP8 ranges costs each language, as plain data."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import fmean, median
from typing import Any

from inc_laaciq.backends.gaudi_fp8_names import Rank
from inc_laaciq.fp8_inputs import Dumps
from inc_laaciq.fp8_merge import Merged, MergeSettings
from inc_laaciq.languages import name
from inc_laaciq.provenance import meta_without_model
from inc_laaciq.quant.fp8_ranges import Ranges, losses
from inc_laaciq.quant.fp8_scales import INPUT_BACKOFF, targets
from inc_laaciq.quant.magnitudes import Magnitudes

SCHEMA = "inc-laaciq/fp8-merge/1"
_SHARES = ("subnormal", "subnormal_alone", "lost", "lost_alone")


def merge_report(dumps: Dumps, merged: Merged, settings: MergeSettings) -> dict[str, Any]:
    """Say which language set each range, and what the others lose by it.

    Returns
    -------
    dict
        ``tensors``: for each, the shared range and, by language, its own range and the figures of
        `inc_laaciq.quant.fp8_ranges.losses`.  ``languages``: the same summed up, and ``other_scales``: for every
        rounding that the device has, how many scales would be others if that language alone had been measured.
    """
    tensors = [_tensor(rank, module, tensor, dumps, merged, settings) for rank, module, tensor in _places(merged)]
    return {
        "schema": SCHEMA,
        "meta": meta_without_model(),
        "reconcile": settings.rule,
        "target": {
            "device": settings.target.device,
            "scale_method": settings.target.method,
            "largest": settings.target.largest,
            "backoff": INPUT_BACKOFF,
        },
        "n_tensors": len(tensors),
        "languages": {tag: {"name": name(tag), **_summary(tag, tensors, settings)} for tag in dumps},
        "tensors": tensors,
        "notes": _notes(settings),
    }


def _places(merged: Merged) -> Iterator[tuple[Rank, str, str]]:
    """Every input and output that has a shared range."""
    for rank, measurement in merged.items():
        for module, node in measurement.nodes.items():
            for tensor in node.tensors().keys() - node.params.keys():
                yield rank, module, tensor


def _tensor(
    rank: Rank, module: str, tensor: str, dumps: Dumps, merged: Merged, settings: MergeSettings
) -> dict[str, Any]:
    shared: Ranges = merged[rank].nodes[module].tensors()[tensor]
    own: dict[str, Ranges] = {}
    counted: dict[str, Magnitudes | None] = {}
    for tag, by_rank in dumps.items():
        if module in by_rank[rank].nodes:
            own[tag] = by_rank[rank].nodes[module].tensors()[tensor]
            counted[tag] = by_rank[rank].magnitudes.get((module, tensor))
    largest = max(float(value.max()) for value in own.values())
    return {
        "module": module,
        "tensor": tensor,
        **({} if rank is None else {"worker": rank[0]}),
        "range": float(shared.max()),
        "largest": [tag for tag, value in own.items() if float(value.max()) == largest],
        "languages": {
            tag: {"range": float(value.max()), **losses(value, shared, counted[tag], settings.target)}
            for tag, value in own.items()
        },
    }


def _summary(tag: str, tensors: list[dict[str, Any]], settings: MergeSettings) -> dict[str, Any]:
    entries = [(tensor, tensor["languages"][tag]) for tensor in tensors if tag in tensor["languages"]]
    bits = [entry["bits"] for _, entry in entries if entry["bits"] is not None]
    return {
        "n_tensors": len(entries),
        "sets": sum(tensor["largest"] == [tag] for tensor, _ in entries),
        "median_bits": median(bits) if bits else None,
        "most_bits": max(bits) if bits else None,
        "saturates": sum(entry["saturates"] for _, entry in entries),
        **{share: _mean([entry[share] for _, entry in entries]) for share in _SHARES},
        "other_scales": {
            target.method: sum(
                target.scale(entry["range"]) != target.scale(tensor["range"]) for tensor, entry in entries
            )
            for target in targets(settings.target.device)
        },
    }


def _mean(values: list[float | None]) -> float | None:
    """Mean over tensors; None unless all are known."""
    known = [value for value in values if value is not None]
    return fmean(known) if known and len(known) == len(values) else None


def _notes(settings: MergeSettings) -> list[str]:
    target = settings.target
    notes = [
        f"a backoff of {INPUT_BACKOFF:g} leaves two bits above the range: no value saturates before it is four times "
        "as large as the range"
    ]
    if target.method != "maxabs_arbitrary":
        step = 16 if (target.method, target.device) == ("maxabs_hw", "gaudi2") else 2
        notes.append(
            f"{target.method} on {target.device} rounds scales up to powers of {step}: ranges that differ by less than "
            f"a factor of {step} often give the same scale"
        )
    return notes

"""Merge FP8 measurements of several languages into one that stock Neural Compressor quantizes by."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from inc_laaciq.backends.gaudi_fp8_files import Array, Measurement, Node, measurement_files
from inc_laaciq.backends.gaudi_fp8_names import DumpName, Rank
from inc_laaciq.errors import MismatchError, NumericError, ResourceError, SpecError
from inc_laaciq.fp8_inputs import Dumps
from inc_laaciq.output import check_file, write_several_atomic
from inc_laaciq.quant.fp8_ranges import RULES, least_error_range, reconcile_ranges
from inc_laaciq.quant.fp8_scales import Fp8Target

Merged = dict[Rank, Measurement]


@dataclass(frozen=True, kw_only=True)
class MergeSettings:
    """How ranges are merged.

    Parameters
    ----------
    rule : str
        One of `RULES`.
    target : Fp8Target
        Where the result will run; rule `error` decides by it.
    missing_nodes : bool
        Whether a module may lack measurements of some languages, as an expert that none of their tokens was sent to.
    """

    rule: str = "max"
    target: Fp8Target
    missing_nodes: bool = False

    def __post_init__(self) -> None:
        if self.rule not in RULES:
            raise SpecError(f"reconcile={self.rule!r} is unknown. Use one of {', '.join(RULES)}.")


def merge(dumps: Dumps, settings: MergeSettings) -> Merged:
    """Merge the measurements of all languages, worker by worker.

    Parameters
    ----------
    dumps : mapping of language -> rank -> Measurement
        From `read_dumps`.
    settings : MergeSettings

    Raises
    ------
    MismatchError
        If the measurements are not of the same modules, tensors and weights.
    NumericError
        If a tensor is zero in all languages, which gives a scale of zero.
    SpecError
        If the rule needs counts that a measurement lacks.
    """
    ranks = next(iter(dumps.values()))
    return {rank: _merge({tag: by_rank[rank] for tag, by_rank in dumps.items()}, settings, rank) for rank in ranks}


def destination(prefix: Path, inputs: Iterable[DumpName]) -> DumpName:
    """Where the merge of some measurements goes, under Neural Compressor's `dump_stats_path`.

    Raises
    ------
    SpecError
        If the prefix is a folder.
    ResourceError
        If it would be written over an input.
    """
    names = list(inputs)
    first = names[0]
    if not prefix.name or prefix.is_dir():
        raise SpecError(f"{prefix}: is a folder; add the beginning of the files' names, such as measure.")
    # What this package's observer measured of one language is read by the stock one.
    observer = "maxabs" if first.observer == "laaciq" else first.observer
    found = DumpName(prefix=prefix, observer=observer, ranks=first.ranks)
    for name in names:
        if _files(found) & _files(name):
            raise ResourceError(f"{prefix}: would be written over an input. Choose another prefix.")
    return found


def check_destination(name: DumpName, *, overwrite: bool, remove_stale_scales: bool) -> None:
    """Refuse a place where the measurement could not be written or would not be read.

    Raises
    ------
    ResourceError
        If a measurement is there and may not be replaced; if scales are there that Neural Compressor would prefer; if
        the folder cannot be written to.
    """
    check_file(name.file(None, ".npz"))
    stale = name.caches()
    if stale and not remove_stale_scales:
        raise ResourceError(
            f"{stale[0]}: holds scales of an earlier measurement, which Neural Compressor prefers to any new one. "
            "Choose another prefix, or pass --remove-stale-scales."
        )
    present = [path for path in name.present() if path not in stale]
    if present and not overwrite:
        raise ResourceError(f"{present[0]}: is there already. Choose another prefix, or pass --overwrite.")
    written = {name.file(rank, ending) for rank in name.ranks for ending in (".npz", ".json", "_mod_list.json")}
    written.add(name.file(None, "_languages.json"))
    if others := [path for path in present if path not in written]:
        raise ResourceError(
            f"{others[0]}: belongs to another measurement, such as one by another number of workers, and would be left "
            "beside the new one. Choose another prefix, or delete it."
        )


def write_merged(merged: Merged, name: DumpName, report: Mapping[str, Any]) -> Path:
    """Write a merged measurement, nothing else than all of it, and remove scales of an earlier one.

    Parameters
    ----------
    merged : mapping of rank -> Measurement
    name : DumpName
        Checked by `check_destination`.
    report : mapping
        Written beside it.

    Returns
    -------
    Path
        Of the report.
    """
    where = name.file(None, "_languages.json")
    files = {where: (json.dumps(report, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()}
    for rank, measurement in merged.items():
        files |= measurement_files(name, rank, measurement)
    # Neural Compressor reads the npz files only, so they get their names last.
    ordered = sorted(files, key=lambda path: path.suffix == ".npz")
    write_several_atomic({path: files[path] for path in ordered}, remove=name.caches())
    return where


def _files(name: DumpName) -> set[Path]:
    endings = (".npz", ".json", "_mod_list.json", "_languages.json")
    return {name.file(rank, ending).resolve() for rank in (None, *name.ranks) for ending in endings}


def _merge(measured: Mapping[str, Measurement], settings: MergeSettings, rank: Rank) -> Measurement:
    of_rank = "" if rank is None else f" of worker {rank[0]}"
    modules = dict.fromkeys(module for found in measured.values() for module in found.nodes)
    nodes = {}
    for module in modules:
        having = {tag: found for tag, found in measured.items() if module in found.nodes}
        if len(having) < len(measured) and not settings.missing_nodes:
            without = [tag for tag in measured if tag not in having]
            raise MismatchError(
                f"{module}{of_rank}: was measured in {', '.join(having)} and not in {', '.join(without)}. Measure the "
                "same modules of the same model, or pass --missing-nodes if it is an expert that no token was sent to."
            )
        nodes[module] = _merge_node(module + of_rank, having, module, settings)
    first = next(iter(measured.values()))
    listed = dict.fromkeys(module for found in measured.values() for module in found.modules)
    return Measurement(
        nodes=nodes,
        modules=tuple(listed),
        global_rank=first.global_rank,
        local_rank=first.local_rank,
        samples=sum(found.samples for found in measured.values()),
    )


def _merge_node(where: str, measured: Mapping[str, Measurement], module: str, settings: MergeSettings) -> Node:
    nodes = {tag: found.nodes[module] for tag, found in measured.items()}
    first_tag, first = next(iter(nodes.items()))
    for tag, node in nodes.items():
        mine, theirs = first.tensors(), node.tensors()
        if mine.keys() != theirs.keys():
            raise MismatchError(
                f"{where}: {first_tag} has {', '.join(mine)} and {tag} has {', '.join(theirs)}. "
                "Measure all languages with the same settings."
            )
        for tensor, value in mine.items():
            if value.shape != theirs[tensor].shape:
                raise MismatchError(
                    f"{where}, {tensor}: has the shape {value.shape} in {first_tag} and {theirs[tensor].shape} in "
                    f"{tag}. Measure all languages with the same model and settings."
                )
        for parameter, value in first.params.items():
            if not np.array_equal(value, node.params[parameter]):
                raise MismatchError(
                    f"{where}, {parameter}: the largest magnitude differs between {first_tag} and {tag}, so their "
                    "models are not the same. Measure all languages with the same model."
                )

    def merged(tensor: str) -> Array:
        return _range(
            where, tensor, module, {tag: (nodes[tag].tensors()[tensor], measured[tag]) for tag in nodes}, settings
        )

    return Node(
        inputs=tuple(merged(f"input {index}") for index in range(len(first.inputs))),
        outputs=None
        if first.outputs is None
        else tuple(merged(f"output {index}") for index in range(len(first.outputs))),
        params=first.params,
    )


def _range(
    where: str, tensor: str, module: str, parts: Mapping[str, tuple[Array, Measurement]], settings: MergeSettings
) -> Array:
    own = np.stack([value for value, _ in parts.values()])
    if not own.any():
        raise NumericError(
            f"{where}, {tensor}: is zero in every language, and a scale of zero would leave nothing of it. Measure "
            "text that reaches the module, or leave the module out with FP8Config(blocklist=...) and measure again."
        )
    if settings.rule != "error":
        return reconcile_ranges(own, settings.rule)
    counted = {tag: found.magnitudes.get((module, tensor)) for tag, (_, found) in parts.items()}
    known = {tag: found for tag, found in counted.items() if found is not None}
    if own[0].size > 1 or len(known) < len(counted):
        lacking = next((tag for tag, found in counted.items() if found is None), "every language")
        raise SpecError(
            f"{where}, {tensor}: the rule 'error' needs counts of magnitudes of one range, which {lacking} lacks. "
            "Measure with FP8Config(observer='laaciq'), or use max, mean or minimax."
        )
    return np.full_like(own[0], least_error_range(known, settings.target))

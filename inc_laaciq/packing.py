"""Turn an output folder into a packed checkpoint: what `inc-laaciq pack` does."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inc_laaciq.backends.gptq_checkpoint import Layout, PackedCheckpoint, write_packed_checkpoint
from inc_laaciq.backends.saved_solution import SavedSolution, read_solution
from inc_laaciq.checkpoint import LoadedModel, load_model, sha256_of_files
from inc_laaciq.checkpoint.folder import read_config
from inc_laaciq.checkpoint.strict_json import parse_object
from inc_laaciq.errors import IntegrityError, ModelError, SpecError
from inc_laaciq.output import RECORD, write_json_atomic
from inc_laaciq.run_report import SCHEMA

RESULTS = ("baseline.json", "results.json")
REPORTS = (RECORD, *RESULTS, "report.html", "report.md")

_CONSEQUENCES = {"INCONCLUSIVE": "inconclusive", "NOT-RUN": "not_run"}


@dataclass(frozen=True, kw_only=True)
class Output:
    """An output folder of `quantize` or of the OpenVINO export, read.

    Parameters
    ----------
    folder : Path
    record : mapping
        Its `laaciq.json`.
    solution : SavedSolution
    refusal : str
        Why its gate does not let it through; empty if it does, or nothing was asked of it.
    """

    folder: Path
    record: Mapping[str, Any]
    solution: SavedSolution
    refusal: str


def read_output(folder: Path) -> Output:
    """Read an output folder, and check that it is whole.

    Raises
    ------
    SpecError
        If it is no output, or of a kind that a packed checkpoint cannot hold.
    IntegrityError
        If its files are not those of its record.
    """
    file = folder / RECORD
    if not file.is_file():
        raise SpecError(f"{folder}: has no {RECORD}. Give the output folder of `inc-laaciq quantize` or of the export")
    record = parse_object(file.read_bytes(), where=str(file), floats=True)
    if record.get("schema") != SCHEMA:
        raise IntegrityError(f"{file}: schema is {record.get('schema')!r}, expected {SCHEMA!r}; quantize again")
    if "packed" in record:
        raise SpecError(f"{folder}: is packed already. Give the output folder that it was made from")
    if _part(record, "config").get("approach") == "post_training_static_quant":
        raise SpecError(
            f"{folder}: its layers round their inputs too, and packed checkpoints have no place for the ranges. "
            "Quantize with approach post_training_weight_only, or deploy it through Neural Compressor or OpenVINO"
        )
    if _part(record, "config").get("fp8") is not None:
        raise SpecError(f"{folder}: holds ranges for FP8, and no codes that could be packed")
    return Output(folder=folder, record=record, solution=read_solution(folder, record), refusal=_refusal(record))


def _refusal(record: Mapping[str, Any]) -> str:
    """Fails closed: with a policy, what its own run did not let through, or cannot be understood, is not packed."""
    verdict, policy = record.get("verdict"), _part(record, "policy")
    consequence = policy.get(_CONSEQUENCES.get(str(verdict), ""))
    was_asked = policy.get("sha256") is not None
    if verdict == "PASS" or consequence == "warn" or (verdict == "NOT-RUN" and policy and not was_asked):
        return ""
    worst = record.get("worst_language")
    return f"its gate says {verdict}" + (f"; the language that loses most is {worst}" if worst else "")


def load_float(output: Output, model: str, **loading: Any) -> LoadedModel:
    """The float model that an output was made from.

    Raises
    ------
    ModelError
        If it is another model.
    """
    loaded = load_model(model, **loading)
    expected = _part(output.record, "model").get("sha256")
    if loaded.weights_sha256 != expected:
        raise ModelError(
            f"{model}: its weights have SHA-256 {loaded.weights_sha256}, and {output.folder} was made from "
            f"{expected}. Give the float model that was quantized"
        )
    return loaded


def pack_output(
    output: Output, source: LoadedModel, folder: Path | None, *, layout: Layout, positive_scales: bool = False
) -> PackedCheckpoint:
    """Write the weights and config.json of an output's packed checkpoint.

    Parameters
    ----------
    output : Output
    source : LoadedModel
        From `load_float`.
    folder : Path or None
        None writes nothing, and still finds everything that writing would find.
    layout, positive_scales
        As in `write_packed_checkpoint`.
    """
    return write_packed_checkpoint(
        source.model,
        output.solution.weights,
        folder,
        folds=output.solution.folds,
        layout=layout,
        positive_scales=positive_scales,
        dtype=_stored_dtype(source.folder),
    )


def _stored_dtype(folder: Path) -> str:
    """Type that the float model asks to be loaded in; float32 where it says nothing or something unusual."""
    config = read_config(folder)
    found = config.get("dtype") or config.get("torch_dtype")
    return found if found in ("float16", "bfloat16") else "float32"


def write_record(output: Output, source: LoadedModel, packed: PackedCheckpoint, folder: Path, target: Path) -> None:
    """Write the tokenizer, and let verdict and figures travel along.

    `laaciq.json` is that of the output but for the hashes of the files, and `packed`, which says what was made of it.
    Paths of text are told as seen from `target`, where the folder will be.
    """
    source.tokenizer.save_pretrained(str(folder))
    files = {path.name: sha256_of_files([path]) for path in sorted(folder.iterdir()) if path.is_file()}
    for name in REPORTS:
        if name.endswith((".md", ".html")) and (output.folder / name).is_file():
            (folder / name).write_bytes((output.folder / name).read_bytes())
    for name in RESULTS:
        if (output.folder / name).is_file():
            found = parse_object((output.folder / name).read_bytes(), where=str(output.folder / name), floats=True)
            write_json_atomic(folder / name, _seen_from(found, output.folder, target))
    about = {
        "layout": packed.quantization_config["quant_method"],
        "quantization_config": dict(packed.quantization_config),
        "dtype": packed.dtype,
        "bytes": packed.n_bytes,
        "readers": dict(packed.readers),
        "notes": [*packed.notes, *notes(output)],
        "made_from": {RECORD: sha256_of_files([output.folder / RECORD])},
    }
    record = {**_seen_from(output.record, output.folder, target), "files": files, "packed": about}
    write_json_atomic(folder / RECORD, record)


def notes(output: Output) -> list[str]:
    """What the verdict does not say of the packed checkpoint."""
    found = []
    if "openvino" in output.record:
        found.append("verdict and figures are those of the model as OpenVINO runs it")
        if _part(output.record, "openvino").get("embeddings") == "int8":
            found.append("embeddings, which have 8 bits there, stay in float here")
    return found


def _seen_from(record: Mapping[str, Any], old: Path, new: Path) -> dict[str, Any]:
    """The record with the sources of its texts, which are told from the folder that holds it, told from another."""

    def told(entry: Any) -> Any:
        if isinstance(entry, dict):
            source = entry.get("source")
            if isinstance(source, str) and (old / source).exists():
                return {**entry, "source": Path(os.path.relpath((old / source).resolve(), new.resolve())).as_posix()}
        return entry

    texts = told(record.get("texts"))
    if isinstance(texts, dict):
        texts = {key: told(entry) for key, entry in texts.items()}
    return {**record, "texts": texts}


def _part(record: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = record.get(key)
    return found if isinstance(found, dict) else {}

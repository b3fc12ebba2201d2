"""Neural Compressor's own saved form of a model that LA-ACIQ quantized, and a record of it beside."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path
from typing import Any

from neural_compressor.torch.algorithms.weight_only.save_load import save as save_packed_layers

from inc_laaciq.checkpoint.digest import sha256_of_files
from inc_laaciq.errors import BackendError
from inc_laaciq.output import write_json_atomic

RECORD = "laaciq_layers.json"
SCHEMA = "inc-laaciq/layers/1"
WEIGHTS = "quantized_weight.pt"


def save(model: Any, output_dir: str | Path = "./saved_results", format: Any = "default", **kwargs: Any) -> None:
    """Save the model; `neural_compressor.torch.quantization.load(folder, float_model)` reads it.

    Parameters
    ----------
    model : nn.Module
        As `convert` gave it: this is its method `save`.
    output_dir : path
    format : "default"
    **kwargs
        Passed to Neural Compressor.

    Raises
    ------
    BackendError
        For the format "huggingface": what Neural Compressor writes as such is refused by transformers.
    """
    if getattr(format, "value", format) != "default":
        raise BackendError(
            f"format={getattr(format, 'value', format)!r}: Neural Compressor writes damp_percent 0 into such a "
            "checkpoint, which transformers refuses, and one width for all layers. Write it with `inc-laaciq quantize` "
            "and `inc-laaciq pack`; Neural Compressor loads that too"
        )
    save_packed_layers(model, str(output_dir), format=format, **kwargs)
    folder = Path(output_dir)
    write_json_atomic(folder / RECORD, record(model, folder / WEIGHTS))


def record(model: Any, weights: Path) -> dict[str, Any]:
    """What was done to each layer, and for whom."""
    solution, settings = model.la_aciq, model.la_aciq_settings
    layers = []
    for layer in solution.layers:
        entry: dict[str, Any] = {"name": layer.name, "n_weights": layer.n_weights}
        if layer.weight is None:
            entry["float"] = layer.reason
        else:
            grid = {key: getattr(layer.weight, key) for key in ("bits", "group_size", "scheme")}
            entry |= {**grid, "errors": dict(solution.weights[layer.name].errors)}
        layers.append(entry)
    return {
        "schema": SCHEMA,
        "versions": {name: importlib.metadata.version(name) for name in ("inc-laaciq", "neural-compressor", "torch")},
        "mode": settings.mode,
        "reconcile": settings.reconcile,
        "layers": layers,
        "folds": [{"norm": fold.norm, "layers": list(fold.layers)} for fold in solution.folds],
        "invalid": dict(solution.invalid),
        "files": {weights.name: sha256_of_files([weights])},
    }

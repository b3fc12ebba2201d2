"""The whole assessment as a document: what plain rounding would cost each language, why, and what to do."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from inc_laaciq.assessment.gradients import Rises, predict_rises
from inc_laaciq.assessment.recommendation import configuration, recommend
from inc_laaciq.assessment.risk import (
    CONFIDENCE,
    UNDERESTIMATE,
    LanguageRisk,
    allowed_degradation,
    difference,
    language_risk,
    leading_layers,
)
from inc_laaciq.assessment.rounding import Shape, rounding_error, weight_shape
from inc_laaciq.calibration.batches import pack
from inc_laaciq.calibration.collect import Progress
from inc_laaciq.calibration.layers import Layer, find_layers, fitting_group_size, linear_layer
from inc_laaciq.calibration.text import Corpus
from inc_laaciq.config import WeightSpec
from inc_laaciq.config.bounds import Bound
from inc_laaciq.errors import EvaluationError, NumericError, ResourceError, SpecError
from inc_laaciq.evaluation.results import finite
from inc_laaciq.languages import name, script
from inc_laaciq.memory import available_memory
from inc_laaciq.quant.grid import Scheme
from inc_laaciq.quant.solver import check_finite

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SCHEMA = "inc-laaciq/assessment/1"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class AssessSpec:
    """What is assessed.

    Parameters
    ----------
    bits : int
        2 to 8.
    group_size : int or None
        None takes 128, or the largest smaller size that divides every layer.
    scheme : "sym" or "asym"
    limit : Bound
        What a language may lose, in % of perplexity or in nats per byte.
    tokens_per_language : int
        0 = all text.
    seed : int
        Which documents are taken.
    outlier_kurtosis, outlier_peak : float
        A layer is an outlier whose weights have a larger excess kurtosis, or a larger magnitude in standard deviations.
    """

    bits: int = 4
    group_size: int | None = None
    scheme: Scheme = "sym"
    limit: Bound = field(default_factory=lambda: Bound(value=0.05, unit="%"))
    tokens_per_language: int = 4096
    seed: int = 0
    outlier_kurtosis: float = 100.0
    outlier_peak: float = 50.0

    def __post_init__(self) -> None:
        if self.limit.unit not in ("%", "npb") or not self.limit.value > 0:
            raise SpecError(f"limit={self.limit} is not a share of perplexity or nats per byte above 0, such as 5%.")
        for threshold in ("outlier_kurtosis", "outlier_peak"):
            if not getattr(self, threshold) > 0:
                raise SpecError(f"{threshold}={getattr(self, threshold)!r} must be above 0.")


def assess(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    corpus: Corpus,
    spec: AssessSpec,
    *,
    row_length: int,
    source: str | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Assess what plain rounding would cost every language.

    Parameters
    ----------
    model : nn.Module
        In float, its `Conv1D` layers linearized.
    tokenizer : transformers tokenizer
    corpus : Corpus
    spec : AssessSpec
    row_length : int
        Tokens in a row of text.
    source : str, optional
        Where the text is from, for the recommended configuration.
    progress : callable(stage, done, total), optional

    Raises
    ------
    EvaluationError
        If the float model fails on every language, or a language's text has no two tokens.
    ResourceError
        If the rounding errors of the weights do not fit into memory.
    """
    weight, layers = _weight(model, spec)
    rows = _rows(corpus, tokenizer, spec, row_length)
    names = [layer.name for layer in layers]
    _check_memory(model, layers)
    errors = {found: _error(model, found, weight) for found in names}
    predicted = predict_rises(model, errors, rows, progress)
    if not predicted.rises:
        first = next(iter(predicted.invalid.items()))
        raise EvaluationError(f"the float model fails on every language, for example {first[0]}: {first[1]}")
    n_bytes = {tag: _bytes(tokenizer, rows[tag]) for tag in predicted.rises}
    risks = {tag: language_risk(tag, rises, n_bytes[tag], spec.limit) for tag, rises in predicted.rises.items()}
    shapes = {found: weight_shape(linear_layer(model, found).weight) for found in names}
    missing = dict.fromkeys(corpus.missing, "no text was found") | {
        tag: f"the float model fails on it: {why}" for tag, why in predicted.invalid.items()
    }
    return {
        "schema": SCHEMA,
        "grid": {"bits": weight.bits, "group_size": weight.group_size, "scheme": weight.scheme},
        "limit": str(spec.limit),
        "predictor": {"underestimate": UNDERESTIMATE, "confidence": CONFIDENCE},
        "texts": {"sha256": corpus.sha256, "tokens_per_language": spec.tokens_per_language, "seed": spec.seed},
        "languages": _languages(risks, missing, shapes, names, spec),
        "worst_language": max(risks, key=lambda tag: risks[tag].degradation),
        "difference": _difference(predicted.rises, n_bytes),
        "layers": [_layer(layer, shapes[layer.name], risks, place, spec) for place, layer in enumerate(layers)],
        "heat": {
            "layers": names,
            "languages": list(risks),
            "values": [
                [finite(risk.degradation * risk.shares[n]) for risk in risks.values()] for n in range(len(names))
            ],
        },
        "recommendation": _recommendation(layers, risks, spec, weight, source, sorted(missing)),
    }


def _weight(model: nn.Module, spec: AssessSpec) -> tuple[WeightSpec, list[Layer]]:
    """The grid, and the layers that are quantized."""
    size = fitting_group_size(model) if spec.group_size is None else spec.group_size
    weight = WeightSpec(bits=spec.bits, group_size=size, scheme=spec.scheme)
    return weight, [layer for layer in find_layers(model, weight) if layer.weight is not None]


def _rows(
    corpus: Corpus, tokenizer: PreTrainedTokenizerBase, spec: AssessSpec, row_length: int
) -> dict[str, list[Any]]:
    packed = pack(
        corpus,
        tokenizer,
        tokens_per_language=spec.tokens_per_language,
        sequence_length=row_length,
        seed=spec.seed,
    )
    rows = {tag: [row[None] for batch in batches for row in batch if len(row) > 1] for tag, batches in packed.items()}
    if empty := [tag for tag, found in rows.items() if not found]:
        raise EvaluationError(f"{', '.join(empty)}: the text has fewer than two tokens. Give more text")
    return rows


def _bytes(tokenizer: PreTrainedTokenizerBase, rows: Sequence[Any]) -> NDArray[np.int64]:
    """UTF-8 bytes that the predicted tokens of each row spell; tokens of half a character count as its replacement."""
    between = {tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id}  # no text; unknown tokens are
    kept = ([token for token in row[0, 1:].tolist() if token not in between] for row in rows)
    texts = (tokenizer.decode(ids, skip_special_tokens=False) for ids in kept)
    return np.array([max(1, len(text.encode())) for text in texts], dtype=np.int64)


def _error(model: nn.Module, layer: str, weight: WeightSpec) -> torch.Tensor:
    try:
        check_finite(linear_layer(model, layer).weight)
    except NumericError as error:
        raise NumericError(f"layer {layer!r}: {error}. Repair the model") from None
    return rounding_error(linear_layer(model, layer).weight, weight)


def _check_memory(model: nn.Module, layers: Sequence[Layer]) -> None:
    width = {name: parameter.element_size() for name, parameter in model.named_parameters()}
    needed = sum(layer.n_weights * width.get(f"{layer.name}.weight", 4) for layer in layers)
    available = available_memory()
    if available is not None and needed > available:
        raise ResourceError(
            f"the rounding errors of all weights take {needed / 1e9:.1f} GB and {available / 1e9:.1f} GB are free. "
            "Use a larger machine, or give a model that was loaded in bfloat16 to assess_quantization_risk"
        )


def _languages(
    risks: Mapping[str, LanguageRisk],
    missing: Mapping[str, str],
    shapes: Mapping[str, Shape],
    names: Sequence[str],
    spec: AssessSpec,
) -> dict[str, Any]:
    kurtosis = np.array([shapes[found].kurtosis for found in names])
    is_outlier = np.array([_is_outlier(shapes[found], spec) for found in names])
    found: dict[str, Any] = {}
    for tag, risk in risks.items():
        found[tag] = {
            "name": name(tag),
            "script": script(tag),
            "predicted_degradation": risk.degradation,
            "interval": [finite(risk.low), finite(risk.high)],
            "relative_perplexity": risk.relative_perplexity,
            "risk": risk.risk,
            "baseline_loss": risk.loss,
            "layers": [{"name": layer, "share": share} for layer, share in leading_layers(risk.shares, names)],
            "effective_kurtosis": finite(_mean_over_finite(kurtosis, risk.activation)),
            "outlier_activation": float(risk.activation[is_outlier].sum()),
            "tokens_per_byte": risk.n_tokens / risk.n_bytes,
            "rows": risk.n_rows,
            "tokens": risk.n_tokens,
            "bytes": risk.n_bytes,
        }
    return dict(sorted({**found, **{tag: {"name": name(tag), "missing": why} for tag, why in missing.items()}}.items()))


def _mean_over_finite(values: NDArray[np.float64], weights: NDArray[np.float64]) -> float:
    """Weighted mean; a layer whose weights are all equal has no kurtosis, and is left out."""
    is_finite = np.isfinite(values) & (weights > 0)
    total = float(weights[is_finite].sum())
    return float((weights * np.where(is_finite, values, 0.0))[is_finite].sum() / total) if total else float("nan")


def _difference(rises: Mapping[str, Rises], n_bytes: Mapping[str, NDArray[np.int64]]) -> dict[str, Any]:
    seen = difference(rises, n_bytes)
    return {"p": finite(seen.p), "is_seen": seen.is_seen, "languages": list(seen.languages)}


def _is_outlier(shape: Shape, spec: AssessSpec) -> bool:
    return shape.kurtosis > spec.outlier_kurtosis or shape.peak > spec.outlier_peak


def _layer(
    layer: Layer, shape: Shape, risks: Mapping[str, LanguageRisk], place: int, spec: AssessSpec
) -> dict[str, Any]:
    return {
        "name": layer.name,
        "n_weights": layer.n_weights,
        **{label: finite(value) for label, value in asdict(shape).items()},
        "is_outlier": _is_outlier(shape, spec),
        "activation": {tag: float(risk.activation[place]) for tag, risk in risks.items()},
    }


def _recommendation(
    layers: Sequence[Layer],
    risks: Mapping[str, LanguageRisk],
    spec: AssessSpec,
    weight: WeightSpec,
    source: str | None,
    not_assessed: list[str],
) -> dict[str, Any]:
    by_layer = {tag: risk.degradation * risk.shares for tag, risk in risks.items()}
    allowed = {tag: allowed_degradation(spec.limit, risk.n_bytes / risk.n_tokens) for tag, risk in risks.items()}
    found = recommend(layers, by_layer, allowed, weight)
    return {
        "bits": found.weight.bits,
        "group_size": found.weight.group_size,
        "scheme": found.weight.scheme,
        "mode": found.mode,
        "raised": list(found.raised),
        "raised_bits": found.raised_bits if found.raised else None,
        "is_enough": found.is_enough and not not_assessed,
        "is_enough_for_assessed": found.is_enough,
        "not_assessed": not_assessed,
        "predicted_degradation": dict(found.predicted),
        "config": None if source is None else configuration(found, source),
    }

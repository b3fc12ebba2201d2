"""The claims that a sweep puts to the test: that figures known beforehand go with what languages lose.

Two are made of effective kurtosis: that it goes with degradation, and that one constant C bounds the disparity by C
times its spread over languages.  Predicted degradation and tokenizer fertility are asked the same for comparison.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from inc_laaciq.errors import EvaluationError
from inc_laaciq.evaluation.disparity_bound import Setting, disparity_bound, setting
from inc_laaciq.evaluation.results import finite
from inc_laaciq.evaluation.risk import associate

PREDICTORS = ("predicted_degradation", "effective_kurtosis", "outlier_activation", "tokens_per_byte")
_KAPPA = "effective_kurtosis"
_KEPT = ("pearson", "pearson_p", "spearman", "spearman_p", "lower", "upper")


def theory(
    cells: Sequence[tuple[str, Mapping[str, Mapping[str, Any]]]], predictors: Mapping[str, Mapping[str, float]]
) -> dict[str, Any]:
    """Correlations and the disparity bound over the cells of a sweep.

    Parameters
    ----------
    cells : sequence of (label, languages)
        What was measured: `degradation` and `standard_error` of every language.
    predictors : mapping of language -> mapping of name -> figure
        Of `PREDICTORS`.

    Returns
    -------
    dict
        `associations` by label and predictor, None where one cannot be asked; `bound`, or None with `bound_missing`,
        the reason.
    """
    associations: dict[str, Any] = {}
    settings: list[Setting] = []
    reasons: list[str] = []
    for label, languages in cells:
        usable = {tag: entry for tag, entry in languages.items() if tag in predictors and _is_measured(entry)}
        lost = {tag: entry["degradation"] for tag, entry in usable.items()}
        associations[label] = {
            name: _association({tag: predictors[tag][name] for tag in usable}, lost) for name in PREDICTORS
        }
        errors = {tag: entry["standard_error"] for tag, entry in usable.items()}
        try:
            settings.append(setting(label, lost, errors, {tag: predictors[tag][_KAPPA] for tag in usable}))
        except EvaluationError as error:
            reasons.append(str(error))
    if not settings:
        return {"associations": associations, "bound": None, "bound_missing": reasons[0] if reasons else "no cells"}
    return {"associations": associations, "bound": _plain(asdict(disparity_bound(settings)))}


def _is_measured(entry: Mapping[str, Any]) -> bool:
    return entry["degradation"] is not None and entry["standard_error"] is not None


def _association(predictor: Mapping[str, float], lost: Mapping[str, float]) -> dict[str, float | None] | None:
    try:
        found = associate(predictor, lost)
    except EvaluationError:  # too few languages, or the same figure for all
        return None
    return {name: finite(getattr(found, name)) for name in _KEPT}


def _plain(value: Any) -> Any:
    """The same with lists for tuples and None for numbers that JSON cannot hold."""
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    return finite(value) if isinstance(value, float) else value

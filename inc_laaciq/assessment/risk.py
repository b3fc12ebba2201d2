"""From predicted rises to what a language may lose: figures with intervals, a class of risk, and who is to blame."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from inc_laaciq.assessment.gradients import Rises
from inc_laaciq.config.bounds import Bound
from inc_laaciq.evaluation.pairs import Pairs

Risk = Literal["low", "medium", "high"]

UNDERESTIMATE = 1.5
"""Measured rise of the loss over predicted, mean over languages: layers are taken as independent, and the expansion
stops at the second order. Predictions are multiplied by it; benchmarks/results/assess_*.json have what remains."""

CONFIDENCE = 0.95


@dataclass(frozen=True, kw_only=True)
class LanguageRisk:
    """What plain rounding is predicted to cost one language.

    Parameters
    ----------
    degradation : float
        Nats per UTF-8 byte.
    low, high : float
        95 % interval over rows of text; it does not hold the error of the method itself.
    relative_perplexity : float
        The same as a share of the perplexity, 0.05 = 5 %.
    risk : "low", "medium" or "high"
    shares : float64 array, shape (n_layers,)
        Of the degradation, by layer; they add up to 1.
    activation : float64 array, shape (n_layers,)
        Of the mean magnitude of all layers' inputs, by layer; they add up to 1.
    loss : float
        Of the float model, nats per byte.
    n_rows, n_tokens, n_bytes : int
        Text that was looked at.
    """

    degradation: float
    low: float
    high: float
    relative_perplexity: float
    risk: Risk
    shares: NDArray[np.float64]
    activation: NDArray[np.float64]
    loss: float
    n_rows: int
    n_tokens: int
    n_bytes: int


def language_risk(tag: str, rises: Rises, n_bytes: NDArray[np.int64], limit: Bound) -> LanguageRisk:
    """Figures of one language.

    Parameters
    ----------
    n_bytes : int64 array, shape (n_rows,)
        UTF-8 bytes of each row.
    limit : Bound
        What the language may lose, in % of perplexity or in nats per byte.
    """
    row = UNDERESTIMATE * rises.rise.sum(1)
    pairs = Pairs(tag=tag, difference=row, size=n_bytes.astype(np.float64), kind="document", n=len(row))
    error = pairs.standard_error
    reach = float(stats.t.ppf((1 + CONFIDENCE) / 2, max(1, len(row) - 1))) * error if math.isfinite(error) else math.inf
    degradation, tokens = pairs.estimate, int(rises.tokens.sum())
    per_token = n_bytes.sum() / tokens
    by_layer = rises.rise.sum(0)
    magnitude = rises.activation.mean(0)
    low, high = max(0.0, degradation - reach), degradation + reach
    return LanguageRisk(
        degradation=degradation,
        low=low,
        high=high,
        relative_perplexity=math.expm1(min(degradation * per_token, 700.0)),
        risk=risk_class(degradation, high, limit, per_token),
        shares=by_layer / max(by_layer.sum(), np.finfo(float).tiny),
        activation=magnitude / max(magnitude.sum(), np.finfo(float).tiny),
        loss=float(rises.loss.sum() / n_bytes.sum()),
        n_rows=len(row),
        n_tokens=tokens,
        n_bytes=int(n_bytes.sum()),
    )


def risk_class(degradation: float, high: float, limit: Bound, bytes_per_token: float) -> Risk:
    """Class of a predicted degradation.

    "high" above the limit; "low" where even the upper end of the interval is at most half of it; else "medium".
    """
    allowed = allowed_degradation(limit, bytes_per_token)
    if degradation > allowed:
        return "high"
    return "low" if high <= allowed / 2 else "medium"


def allowed_degradation(limit: Bound, bytes_per_token: float) -> float:
    """A limit in nats per UTF-8 byte."""
    return math.log1p(limit.value) / bytes_per_token if limit.unit == "%" else limit.value


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Whether languages differ at all.

    Parameters
    ----------
    p : float
        That rows of one and the same text differ as much, by Welch's analysis of variance; NaN if it cannot be told.
    is_seen : bool
        `p` is below 0.05.
    languages : tuple of str
        That could be asked: those with two rows or more that are not all the same.
    """

    p: float
    is_seen: bool
    languages: tuple[str, ...]


def difference(rises: Mapping[str, Rises], n_bytes: Mapping[str, NDArray[np.int64]]) -> Difference:
    """Test whether the predicted degradation is the same for all languages."""
    groups = {tag: found.rise.sum(1) / n_bytes[tag] for tag, found in rises.items()}
    groups = {tag: group for tag, group in groups.items() if len(group) > 1 and np.ptp(group) > 0}
    if len(groups) < 2:
        return Difference(p=math.nan, is_seen=False, languages=tuple(groups))
    p = _welch_p(list(groups.values()))
    return Difference(p=p, is_seen=p < 1 - CONFIDENCE, languages=tuple(groups))


def _welch_p(groups: Sequence[NDArray[np.float64]]) -> float:
    """Welch's analysis of variance; scipy has it from 1.16 on only.  Source: Welch 1951, Biometrika 38."""
    k = len(groups)
    n = np.array([len(group) for group in groups])
    means = np.array([group.mean() for group in groups])
    weights = n / np.array([group.var(ddof=1) for group in groups])
    mean = (weights * means).sum() / weights.sum()
    spread = ((1 - weights / weights.sum()) ** 2 / (n - 1)).sum() / (k**2 - 1)
    ratio = (weights * (means - mean) ** 2).sum() / (k - 1) / (1 + 2 * (k - 2) * spread)
    return float(stats.f.sf(ratio, k - 1, 1 / (3 * spread)))


def leading_layers(shares: NDArray[np.float64], names: Sequence[str], n: int = 5) -> list[tuple[str, float]]:
    """Layers with the largest shares, largest first."""
    order = np.argsort(-shares, kind="stable")[:n]
    return [(names[place], float(shares[place])) for place in order]

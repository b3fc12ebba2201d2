"""Whether a figure that is known before quantization says which languages will lose most.

Any predictor by language can be asked: kurtosis, a share of activation or of the training text, a predicted
degradation.  Languages are few and alike within a script, so a correlation comes with a permutation p-value, an
interval over languages, its value without each language, and its value once a confounder is taken out.  Several
predictors of the same degradations are several tests: adjust their p-values with `statistics.holm`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from scipy import stats

from inc_laaciq.errors import EvaluationError, SpecError
from inc_laaciq.evaluation import correlation
from inc_laaciq.evaluation.correlation import FloatArray

MIN_LANGUAGES = 4
"""With three, the most extreme order of all has a p-value of 1/3, and no interval is defined."""

_CONSTANT = 1e-9  # spread over largest magnitude, below which values differ by rounding only


@dataclass(frozen=True, kw_only=True)
class PartialAssociation:
    """Correlation of what the confounders leave of predictor and degradation.

    Parameters
    ----------
    confounders : tuple of str
        Their names.
    value : float
        -1 to 1.
    p : float
        Two-sided, by Freedman and Lane's permutation of residuals.
    is_exact : bool
        True: all permutations were counted.
    """

    confounders: tuple[str, ...]
    value: float
    p: float
    is_exact: bool


@dataclass(frozen=True, kw_only=True)
class Attenuation:
    """What the sampling noise of the degradations does to the correlation.

    Parameters
    ----------
    reliability : float
        Share of the variance between languages that is not sampling noise, 0 to 1.
    ceiling : float
        Largest correlation that a perfect predictor is expected to show, its square root.
    corrected : float or None
        Correlation with noiseless degradations, as estimated, cut to -1 to 1 (Spearman 1904, American Journal of
        Psychology 15); None where the degradations are nothing but noise.  An estimate over an estimate: a guide only.
    """

    reliability: float
    ceiling: float
    corrected: float | None


@dataclass(frozen=True, kw_only=True)
class Association:
    """How well a predictor goes with measured degradation, over languages.

    Parameters
    ----------
    languages : tuple of str
        As given, sorted.
    pearson, spearman : float
        Correlations, -1 to 1.
    pearson_p, spearman_p : float
        Two-sided, by permutation.
    is_exact : bool
        True: all permutations were counted.
    lower, upper : float
        Interval of Pearson's correlation over languages like these (`correlation.interval`).
    confidence : float
        Of the interval.
    without : dict
        By language, Pearson's correlation of the others; None where the rest of a figure is constant.
    partial : PartialAssociation or None
    attenuation : Attenuation or None
    """

    languages: tuple[str, ...]
    pearson: float
    pearson_p: float
    spearman: float
    spearman_p: float
    is_exact: bool
    lower: float
    upper: float
    confidence: float
    without: dict[str, float | None] = field(repr=False)
    partial: PartialAssociation | None = None
    attenuation: Attenuation | None = None

    @property
    def n(self) -> int:
        """Number of languages."""
        return len(self.languages)

    @property
    def carried_by(self) -> str:
        """Language without which least is left of the correlation, in its direction."""
        sign = math.copysign(1.0, self.pearson)
        return min(self.languages, key=lambda tag: sign * (self.without[tag] or 0.0))

    @property
    def range_without_one(self) -> tuple[float, float]:
        """Least and largest correlation without one language; one that is undefined counts as 0."""
        values = [value or 0.0 for value in self.without.values()]
        return min(values), max(values)


def associate(
    predictor: Mapping[str, float],
    degradation: Mapping[str, float],
    *,
    standard_errors: Mapping[str, float] | None = None,
    confounders: Mapping[str, Mapping[str, float]] | None = None,
    confidence: float = 0.95,
    seed: int = 0,
) -> Association:
    """Correlate a predictor with measured degradation, over languages.

    Parameters
    ----------
    predictor, degradation : mapping
        By language, in any unit; of the same languages, at least `MIN_LANGUAGES`.
    standard_errors : mapping, optional
        Of the degradations, for `Attenuation`; >= 0.
    confounders : mapping, optional
        By name, figures by language, for example 1 for Latin script and 0 for others, or the log of the share of the
        training text.  All are taken out together.
    confidence : float
        Of the interval, 0.5 to 1.
    seed : int
        Of random permutations and resamples.

    Returns
    -------
    Association

    Raises
    ------
    EvaluationError
        If there are too few languages, the mappings do not have the same ones, a figure is not finite or is the same
        for all languages, or the confounders leave nothing over.
    SpecError
        If `confidence` is out of range.

    Examples
    --------
    >>> found = associate({"en": 1, "fi": 2, "hi": 3, "tr": 4}, {"en": 0.1, "fi": 0.3, "hi": 0.2, "tr": 0.4})
    >>> round(found.pearson, 2), round(found.pearson_p, 3), found.is_exact
    (0.8, 0.333, True)
    """
    check_confidence(confidence)
    languages = checked_languages(degradation)
    x = figures(predictor, languages, "the predictor")
    y = figures(degradation, languages, "degradation")
    for values, name in ((x, "the predictor"), (y, "degradation")):
        check_varies(values, name)
    by_value = correlation.permutation_test(x, y, seed)
    ranks = stats.rankdata(x), stats.rankdata(y)
    by_rank = correlation.permutation_test(*ranks, seed)
    lower, upper = correlation.interval(x, y, confidence, seed)
    left_out = correlation.leave_one_out(x, y).tolist()
    pearson = float(correlation.pearson(x, y))
    return Association(
        languages=languages,
        pearson=pearson,
        pearson_p=by_value.p,
        spearman=float(correlation.pearson(*ranks)),
        spearman_p=by_rank.p,
        is_exact=by_value.is_exact,
        lower=lower,
        upper=upper,
        confidence=confidence,
        without={tag: None if math.isnan(value) else value for tag, value in zip(languages, left_out, strict=True)},
        partial=_partial(x, y, languages, confounders, seed) if confounders else None,
        attenuation=None if standard_errors is None else _attenuation(pearson, y, languages, standard_errors),
    )


def checked_languages(values: Mapping[str, float]) -> tuple[str, ...]:
    """Languages of a mapping, sorted.  Raises EvaluationError if there are fewer than `MIN_LANGUAGES`."""
    languages = tuple(sorted(values))
    if len(languages) < MIN_LANGUAGES:
        raise EvaluationError(
            f"{len(languages)} languages ({', '.join(languages) or 'none'}) say nothing about a relation over "
            f"languages. Measure at least {MIN_LANGUAGES}, better 10 or more."
        )
    return languages


def figures(values: Mapping[str, float], languages: tuple[str, ...], name: str) -> FloatArray:
    """Figures of the languages in their order.  Raises EvaluationError if one is missing, too many or not finite."""
    if values.keys() != set(languages):
        missing, others = sorted(set(languages) - values.keys()), sorted(values.keys() - set(languages))
        raise EvaluationError(
            f"{name} must have the languages of the degradations: missing {', '.join(missing) or 'none'}, "
            f"too many {', '.join(others) or 'none'}. Give both for the same languages."
        )
    found = np.array([values[tag] for tag in languages], dtype=np.float64)
    bad = [tag for tag, value in zip(languages, found, strict=True) if not math.isfinite(value)]
    if bad:
        raise EvaluationError(
            f"{name} is NaN or infinite for {', '.join(bad)}. Leave the language out of all figures, and say so, or "
            f"measure it again."
        )
    return found


def check_confidence(confidence: float) -> None:
    """Raise SpecError unless `confidence` is at least 0.5 and below 1."""
    if not 0.5 <= confidence < 1:
        raise SpecError(f"confidence={confidence!r} is out of range. Use 0.5 or more, and less than 1, such as 0.95.")


def check_varies(values: FloatArray, name: str) -> None:
    """Raise EvaluationError if the values are equal up to rounding."""
    if np.ptp(values) <= _CONSTANT * np.abs(values).max():
        raise EvaluationError(
            f"{name} is {values[0]:g} for all {len(values)} languages, so it cannot go with anything. "
            f"Give figures that differ between languages."
        )


def _partial(
    x: FloatArray,
    y: FloatArray,
    languages: tuple[str, ...],
    confounders: Mapping[str, Mapping[str, float]],
    seed: int,
) -> PartialAssociation:
    names = tuple(confounders)
    n, most = len(languages), len(languages) - MIN_LANGUAGES + 1
    if len(names) > most:
        raise EvaluationError(
            f"{len(names)} confounders ({', '.join(names)}) are too many for {n} languages. Use at most {most}, or "
            f"more languages."
        )
    rows = np.array([figures(confounders[name], languages, f"confounder {name!r}") for name in names])
    for name, row in zip(names, rows, strict=True):
        check_varies(row, f"confounder {name!r}")
    unit = (rows - rows.mean(axis=1, keepdims=True)) / rows.std(axis=1, keepdims=True)
    if np.linalg.matrix_rank(unit, tol=1e-7 * math.sqrt(n)) < len(names):
        raise EvaluationError(f"Confounders {', '.join(names)} repeat each other. Leave out one that others determine.")
    value = correlation.partial_correlation(x, y, rows)
    if math.isnan(value):
        raise EvaluationError(
            f"Confounders {', '.join(names)} leave nothing of the predictor or of the degradation: one of the two is "
            f"determined by them. Leave out a confounder, or add languages."
        )
    test = correlation.partial_permutation_test(x, y, rows, seed)
    return PartialAssociation(confounders=names, value=value, p=test.p, is_exact=test.is_exact)


def _attenuation(
    pearson: float, y: FloatArray, languages: tuple[str, ...], standard_errors: Mapping[str, float]
) -> Attenuation:
    errors = checked_errors(standard_errors, languages)
    reliability = max(0.0, 1.0 - float(np.square(errors).mean() / y.var(ddof=1)))
    ceiling = math.sqrt(reliability)
    corrected = min(1.0, max(-1.0, pearson / ceiling)) if ceiling > 0 else None
    return Attenuation(reliability=reliability, ceiling=ceiling, corrected=corrected)


def checked_errors(standard_errors: Mapping[str, float], languages: tuple[str, ...]) -> FloatArray:
    """Standard errors in the order of the languages.  Raises EvaluationError if one is missing, negative or NaN."""
    errors = figures(standard_errors, languages, "the standard error")
    if errors.min() < 0:
        tag = languages[int(errors.argmin())]
        raise EvaluationError(f"the standard error of {tag} is {errors.min():g}. It must be 0 or more.")
    return errors

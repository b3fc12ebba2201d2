"""Whether disparity is bounded by a constant times the spread of kurtosis: ``disparity <= C sqrt(Var kappa)``.

Any finite set of measurements obeys some C: the largest ratio in it.  The claim has content only if one C holds from
setting to setting (model, bits, method), so the ratio of every setting is estimated and they are asked to agree.  Part
of every measured disparity is sampling noise, which no kurtosis explains; it is shown beside the ratio.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import special, stats

from inc_laaciq.errors import EvaluationError, SpecError
from inc_laaciq.evaluation.degradation import expected_range
from inc_laaciq.evaluation.risk import check_confidence, check_varies, checked_errors, checked_languages, figures

Verdict = Literal["no single constant", "not told apart", "undecided"]


@dataclass(frozen=True, kw_only=True)
class Setting:
    """A disparity, and how much of it noise and kurtosis could account for.

    Parameters
    ----------
    name : str
        Model, bits and method.
    n_languages : int
    disparity, standard_error : float
        Largest minus smallest degradation, in its unit; the standard error is that of the difference between the two
        languages.
    noise_disparity : float
        What the disparity would be on average if all languages degraded alike.
    noise_p : float
        Probability of a disparity as large as this if all languages degraded alike (studentized range, which takes the
        standard errors as equal).
    kappa_spread : float
        Standard deviation of kappa over the languages, which are the population and no sample.
    ratio, lower, upper : float
        Disparity over spread, the C of this setting, with its interval; kappa is taken as known exactly.
    """

    name: str
    n_languages: int
    disparity: float
    standard_error: float
    noise_disparity: float
    noise_p: float
    kappa_spread: float
    ratio: float
    lower: float
    upper: float


@dataclass(frozen=True, kw_only=True)
class DisparityBound:
    """Whether one constant serves all settings.

    Parameters
    ----------
    settings : tuple of Setting
        As given.
    constant : float
        Smallest C that bounds every setting given: the largest ratio.
    lower, upper : float
        Interval of the largest true ratio, simultaneous over settings (Bonferroni) below.
    pooled : float
        Mean of the ratios, weighted by their precision: the C of all settings if they had one.
    heterogeneity_p : float or None
        Of the hypothesis that all settings have one ratio (Cochran's Q); None for one setting.
    confidence : float
        Of the intervals and, with 1 - `confidence`, of the verdict.
    verdict : {"no single constant", "not told apart", "undecided"}
        "no single constant": the ratios differ beyond noise.  "not told apart": they do not, which is no proof of one
        constant.  "undecided": fewer than two settings whose disparity is more than noise.
    """

    settings: tuple[Setting, ...]
    constant: float
    lower: float
    upper: float
    pooled: float
    heterogeneity_p: float | None
    confidence: float
    verdict: Verdict


def setting(
    name: str,
    degradation: Mapping[str, float],
    standard_errors: Mapping[str, float],
    kappa: Mapping[str, float],
    *,
    confidence: float = 0.95,
) -> Setting:
    """Ratio of disparity to the spread of kurtosis in one setting.

    Parameters
    ----------
    name : str
        Model, bits and method.
    degradation, standard_errors : mapping
        By language, in one unit; standard errors > 0.
    kappa : mapping
        Effective excess kurtosis by language.
    confidence : float
        Of the interval, 0.5 to 1.

    Raises
    ------
    EvaluationError
        If there are fewer than four languages, the mappings do not have the same ones, a figure is not finite, kappa
        is the same for all languages, or a standard error is not positive.
    SpecError
        If `confidence` is out of range.

    Notes
    -----
    Even where degradation is a straight line in kappa, the ratio over its slope lies anywhere from 2 to sqrt(2 n),
    according to how kappa is distributed over the n languages: it is no property of the model alone.
    """
    check_confidence(confidence)
    languages = checked_languages(degradation)
    y = figures(degradation, languages, "degradation")
    errors = checked_errors(standard_errors, languages)
    if errors.min() == 0:
        tag = languages[int(errors.argmin())]
        raise EvaluationError(f"{name}: the standard error of {tag} is 0. Without it noise cannot be told from harm.")
    values = figures(kappa, languages, "kappa")
    check_varies(values, "kappa")
    spread = float(values.std())
    best, worst = int(y.argmin()), int(y.argmax())
    disparity = float(y[worst] - y[best])
    error = math.hypot(float(errors[worst]), float(errors[best]))
    typical = math.sqrt(float(np.square(errors).mean()))
    reach = float(special.ndtri((1 + confidence) / 2)) * error
    return Setting(
        name=name,
        n_languages=len(languages),
        disparity=disparity,
        standard_error=error,
        noise_disparity=expected_range(len(languages)) * typical,
        noise_p=float(stats.studentized_range.sf(disparity / typical, len(languages), math.inf)),
        kappa_spread=spread,
        ratio=disparity / spread,
        lower=max(0.0, disparity - reach) / spread,
        upper=(disparity + reach) / spread,
    )


def disparity_bound(settings: Sequence[Setting], *, confidence: float = 0.95) -> DisparityBound:
    """Estimate C over settings, and judge whether one serves them all.

    Parameters
    ----------
    settings : sequence of Setting
        At least one; taken as independent.  Settings that share their text are positively correlated, which makes
        ratios differ less by chance, so the test then errs towards "not told apart".
    confidence : float
        0.5 to 1.

    Raises
    ------
    SpecError
        If there is no setting, two have one name, or `confidence` is out of range.

    Examples
    --------
    >>> kappa = {"en": 1.0, "fi": 2.0, "hi": 3.0, "tr": 4.0}
    >>> errors = dict.fromkeys(kappa, 0.01)
    >>> small = setting("4 bits", {"en": 0.1, "fi": 0.2, "hi": 0.3, "tr": 0.4}, errors, kappa)
    >>> large = setting("3 bits", {"en": 0.1, "fi": 0.7, "hi": 0.9, "tr": 1.6}, errors, kappa)
    >>> bound = disparity_bound([small, large])
    >>> round(bound.constant, 2), bound.verdict
    (1.34, 'no single constant')
    """
    check_confidence(confidence)
    names = [each.name for each in settings]
    if not names or len(set(names)) < len(names):
        raise SpecError(f"settings are {names}. Give at least one, each with a name of its own.")
    ratios = np.array([each.ratio for each in settings])
    errors = np.array([each.standard_error / each.kappa_spread for each in settings])
    weights = (errors.min() / errors) ** 2
    pooled = float((weights * ratios).sum() / weights.sum())
    q = float(np.square((ratios - pooled) / errors).sum())
    p = float(stats.chi2.sf(q, len(ratios) - 1)) if len(ratios) > 1 else None
    two_sided, simultaneous = (1 - confidence) / 2, (1 - confidence) / (2 * len(ratios))
    lower = float((ratios + special.ndtri(simultaneous) * errors).max())
    upper = float((ratios - special.ndtri(two_sided) * errors).max())
    return DisparityBound(
        settings=tuple(settings),
        constant=float(ratios.max()),
        lower=max(0.0, lower),
        upper=upper,
        pooled=pooled,
        heterogeneity_p=p,
        confidence=confidence,
        verdict=_verdict(settings, p, 1 - confidence),
    )


def _verdict(settings: Sequence[Setting], p: float | None, level: float) -> Verdict:
    if p is not None and p < level:
        return "no single constant"
    is_more_than_noise = sum(each.noise_p < level for each in settings) >= 2
    return "not told apart" if is_more_than_noise else "undecided"

"""What a predictor says about the languages: the pieces joined, what is refused, and how."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest
from scipy import stats

from inc_laaciq.errors import EvaluationError, SpecError
from inc_laaciq.evaluation import correlation
from inc_laaciq.evaluation.risk import associate

TAGS = ("de", "en", "fi", "hi", "ja", "tr", "vi", "zh")
HARM = dict(zip(TAGS, (0.02, 0.01, 0.05, 0.06, 0.04, 0.045, 0.025, 0.03), strict=True))
KAPPA = dict(zip(TAGS, (3.0, 2.0, 5.5, 5.0, 4.5, 4.0, 2.5, 9.0), strict=True))
LATIN = {tag: float(tag in {"de", "en", "fi", "tr", "vi"}) for tag in TAGS}


def test_figures_of_a_small_set():
    found = associate(KAPPA, HARM, seed=1)
    x, y = list(KAPPA.values()), list(HARM.values())
    assert found.languages == TAGS
    assert found.n == 8
    assert found.pearson == pytest.approx(stats.pearsonr(x, y).statistic)
    assert found.spearman == pytest.approx(stats.spearmanr(x, y).statistic)
    assert found.is_exact
    assert found.spearman_p == pytest.approx(stats.spearmanr(x, y).pvalue, abs=0.02)
    assert found.lower < found.pearson < found.upper
    assert found.partial is None
    assert found.attenuation is None


def test_the_order_of_the_mappings_does_not_matter():
    reverse = [dict(reversed(values.items())) for values in (KAPPA, HARM)]
    assert associate(*reverse, confounders={"latin": LATIN}) == associate(KAPPA, HARM, confounders={"latin": LATIN})


def test_one_language_carries_it():
    harm = dict.fromkeys(TAGS, 0.01) | {"de": 0.011, "fi": 0.012, "hi": 0.0105, "zh": 0.5}
    found = associate(KAPPA, harm)
    assert found.pearson > 0.8
    assert found.carried_by == "zh"
    assert found.without["zh"] == min(found.range_without_one)
    opposite = associate({tag: -value for tag, value in KAPPA.items()}, harm)
    assert opposite.carried_by == "zh"
    assert opposite.range_without_one == pytest.approx([-value for value in reversed(found.range_without_one)])


def test_a_correlation_that_is_all_script_vanishes():
    noise = dict(zip(TAGS, np.random.default_rng(2).normal(size=8), strict=True))
    other = dict(zip(TAGS, np.random.default_rng(3).normal(size=8), strict=True))
    x = {tag: 5 * LATIN[tag] + noise[tag] for tag in TAGS}
    y = {tag: 5 * LATIN[tag] + other[tag] for tag in TAGS}
    found = associate(x, y, confounders={"latin": LATIN})
    assert found.pearson > 0.8
    assert found.pearson_p < 0.05
    assert abs(found.partial.value) < 0.6
    assert found.partial.p > 0.1
    assert found.partial.confounders == ("latin",)
    x = [x[tag] - np.mean([x[other] for other in TAGS if LATIN[other] == LATIN[tag]]) for tag in TAGS]
    y = [y[tag] - np.mean([y[other] for other in TAGS if LATIN[other] == LATIN[tag]]) for tag in TAGS]
    assert found.partial.value == pytest.approx(np.corrcoef(x, y)[0, 1])


def test_noise_of_the_degradations_attenuates():
    quiet = associate(KAPPA, HARM, standard_errors=dict.fromkeys(TAGS, 0.0)).attenuation
    assert (quiet.reliability, quiet.ceiling) == (1.0, 1.0)
    error = 0.5 * np.std(list(HARM.values()), ddof=1)
    noisy = associate(KAPPA, HARM, standard_errors=dict.fromkeys(TAGS, error))
    assert noisy.attenuation.reliability == pytest.approx(0.75)
    assert noisy.attenuation.ceiling == pytest.approx(math.sqrt(0.75))
    assert noisy.attenuation.corrected == pytest.approx(noisy.pearson / math.sqrt(0.75))
    drowned = associate(KAPPA, HARM, standard_errors=dict.fromkeys(TAGS, 1.0)).attenuation
    assert (drowned.reliability, drowned.ceiling, drowned.corrected) == (0.0, 0.0, None)
    line = associate(HARM, HARM, standard_errors=dict.fromkeys(TAGS, error)).attenuation
    assert line.corrected == 1.0


def test_noise_lowers_a_correlation_as_the_ceiling_says(monkeypatch):
    """With many languages, noise of known size on the degradations alone turns r into r times the ceiling."""
    monkeypatch.setattr(correlation, "PERMUTATIONS", 50)
    monkeypatch.setattr(correlation, "RESAMPLES", 50)
    tags = [f"l{number}" for number in range(1000)]
    x, difference, noise = np.random.default_rng(0).normal(size=(3, 1000))
    y = x + 0.5 * difference
    noisy = y + noise
    predictor, harm = dict(zip(tags, x, strict=True)), dict(zip(tags, noisy, strict=True))
    found = associate(predictor, harm, standard_errors=dict.fromkeys(tags, 1.0))
    assert found.attenuation.corrected == pytest.approx(np.corrcoef(x, y)[0, 1], abs=0.05)
    assert found.pearson < np.corrcoef(x, y)[0, 1] - 0.1


def test_it_goes_into_json_without_nan():
    latin = {tag: float(tag == "zh") for tag in TAGS}
    found = associate(latin, HARM, standard_errors=dict.fromkeys(TAGS, 0.01), confounders={"kappa": KAPPA})
    content = json.loads(json.dumps(dataclasses.asdict(found), allow_nan=False))
    assert content["without"]["zh"] is None
    assert found.range_without_one[0] <= 0.0 <= found.range_without_one[1]


@pytest.mark.parametrize(
    ("predictor", "harm", "others", "message"),
    [
        ({"en": 1.0, "fi": 2.0, "hi": 4.0}, {"en": 1.0, "fi": 2.0, "hi": 3.0}, {}, r"3 languages \(en, fi, hi\)"),
        ({}, {}, {}, r"0 languages \(none\)"),
        ({**KAPPA, "fi": math.nan}, HARM, {}, "the predictor is NaN or infinite for fi"),
        (KAPPA, {**HARM, "fi": math.inf, "zh": math.nan}, {}, "degradation is NaN or infinite for fi, zh"),
        (dict.fromkeys(TAGS, 0.1), HARM, {}, "the predictor is 0.1 for all 8 languages"),
        (dict.fromkeys(TAGS, 0.0), HARM, {}, "the predictor is 0 for all"),
        (KAPPA, dict.fromkeys(TAGS, 1e9), {}, r"degradation is 1e\+09 for all"),
        ({tag: KAPPA[tag] for tag in TAGS[1:]}, HARM, {}, "missing de, too many none"),
        ({**KAPPA, "sw": 1.0}, HARM, {}, "missing none, too many sw"),
        (KAPPA, HARM, {"standard_errors": {**HARM, "fi": -0.1}}, "standard error of fi is -0.1"),
        (KAPPA, HARM, {"standard_errors": {"fi": 0.1}}, "the standard error must have the languages"),
        (KAPPA, HARM, {"confounders": {"latin": dict.fromkeys(TAGS, 1.0)}}, "confounder 'latin' is 1 for all"),
        (KAPPA, HARM, {"confounders": {"a": LATIN, "b": {t: 1 - LATIN[t] for t in TAGS}}}, "a, b repeat each other"),
        (KAPPA, HARM, {"confounders": {"same": KAPPA}}, "same leave nothing of the predictor"),
        (KAPPA, HARM, {"confounders": {f"c{i}": HARM for i in range(6)}}, "6 confounders .* Use at most 5"),
    ],
)  # fmt: skip
def test_what_is_refused(predictor, harm, others, message):
    with pytest.raises(EvaluationError, match=message):
        associate(predictor, harm, **others)


@pytest.mark.parametrize("confidence", [0.4, 1.0, math.nan])
def test_confidence_is_a_probability(confidence):
    with pytest.raises(SpecError, match=r"confidence=.* is out of range"):
        associate(KAPPA, HARM, confidence=confidence)

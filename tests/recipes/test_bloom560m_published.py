"""The published figures come out as stated, by the recipe and by scipy on the same table."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

ROOT = Path(__file__).parents[2]

sys.path.insert(0, str(ROOT / "recipes"))
import bloom560m_published as recipe  # noqa: E402

DATA = json.loads(recipe.DATA.read_text(encoding="utf-8"))
LATIN = ("eng", "fra", "deu", "vie", "tur", "fin")


def column(name, tags=tuple(DATA["languages"])):
    return [DATA["languages"][tag][name] for tag in tags]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    file = tmp_path_factory.mktemp("published") / "published.json"
    recipe.main(["-o", str(file)])
    return json.loads(file.read_text(encoding="utf-8"))


# Golden values: outlier_correlation.json, model_comparison.json and FINDINGS.md of the cited repository.
@pytest.mark.parametrize(
    ("name", "r", "p"),
    [
        ("outlier_activation", -0.8341, 0.000208),
        ("weighted_kurtosis", -0.7658, 0.00141),
        ("xglm_weighted_kurtosis", 0.3766, 0.1844),
    ],
)
def test_the_table_is_the_published_one(name, r, p):
    found = stats.pearsonr(column(name), column("degradation"))
    assert found.statistic == pytest.approx(r, abs=5e-5)
    assert found.pvalue == pytest.approx(p, rel=5e-3)


@pytest.mark.parametrize(
    ("name", "r", "p"),
    [
        ("outlier activation", -0.8341, 0.0002),
        ("activation-weighted kurtosis", -0.7658, 0.0014),
        ("kappa_eff", -0.8341, 0.0002),
        ("predicted error", 0.838, 0.0002),
        ("XGLM: activation-weighted kurtosis", 0.3766, 0.184),
        ("Latin script (1) or another (0)", -0.7299, 0.003),
    ],
)
def test_correlations(run, name, r, p):
    found = run["predictors"][name]
    assert found["pearson"] == pytest.approx(r, abs=5e-4)
    assert found["pearson_p"] == pytest.approx(p, abs=5e-3)  # the published ones assume normal values
    assert found["lower"] < r < found["upper"]
    assert len(found["without"]) == 14


def test_script_takes_part_of_it_away(run):
    found = run["predictors"]["outlier activation"]["partial"]
    (_, xy, xz), (_, _, yz), _ = np.corrcoef(
        [column("outlier_activation"), column("degradation"), [tag in LATIN for tag in DATA["languages"]]]
    )
    assert found["value"] == pytest.approx((xy - xz * yz) / ((1 - xz**2) * (1 - yz**2)) ** 0.5)
    assert found["value"] == pytest.approx(-0.62, abs=0.005)


@pytest.mark.parametrize(("label", "n", "r", "p"), [("Latin", 6, -0.7513, 0.085), ("others", 8, -0.5142, 0.192)])
def test_within_scripts_nothing_is_resolved(run, label, n, r, p):
    tags = [tag for tag in DATA["languages"] if (tag in LATIN) == (label == "Latin")]
    expected = stats.pearsonr(column("outlier_activation", tags), column("degradation", tags))
    assert (len(tags), expected.pvalue) == (n, pytest.approx(p, abs=1e-3))
    found = run["within"][label]
    assert sorted(found["languages"]) == sorted(tags)
    assert found["pearson"] == pytest.approx(r, abs=1e-4)
    assert found["is_exact"]
    assert found["pearson_p"] == pytest.approx(p, abs=0.02)


def test_kappa_eff_and_the_prediction_by_hand():
    kurtosis = DATA["layer_kurtosis"]
    rest = [kurtosis[layer] for layer in (0, 1, 2, 3, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20)]
    expected = 0.2 * (kurtosis[5] + kurtosis[21] + kurtosis[22]) / 3 + 0.8 * sum(rest) / 17
    assert recipe.kappa_eff(0.2, kurtosis) == pytest.approx(expected)
    alpha = 2.5 + 0.3 * np.log(41.0)
    assert recipe.predicted_error(40.0) == pytest.approx(
        (2 * alpha / 15) ** 2 / 12 + 2 * (1 - stats.norm.cdf(alpha)) * alpha**2
    )


def test_what_reproduces_and_what_does_not(run):
    assert [claim["reproduces"] for claim in run["claims"]] == ["yes", "yes", "yes", "yes", "no", "yes", "yes"]
    assert run["claims"][0]["found"] == "5, 21, 22"


def test_a_changed_table_no_longer_reproduces():
    data = json.loads(json.dumps(DATA))
    data["layer_kurtosis"][4] = 130.0
    data["languages"]["eng"]["outlier_activation"] = 0.19
    found = recipe.result(data)["claims"]
    assert [claim["reproduces"] for claim in found[:3]] == ["no", "no", "no"]
    assert found[0]["found"] == "4, 5, 21, 22"


def test_the_stored_result_is_what_the_recipe_makes(run):
    stored = json.loads((ROOT / "benchmarks" / "results" / "published.json").read_text(encoding="utf-8"))
    for entry in (run, stored):
        entry.pop("meta")
    assert stored["claims"] == run["claims"]
    assert stored["conclusion"] == run["conclusion"]
    for name, found in run["predictors"].items():
        assert stored["predictors"][name]["lower"] == pytest.approx(found["lower"], abs=0.01)


def test_it_prints_a_table_and_the_conclusion(capsys):
    recipe.main([])
    out = capsys.readouterr().out
    assert "r of kappa_eff                          -0.838          -0.834          no" in out
    assert "none of this is evidence about your model" in out

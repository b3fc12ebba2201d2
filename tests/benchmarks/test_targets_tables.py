"""The READMEs' tables of what was promised of mode fair."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

sys.path.insert(0, str(ROOT / "benchmarks"))
from methods import readme  # noqa: E402

NAME, OTHER = "methods_small_bloom", "methods_small_llama"


def interval(median, high=0.9):
    return {"median": median, "low": median / 2, "high": high}


def ratio(baseline, bits, *, ours="la_aciq-fair", worst=0.2, disparity=0.3, verdict="met", **more):
    """A ratio with a target of 0.25 in the worst language, a mean of 0.1 and half of each by KL."""
    kinds = {"mean": interval(0.1), "worst": interval(worst), "disparity": interval(disparity)}
    halves = {kind: interval(found["median"] / 2) for kind, found in kinds.items()}
    grid = {"bits": bits, "group_size": 64, "target": 0.25, "verdict": verdict}
    return {
        "ours": ours,
        "baseline": baseline,
        "baseline_calibration": "none",
        **grid,
        "degradation": kinds,
        "kl": halves,
    } | more


def content(*ratios, seeds=3):
    return {"ratios": list(ratios), "summary": [{"seeds": seeds}], "meta": {"calibration_tokens_per_language": 2048}}


def test_promised_has_a_row_for_each_target_and_a_column_for_each_model():
    without_target = {key: value for key, value in ratio("inc-hqq", 4).items() if key != "target"}
    contents = {
        NAME: content(ratio("inc-rtn", 3), ratio("inc-rtn", 4, worst=0.4, verdict="missed"), without_target),
        OTHER: content(ratio("inc-gptq", 4, baseline_calibration="english"), ratio("inc-rtn", 4, ours="la_aciq-fast")),
    }
    lines = readme.promised(contents).splitlines()
    assert lines[0] == "| bits | fair / | at most | small Bloom | small Llama |"
    assert lines[2:5] == [
        "| 4 | inc-rtn | 0.25 | 0.40 missed |  |",
        "| 4 | inc-gptq, english | 0.25 |  | 0.20 met |",
        "| 3 | inc-rtn | 0.25 | 0.20 met |  |",
    ]
    assert lines[-1].endswith("small Bloom 3 and 2048; small Llama 3 and 2048.")


def test_spreads_judges_mean_and_disparity_by_the_same_target():
    given = ratio("inc-rtn", 4, disparity=0.6)
    given["kl"]["disparity"] = interval(0.2, high=1.2)
    assert readme.spreads({NAME: content(given)}).splitlines()[2] == (
        "| 4 | inc-rtn | 0.25 | small Bloom | 0.10 [0.05, 0.90] met | 0.05 [0.03, 0.90] met | 0.60 [0.30, 0.90] missed "
        "| 0.20 [0.10, 1.20] not resolved |"
    )

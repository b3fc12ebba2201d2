"""The README's table of what labels change."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from methods import readme


def content():
    def figures(factor):
        return dict.fromkeys(("mean", "worst"), factor * 0.001)

    def summary(method, factor, group_size):
        return {
            "method": method,
            "bits": 4,
            "group_size": group_size,
            "seeds": 3,
            "degradation": figures(factor),
            "kl": figures(2 * factor),
        }

    span = {"median": 0.5, "low": 0.4, "high": None}
    return {
        "summary": [
            *(summary(readme.WITHOUT_LABELS, 2 * size / 32, size) for size in (32, 64)),
            *(summary("la_aciq-fair", size / 32, size) for size in (32, 64)),
        ],
        "ratios": [
            {
                "ours": ours,
                "baseline": readme.WITHOUT_LABELS,
                "bits": 4,
                "group_size": 64,
                "degradation": {"mean": span, "worst": span},
                "kl": {"mean": span, "worst": span},
            }
            for ours in ("la_aciq-fair", "la_aciq-balanced")
        ],
    }


def test_each_grid_has_its_own_figures_and_an_open_interval_says_so():
    lines = readme.labels({"methods_long_text": content()}).splitlines()
    rows = [line for line in lines[2:] if line.startswith("|")]
    spans = " | ".join(4 * ["0.50 [0.40, none]"])
    both = "4.00 → 2.00 | 4.00 → 2.00 | 8.00 → 4.00 | 8.00 → 4.00"
    assert rows == [f"| small Bloom, four times the text | 4 | 3 | {both} | {spans} |"]


@pytest.mark.parametrize(("size", "said"), [(32, "4, groups of 32"), (-1, "4, by channel")])
def test_groups_that_are_not_of_64_are_said(size, said):
    one = content()
    for entry in (*one["summary"], *one["ratios"]):
        entry["group_size"] = size
    [row] = [line for line in readme.labels({"methods_groups": one}).splitlines()[2:] if line.startswith("|")]
    assert row.startswith(f"| small Llama | {said} | 3 |")


def test_results_without_labels_give_no_row():
    without = content()
    without["ratios"] = without["ratios"][1:]
    assert not [line for line in readme.labels({"methods_long_text": without}).splitlines()[2:] if line.startswith("|")]

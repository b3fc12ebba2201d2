"""The study of static ranges in Neural Compressor's torch API: its own methods beside ours, on the same layers."""

from __future__ import annotations

import copy
import json
import sys
import warnings
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import bench_static_pt2e
from static import pt2e, readme
from static.rules import OTHERS

pytestmark = [pytest.mark.inc, pytest.mark.filterwarnings("ignore")]

with warnings.catch_warnings():  # Neural Compressor and what it imports warn while they are imported
    warnings.simplefilter("ignore")
    pytest.importorskip("neural_compressor.torch.algorithms.pt2e_quant.pt2e_compat", exc_type=ImportError)

OTHER_RULE = next(iter(OTHERS.values()))
METHODS = ("la_aciq", OTHER_RULE, "inc minmax", "inc kl")
LANGUAGES = ("en", "fi")


@pytest.fixture(scope="module")
def finished(folder, tmp_path_factory):
    output = tmp_path_factory.mktemp("result") / "result.json"
    arguments = ["--model", folder / "model", "--calibration", folder / "calibration"]
    arguments += ["--evaluation", folder / "evaluation", "--seeds", 1, "--calibration-tokens", 512]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pt2e, "FITS", {name: pt2e.FITS[name] for name in METHODS})
        assert bench_static_pt2e.main([*map(str, arguments), "--eval-tokens", "2048", "-o", str(output)]) == 0
    return json.loads(output.read_text(encoding="utf-8"))


def test_every_method_is_measured_in_every_language(finished):
    assert {(row["method"], row["language"]) for row in finished["rows"]} == {
        (method, tag) for method in METHODS for tag in LANGUAGES
    }
    assert len({row["kl"] for row in finished["rows"]}) == len(finished["rows"])
    assert len(finished["quantized_layers"]) == 4
    assert finished["float_layers"] == ["lm_head"]


def test_ours_diverges_about_as_little_as_neural_compressors_own_in_every_language(finished):
    kl = {(row["method"], row["language"]): row["kl"] for row in finished["rows"]}
    for tag in LANGUAGES:
        assert 0 < kl["la_aciq", tag] < 1.5 * kl["inc minmax", tag]
        assert kl["la_aciq", tag] < 1.5 * kl["inc kl", tag]


def test_ours_harms_no_language_much_more_than_minmax_by_the_loss(finished):
    # Intervals over documents take one rounding as given; another one moves the loss of a language by about this much.
    loss = {(row["method"], row["language"]): row["degradation"] for row in finished["rows"]}
    assert all(loss["la_aciq", tag] - loss["inc minmax", tag] < 0.005 for tag in LANGUAGES)


def test_table_of_the_readme_has_every_method_and_names_the_languages_that_lose(finished):
    content = copy.deepcopy(finished)
    content["verdicts"]["W8A8"]["inc minmax"]["degradation"]["joint_worse"] = []
    content["verdicts"]["W8A8"]["inc minmax"]["kl"]["joint_worse"] = ["fi"]
    text = readme.pt2e({"pt2e_static_small_bloom": content})
    rows = dict(line.split(" | ", 2)[1:] for line in text.splitlines() if line.startswith("| small Bloom"))
    assert tuple(rows) == METHODS
    summary = {entry["method"]: entry for entry in finished["summary"]}
    for method, cells in rows.items():
        kl = summary[method]["kl"]
        assert cells.startswith(f"{1000 * kl['mean']:.3f} | {1000 * kl['worst']:.3f} | ")
        assert ("[" in cells) == (method != "la_aciq")
    assert "small Bloom: by the loss none, by the KL fi." in text

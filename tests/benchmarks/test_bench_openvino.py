"""The comparison of OpenVINO models: the same layers in all, figures that others find too, speed in turns, verdicts."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("openvino")
pytest.importorskip("nncf")
pytest.importorskip("optimum.intel")
pytest.importorskip("accelerate")

ROOT = Path(__file__).parents[2]

sys.path.insert(0, str(ROOT / "benchmarks"))
import bench_openvino  # noqa: E402
from deployed import report  # noqa: E402
from deployed.cells import model_of  # noqa: E402
from deployed.collect import RATE, judge  # noqa: E402
from deployed.make import MODEL  # noqa: E402
from deployed.rate import summary  # noqa: E402
from methods.bench import Bench, Options  # noqa: E402
from methods.cells import Cell  # noqa: E402
from methods.measure import document_sums, language_figures  # noqa: E402
from methods.nncf_openvino import read_back  # noqa: E402
from methods.openvino_ir import read  # noqa: E402
from methods.registry import LayersError  # noqa: E402

from inc_laaciq.checkpoint import load_model  # noqa: E402

pytestmark = [pytest.mark.openvino, pytest.mark.slow]

LANGUAGES = ("en", "fi")
METHODS = ("la_aciq-fast", "nncf-rtn")
OURS = Cell(method="la_aciq-fast", calibration="multilingual", bits=4, group_size=64)


def arguments(folder, output, **changes):
    options = {
        "model": folder / "model",
        "calibration": folder / "calibration",
        "evaluation": folder / "evaluation",
        "methods": "la_aciq-fast",
        "calibration-tokens": 60,
        "eval-tokens": 60,
        "prompt": 8,
        "steps": 3,
        "rounds": 3,
        "cells": folder / "openvino",
        "output": output,
        **changes,
    }
    return [part for name, value in options.items() for part in (f"--{name}", str(value))]


@pytest.fixture(scope="module")
def finished(folder):
    """A small run: its result, and what it printed."""
    command = [sys.executable, ROOT / "benchmarks" / "bench_openvino.py", *arguments(folder, folder / "result.json")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads((folder / "result.json").read_text(encoding="utf-8")), done.stdout


@pytest.fixture(scope="module")
def bench(folder):
    options = Options(
        model=str(folder / "model"),
        calibration=str(folder / "calibration"),
        evaluation=str(folder / "evaluation"),
        calibration_tokens=60,
        eval_tokens=60,
        cells=folder / "openvino",
    )
    return Bench(options)


def test_every_method_has_the_same_layers_and_is_measured_in_every_language_and_runtime(finished):
    content, printed = finished
    assert len(content["quantized_layers"]) == 4
    assert content["float_layers"] == ["lm_head"]
    for found in content["runtimes"].values():
        rows = {(row["method"], row["language"]) for row in found["rows"]}
        assert rows == {(name, tag) for name in METHODS for tag in LANGUAGES}
        assert all(row["kl"] > 0 for row in found["rows"])
    assert {entry["method"] for entry in content["made"]} == {"float", *METHODS}
    assert all(entry["bytes"] > 0 and entry["seconds"] > 0 for entry in content["made"])
    assert all(name in printed for name in METHODS)
    assert content["meta"]["commit"]
    assert content["meta"]["versions"]["nncf"]


def test_the_exact_runtime_is_float32_and_the_other_what_openvino_takes(finished):
    runtimes = finished[0]["runtimes"]
    assert runtimes["exact"]["properties"]["inference_precision_hint"] == "f32"
    assert runtimes["default"]["properties"] != runtimes["exact"]["properties"]
    assert all(abs(entry["degradation"]) < 1e-5 for entry in runtimes["exact"]["float"].values())


def test_figures_are_those_of_pytorch_with_the_codes_in_the_folder(finished, bench):
    from safetensors.torch import load_file

    stored = load_file(model_of(OURS, bench) / "scales.safetensors")
    model = load_model(bench.options.model).model
    for name in finished[0]["quantized_layers"]:
        codes, scale = stored[f"{name}.codes"].float(), stored[f"{name}.scale"].float()
        weight = codes.reshape(*scale.shape, -1) * scale[..., None]
        model.get_submodule(name).weight.data = weight.reshape(codes.shape)
    before, after = bench.losses(bench.source.model), bench.losses(model)
    rows = {row["language"]: row for row in finished[0]["runtimes"]["exact"]["rows"] if row["method"] == OURS.method}
    for tag in LANGUAGES:
        expected = language_figures(document_sums(after[tag]), document_sums(before[tag]), tag)
        assert rows[tag]["degradation"] == pytest.approx(expected["degradation"], abs=1e-5)
        assert rows[tag]["kl"] == pytest.approx(expected["kl"], abs=1e-5)


def test_plain_rounding_is_that_of_optimums_own_command(finished):
    found = finished[0]["optimum_cli"]
    assert found["same_layers"] == found["layers"] == 4
    assert set(found["others"].values()) == {"u8"}
    assert "--weight-format int4 --sym --group-size 64 --ratio 1.0" in found["command"]


def test_rates_come_from_rounds_in_which_every_model_took_its_turn(finished):
    rates = finished[0]["rates"]
    assert rates["reference"] == "nncf-rtn"
    assert set(rates["rounds_measured"]) == {"float", *METHODS}
    for phases in rates["rounds_measured"].values():
        assert set(phases) == {"prefill", "decode"}
        assert all(len(values) == 3 and min(values) > 0 for clocks in phases.values() for values in clocks.values())
    again = summary({"rounds": rates["rounds_measured"], "load": rates["load"]}, "nncf-rtn")
    assert again["ratios"] == rates["ratios"]
    assert finished[0]["targets"] == judge(rates)
    assert len(finished[0]["targets"]) == 2


def test_a_second_run_does_nothing_twice_and_finds_the_same(finished, folder, tmp_path, capsys):
    before = {path: path.stat().st_mtime_ns for path in (folder / "openvino").rglob("*")}
    assert bench_openvino.main([*arguments(folder, tmp_path / "again.json", rounds=0), "--dry-run"]) == 0
    assert "4 of 4 cells are done" in capsys.readouterr().out
    assert bench_openvino.main(arguments(folder, tmp_path / "again.json", rounds=0)) == 0
    assert {path: path.stat().st_mtime_ns for path in (folder / "openvino").rglob("*")} == before
    again = json.loads((tmp_path / "again.json").read_text(encoding="utf-8"))
    for name in ("runtimes", "made", "quantized_layers", "texts", "optimum_cli"):
        assert again[name] == finished[0][name]
    assert "rates" not in again


def test_another_group_size_is_other_work(finished, folder, tmp_path, capsys):
    options = {"group-size": 32, "rounds": 0}
    assert bench_openvino.main([*arguments(folder, tmp_path / "other.json", **options), "--dry-run"]) == 0
    assert capsys.readouterr().out.splitlines() == ["2 of 4 cells are done; to do:", *METHODS]


@pytest.mark.usefixtures("finished")
def test_a_cell_with_other_layers_fails_the_run(folder, tmp_path):
    cells = shutil.copytree(folder / "openvino", tmp_path / "cells")
    path = next(cells.glob("openvino-nncf-rtn*seed-0-*[0-9a-f].json"))
    content = json.loads(path.read_text(encoding="utf-8"))
    content["quantized_layers"].remove("transformer.h.0.self_attention.dense")
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(SystemExit, match=r"did not quantize the same layers.*h\.0\.self_attention\.dense"):
        bench_openvino.main(arguments(folder, tmp_path / "result.json", cells=cells, rounds=0))
    assert not (tmp_path / "result.json").exists()


@pytest.mark.usefixtures("finished")
def test_other_groups_than_asked_for_are_refused(bench):
    model, job = read(model_of(OURS, bench) / MODEL), bench.job("none", 4, 64, 0)
    assert sorted(read_back(model, job)[0]) == sorted(job.layers)
    with pytest.raises(LayersError, match="i4 in groups of 64, not i4 in groups of 32"):
        read_back(model, replace(job, group_size=32))


def test_the_readme_has_every_method_and_says_what_is_missed(finished):
    content = finished[0]
    text = report.readme(content)
    assert all(f"| {name} |" in text for name in METHODS)
    assert "| not quantized |" in text
    slow = [{**entry, "verdict": "missed"} for entry in content["targets"][:1]]
    assert f"missed by {slow[0]['name']}" in report.readme({**content, "targets": slow})
    assert "met by all" in report.readme({**content, "targets": [{**slow[0], "verdict": "met"}]})


def rounds(**rates):
    return {
        "rounds": {
            name: {phase: {"clock": values, "processor": values} for phase in ("prefill", "decode")}
            for name, values in rates.items()
        },
        "load": [0.0, 0.0, 0.0],
    }


def test_ratios_are_medians_over_rounds_and_not_ratios_of_medians():
    found = summary(rounds(**{"nncf-rtn": [10.0, 100.0, 40.0], "la_aciq-fast": [50.0, 60.0, 30.0]}), "nncf-rtn")
    assert found["rates"]["la_aciq-fast"]["decode"]["clock"] == 50.0
    assert found["ratios"]["la_aciq-fast"]["decode"]["clock"] == pytest.approx(0.75)
    assert found["ratios"]["nncf-rtn"]["prefill"]["processor"] == 1.0


@pytest.mark.parametrize(("rate", "expected"), [(RATE, "met"), (RATE - 0.001, "missed")])
def test_verdicts_change_sides_at_the_limit_and_are_of_ours_only(rate, expected):
    found = summary(rounds(**{"nncf-rtn": [1.0], "nncf-awq": [0.1], "la_aciq-fast": [rate]}), "nncf-rtn")
    verdicts = judge({**found, "reference": "nncf-rtn"})
    assert [entry["verdict"] for entry in verdicts] == [expected, expected]
    assert all(entry["name"].startswith("la_aciq-fast / nncf-rtn") for entry in verdicts)


def test_unknown_methods_are_refused_with_those_that_there_are(folder, tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        bench_openvino.main(arguments(folder, tmp_path / "result.json", methods="nncf-rtn,hqq"))
    assert "no method is called hqq; there are la_aciq-fast, " in capsys.readouterr().err


def test_fair_is_there_only_if_asked_for():
    assert bench_openvino.SLOW not in bench_openvino.names("all")
    assert bench_openvino.names("la_aciq-fair") == ["la_aciq-fair", "nncf-rtn"]

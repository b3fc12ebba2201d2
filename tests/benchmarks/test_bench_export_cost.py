"""What an export takes: real processes are measured, ratios follow from the runs, verdicts from the ratios.

Whether a promise is kept is not checked: a tiny model and a busy machine say nothing about that.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("openvino")
pytest.importorskip("optimum.intel")

ROOT = Path(__file__).parents[2]

sys.path.insert(0, str(ROOT / "benchmarks"))
import bench_export_cost  # noqa: E402
from export_cost import names, runs, targets  # noqa: E402
from methods.child import run_child  # noqa: E402

TEXT = ROOT / "recipes" / "small_bloom" / "text" / "calibration"
MEGABYTE = 1 << 20


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A quick run: its result, and what it printed."""
    path = tmp_path_factory.mktemp("cost") / "cost.json"
    options = ["--quick", "--group-size", "32", "--repetitions", "1", "--scratch", path.parent, "-o", path]
    command = [sys.executable, ROOT / "benchmarks" / "bench_export_cost.py", *options]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    assert list(path.parent.iterdir()) == [path]
    return json.loads(path.read_text(encoding="utf-8")), finished.stdout


@pytest.mark.openvino
@pytest.mark.slow
def test_every_run_is_measured_and_smaller_than_the_float_model(done):
    content, printed = done
    assert set(content["runs"]) == {names.PLAIN, names.FAST, names.STAGES}
    for name, entry in content["runs"].items():
        assert 200 * MEGABYTE < entry["peak_bytes"] < 5000 * MEGABYTE  # Python with torch and OpenVINO in it
        assert entry["processor_seconds"] > 1
        assert name in printed
    assert content["runs"][names.FAST]["model_bytes"] == content["runs"][names.STAGES]["model_bytes"]
    assert content["runs"][names.FAST]["model_bytes"] < content["runs"][names.PLAIN]["model_bytes"]
    assert content["is_quick"] is True
    assert "quick mode" in printed
    assert content["meta"]["commit"]


@pytest.mark.openvino
@pytest.mark.slow
def test_stages_are_parts_of_one_run(done):
    stages = done[0]["runs"][names.STAGES]["stages"]
    assert set(stages) == {names.EXPORT, names.SOLVER, names.SURGERY, names.EVERYTHING}
    for clock in ("seconds", "processor_seconds"):
        parts = [stages[name][clock] for name in (names.EXPORT, names.SOLVER, names.SURGERY)]
        assert min(parts) > 0
        assert sum(parts) <= stages[names.EVERYTHING][clock]


@pytest.mark.openvino
@pytest.mark.slow
def test_ratios_and_verdicts_follow_from_the_runs(done):
    content, printed = done
    assert content["ratios"] == targets.ratios(content["runs"])
    assert content["targets"] == targets.judge(content["ratios"])
    memory = content["runs"][names.FAST]["peak_bytes"] / content["runs"][names.PLAIN]["peak_bytes"]
    assert content["targets"][0]["value"] == pytest.approx(memory)
    for entry in content["targets"]:
        assert f"{entry['verdict']:6} {entry['name']}" in printed


def run(peak, **stages):
    return {"peak_bytes": peak, "stages": {name: {"seconds": s, "processor_seconds": s} for name, s in stages.items()}}


@pytest.mark.parametrize(("peak", "solver", "verdicts"), [(110, 3.0, ["met", "met"]), (111, 3.1, ["missed", "missed"])])
def test_verdicts_change_sides_at_the_limits(peak, solver, verdicts):
    stages = {names.EXPORT: 4.0, names.SOLVER: solver, names.SURGERY: 1.0}
    found = targets.ratios({names.PLAIN: run(100), names.FAST: run(peak), names.STAGES: run(999, **stages)})
    assert [entry["verdict"] for entry in targets.judge(found)] == verdicts
    assert [entry["value"] for entry in targets.judge(found)] == [peak / 100, (solver + 1.0) / 4.0]


def test_a_childs_memory_time_and_words_are_its_own():
    small = run_child("-c", "print('a')")
    large = run_child("-c", f"x = b'1' * {300 * MEGABYTE}; print('b')")
    assert (small[0], large[0]) == ("a\n", "b\n")
    # A process counts as at least as large as that which started it, here the tests.
    assert large[1]["peak_bytes"] >= 300 * MEGABYTE
    assert large[1]["peak_bytes"] >= small[1]["peak_bytes"]
    busy = run_child("-c", "import time\nwhile time.process_time() < 0.5: pass")
    assert busy[1]["seconds"] > 0.4
    assert busy[1]["processor_seconds"] > 0.4


def test_a_child_that_fails_ends_the_run_with_what_it_said():
    with pytest.raises(SystemExit, match=r"failed with exit code 1:(.|\n)*it is broken"):
        run_child("-c", "raise RuntimeError('it is broken')")


def test_runs_take_turns_and_medians_are_told(tmp_path):
    order, values = [], iter([1.0, 5.0, 9.0])

    def one(name):
        def work(output):
            order.append(name)
            output.mkdir()
            (output / "openvino_model.bin").write_bytes(b"1234")
            second = next(values) if name == names.STAGES else 2.0
            stages = {names.SOLVER: {"seconds": second, "processor_seconds": second}}
            return {"seconds": second, "processor_seconds": second, "peak_bytes": 7, "stages": stages}

        return work

    found = runs.measure({name: one(name) for name in (names.PLAIN, names.STAGES)}, tmp_path, 3)
    assert order == [names.PLAIN, names.STAGES] * 3
    assert found[names.STAGES]["seconds"] == 5.0
    assert found[names.STAGES]["stages"][names.SOLVER]["seconds"] == 5.0
    assert found[names.PLAIN]["model_bytes"] == 4
    assert not list(tmp_path.iterdir())


def test_text_is_of_the_languages_that_are_asked_for(tmp_path):
    options = ["--calibration", str(TEXT), "--languages", "en", "fi", "-o", "x.json"]
    chosen = bench_export_cost.texts(bench_export_cost.parser().parse_args(options), tmp_path)
    assert sorted(file.name for file in chosen.iterdir()) == ["en.txt", "fi.txt"]
    assert (chosen / "fi.txt").read_bytes() == (TEXT / "fi.txt").read_bytes()
    whole = bench_export_cost.texts(bench_export_cost.parser().parse_args([*options[:2], "-o", "x.json"]), tmp_path)
    assert whole == TEXT


def test_balanced_is_run_only_where_there_is_text(tmp_path):
    subject = runs.Subject(model=tmp_path / "model", group_size=32, texts=None, tokens=7)
    assert names.BALANCED not in runs.runs_of(subject, tmp_path)
    subject = runs.Subject(model=tmp_path / "model", group_size=32, texts=TEXT, tokens=7)
    assert names.BALANCED in runs.runs_of(subject, tmp_path)
    from inc_laaciq.config import read_config

    run = read_config(tmp_path / "balanced.yaml")
    assert (run.weight.bits, run.weight.group_size, run.la_aciq.mode) == (4, 32, "balanced")
    assert run.la_aciq.calibration.tokens_per_language == 7


def test_repetitions_of_none_are_refused(tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        bench_export_cost.main(["--repetitions", "0", "-o", str(tmp_path / "cost.json")])
    assert "--repetitions is 1 or more" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())

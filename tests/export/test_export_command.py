"""`optimum-cli export openvino-laaciq`: what it prints, what it leaves behind, and with which exit code it ends."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from stamps import read_stamp

from inc_laaciq.backends.openvino_ir import read_ir
from inc_laaciq.errors import SpecError
from inc_laaciq.evaluate import evaluate_model
from inc_laaciq.evaluation.generation import MARGIN
from inc_laaciq.openvino import export
from inc_laaciq.report.junit import to_junit

pytestmark = pytest.mark.openvino

ENVIRONMENT = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
RECIPE = Path(__file__).parents[2] / "recipes" / "small_bloom"
MODEL = RECIPE / "model"


def write(folder, content, name="conf.yaml"):
    (folder / name).write_text(yaml.safe_dump(content), encoding="utf-8")
    return folder / name


def gated(folder, bits, gate, *, rules=None, trials=20, **la_aciq):
    """Settings for text of a folder."""
    evaluation = {"texts": str(folder / "evaluation"), "tokens_per_language": 3000}
    content = {
        "quantization": {"model_wise": {"weight": {"bits": bits, "group_size": 32, "scheme": "sym"}}},
        "tuning": {"strategy": {"name": "la_aciq"}, "exit_policy": {"max_trials": trials}},
        "la_aciq": {"mode": "fast", "languages": ["en", "fi"], "evaluation": evaluation, "gate": gate, **la_aciq},
    }
    if rules:
        content["quantization"]["op_wise"] = {pattern: {"weight": {"bits": of}} for pattern, of in rules.items()}
    return content


def left(folder):
    """What is in a folder, but for locks, which stay."""
    return sorted(path.name for path in folder.iterdir() if not path.name.endswith(".lock"))


def test_a_stranger_runs_it_with_nothing_but_its_name(tmp_path):
    """In a process of its own: optimum finds the command by itself, and the gate passes the model."""
    script = shutil.which("optimum-cli", path=str(Path(sys.executable).parent))
    assert script is not None
    config = write(tmp_path, gated(RECIPE / "text", 4, {"max_degradation": "50%"}))
    command = [script, "export", "openvino-laaciq", "-m", str(MODEL), "out", "--config", str(config)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, env=ENVIRONMENT)
    assert done.returncode == 0, done.stderr
    for word in ("Finnish", "English", "verdict: PASS", "Written to", "float32 arithmetic"):
        assert word in done.stdout, word
    stages = ("solving", "evaluating", "writing")
    assert not [line for line in done.stderr.splitlines() if not line.startswith(stages)]
    assert left(tmp_path) == ["conf.yaml", "out"]
    record = json.loads((tmp_path / "out" / "laaciq.json").read_text(encoding="utf-8"))
    model = read_ir(tmp_path / "out" / "openvino_model.xml")
    assert read_stamp(model, "gate.verdict") == record["verdict"] == "PASS"
    assert record["bytes"]["after"] < 0.5 * record["bytes"]["before"]
    shares = record["openvino"]["share_in_script"]
    assert shares["float"].keys() == {"en", "fi"}
    assert all(shares["exported"][tag] >= share - MARGIN for tag, share in shares["float"].items())


def test_a_gate_that_fails_leaves_reports_and_no_model(optimum_cli, trained, texts, tmp_path):
    config = write(tmp_path, gated(texts, 2, {"max_degradation": "0npb"}, trials=1))
    done = optimum_cli("-m", trained, tmp_path / "out", "--config", config)
    assert done.returncode == 3, done.stderr
    assert "verdict: FAIL" in done.stdout
    assert left(tmp_path) == ["conf.yaml", "out.failed"]
    assert left(tmp_path / "out.failed") == ["baseline.json", "laaciq.json", "report.html", "report.md", "results.json"]
    record = json.loads((tmp_path / "out.failed" / "laaciq.json").read_text(encoding="utf-8"))
    assert any(reason.startswith("FAIL") for reason in record["reasons"])


def test_doubt_fails_under_strict_and_in_the_reports(trained, texts, tmp_path):
    content = gated(texts, 4, {"max_degradation": "50%", "min_sentences": 10_000}, trials=1)
    result = export(trained, tmp_path / "out", content, strict=True)
    assert (result.verdict, result.exit_code) == ("INCONCLUSIVE", 4)
    record = json.loads((tmp_path / "out.failed" / "laaciq.json").read_text(encoding="utf-8"))
    assert 'failures="0"' not in to_junit(record)


def test_a_gate_that_can_judge_nothing_fails_and_the_model_is_kept_if_asked(optimum_cli, checkpoint, tmp_path):
    arguments = ("-m", checkpoint("llama"), tmp_path / "out", "--group-size", 32, "--gate", "5%", "--keep-failed")
    done = optimum_cli(*arguments)
    assert done.returncode == 3, done.stderr
    assert "verdict: NOT-RUN" in done.stdout
    assert left(tmp_path) == ["out.failed"]
    model = read_ir(tmp_path / "out.failed" / "openvino_model.xml")
    assert read_stamp(model, "gate.verdict") == "NOT-RUN"
    assert read_stamp(model, "gate.worst_language") == ""
    with pytest.raises(SpecError, match="no text to evaluate on is recorded there; give --texts"):
        evaluate_model(tmp_path / "out.failed")


def test_a_listed_language_without_text_never_passes(optimum_cli, checkpoint, texts, tmp_path):
    evaluation = {"texts": str(texts / "evaluation"), "tokens_per_language": 2000}
    content = {"la_aciq": {"mode": "fast", "languages": ["en", "fi", "sw"], "evaluation": evaluation}}
    config = write(tmp_path, {**content, "quantization": {"model_wise": {"weight": {"bits": 8, "group_size": -1}}}})
    done = optimum_cli("-m", checkpoint("llama"), tmp_path / "out", "--config", config, "--gate", "50%")
    assert done.returncode == 3, done.stderr
    assert "Swahili" in done.stdout
    assert not (tmp_path / "out").exists()


def test_a_search_raises_bits_until_the_gate_passes(trained, texts, tmp_path):
    content = gated(
        texts,
        4,
        {"max_degradation": "3%"},
        rules={".*(down|o)_proj": 2},
        mode="fair",
        fair={"tune": "none"},  # no other mode to try
        calibration={"texts": str(texts / "calibration"), "tokens_per_language": 512},
    )
    result = export(trained, tmp_path / "out", content)
    *failed, last = result.report["trials"]
    assert failed
    assert "PASS" not in [trial["verdict"] for trial in failed]
    assert (result.verdict, last["verdict"], last["kept"]) == ("PASS", "PASS", True)
    bits = {layer["bits"] for layer in result.report["layers"] if "bits" in layer}
    assert min(bits) > 2
    assert len(bits) > 1
    assert read_stamp(read_ir(result.folder / "openvino_model.xml"), "gate.verdict") == "PASS"


def test_what_is_kept_is_the_best_trial_and_not_the_last(trained, texts, tmp_path):
    calibration = {"texts": str(texts / "calibration"), "tokens_per_language": 512}
    content = gated(texts, 2, {"max_degradation": "0npb"}, trials=2, mode="balanced", calibration=calibration)
    report = export(trained, tmp_path / "out", content, keep_failed=True).report
    best, last = report["trials"]
    assert (best["kept"], last["kept"]) == (True, False)
    assert best["worst"] < last["worst"]
    judged = {tag: entry["degradation"] for tag, entry in report["languages"].items()}
    assert judged == {tag: entry["degradation"] for tag, entry in best["languages"].items()}
    again = evaluate_model(tmp_path / "out.failed")
    for tag, entry in again["languages"].items():
        assert entry["loss"] == pytest.approx(report["languages"][tag]["loss"], abs=1e-12)

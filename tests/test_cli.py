"""The command line on the shipped model, as a stranger would use it."""

from __future__ import annotations

import html
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from inc_laaciq.backends.gptq_layout import read_gptq_tensors
from inc_laaciq.cli import cli
from inc_laaciq.errors import ResourceError

ROOT = Path(__file__).parents[1]
MODEL = ROOT / "recipes" / "small_bloom" / "model"
TEXT = ROOT / "recipes" / "small_bloom" / "text"
LANGUAGES = ["en", "fi", "hi"]

ENVIRONMENT = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}


def command(*arguments, **more):
    return [sys.executable, "-m", "inc_laaciq.cli", *map(str, arguments)]


def run(*arguments, cwd=None, env=None):
    return subprocess.run(
        command(*arguments), capture_output=True, text=True, check=False, cwd=cwd, env={**ENVIRONMENT, **(env or {})}
    )


def settings(**la_aciq):
    return {
        "model": {"name": "small_bloom", "framework": "pytorch"},
        "quantization": {
            "approach": "post_training_weight_only",
            "model_wise": {"weight": {"bits": 4, "group_size": 64, "scheme": "sym"}},
        },
        "tuning": {"strategy": {"name": "la_aciq"}},
        "la_aciq": {
            "model": str(MODEL),
            "mode": "balanced",
            "languages": LANGUAGES,
            "calibration": {"texts": str(TEXT / "calibration"), "tokens_per_language": 512},
            "evaluation": {"texts": str(TEXT / "evaluation"), "tokens_per_language": 256},
            **la_aciq,
        },
    }


def write(folder: Path, content, name="conf.yaml") -> Path:
    file = folder / name
    file.write_text(yaml.safe_dump(content), encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def output(tmp_path_factory):
    """One run that several tests look at: with INC's RTN beside it."""
    folder = tmp_path_factory.mktemp("run")
    config = write(folder, settings())
    done = run("quantize", config, "--output", folder / "out", "--compare", "rtn", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder / "out", done


@pytest.mark.inc
def test_worst_sentences_are_quoted_as_they_are_in_the_text(output):
    folder, _ = output
    record = json.loads((folder / "laaciq.json").read_text(encoding="utf-8"))
    page = (folder / "report.html").read_text(encoding="utf-8")
    for tag in LANGUAGES:
        lines = (TEXT / "evaluation" / f"{tag}.txt").read_text(encoding="utf-8").splitlines()
        worst = record["sentences"][tag]
        assert [entry["degradation"] for entry in worst] == sorted((e["degradation"] for e in worst), reverse=True)
        for entry in worst:
            quoted = entry["text"].removesuffix("...").strip()
            assert any(line.strip().startswith(quoted) for line in lines), quoted
        assert html.escape(worst[0]["text"].strip()[:20]) in page


@pytest.mark.inc
def test_table_has_every_language_and_the_comparison(output):
    _, done = output
    for word in ("Finnish", "Hindi", "English", "INC RTN", "worst", "disparity", "mean", "verdict: NOT-RUN", "size:"):
        assert word in done.stdout, word
    assert "Traceback" not in done.stderr


@pytest.mark.inc
def test_folder_holds_what_design_promises(output):
    folder, _ = output
    names = {path.name for path in folder.iterdir()}
    of_api = {
        "adaptor": {"best_model.pt", "gptq_config.json"},
        "torch": {"quantized_weight.pt", "laaciq_layers.json"},
    }
    assert {
        "laaciq.json", "baseline.json", "results.json", "scales.safetensors", "packed.safetensors", "report.html",
        "report.md", "qconfig.json", "config.json", "tokenizer.json",
        *of_api[json.loads((folder / "laaciq.json").read_text(encoding="utf-8"))["api"]],
    } <= names  # fmt: skip
    assert not (folder.parent / "nc_workspace").exists()
    assert not [path for path in folder.parent.iterdir() if path.name.startswith(".out")], "temporary files were left"


@pytest.mark.inc
def test_record_is_complete_and_agrees_with_itself(output):
    folder, _ = output
    record = json.loads((folder / "laaciq.json").read_text(encoding="utf-8"))
    assert set(record["languages"]) == set(LANGUAGES)
    degradations = {tag: entry["degradation"] for tag, entry in record["languages"].items()}
    for entry in record["languages"].values():
        assert entry["degradation"] == pytest.approx(entry["loss"] - entry["baseline_loss"], abs=1e-12)
        assert entry["standard_error"] > 0
        assert entry["calibration_tokens"] == 512
    assert record["worst_language"] == max(degradations, key=degradations.get)
    assert record["disparity"] == pytest.approx(max(degradations.values()) - min(degradations.values()))
    assert record["verdict"] == "NOT-RUN"
    assert record["bytes"]["after"] < 0.5 * record["bytes"]["before"]
    quantized = [layer for layer in record["layers"] if "bits" in layer]
    assert len(quantized) == 16
    assert [layer["name"] for layer in record["layers"] if "float" in layer] == ["lm_head"]
    assert set(record["comparisons"]["INC RTN"]["languages"]) == set(LANGUAGES)


@pytest.mark.inc
def test_codes_on_disk_are_those_of_neural_compressors_own_form(output):
    folder, _ = output
    scales = load_file(str(folder / "scales.safetensors"))
    own = weights_of_inc(folder)
    names = [key.removesuffix(".codes") for key in scales if key.endswith(".codes")]
    assert len(names) == 16
    for name in names:
        codes, scale = scales[f"{name}.codes"], scales[f"{name}.scale"]
        assert codes.dtype == torch.int8
        assert scale.dtype == torch.float16
        weight = (codes.float().reshape(*scale.shape, -1) * scale.float()[..., None]).reshape(codes.shape)
        assert torch.equal(weight, own[f"{name}.weight"])


def weights_of_inc(folder):
    """What Neural Compressor's own saved form holds: float weights, or packed codes in the layout of GPTQ."""
    if (folder / "best_model.pt").exists():
        return torch.load(folder / "best_model.pt", weights_only=True)
    packed = torch.load(folder / "quantized_weight.pt", weights_only=True)
    names = [key.removesuffix(".qweight") for key in packed if key.endswith(".qweight")]
    return {
        f"{name}.weight": read_gptq_tensors(
            *(packed[f"{name}.{part}"] for part in ("qweight", "qzeros", "scales")), bits=4, variant="gptq"
        ).dequantize()
        for name in names
    }


@pytest.mark.inc
def test_evaluating_the_output_gives_the_reports_numbers(output, tmp_path):
    """The packed layers, loaded from disk, are what was judged."""
    folder, _ = output
    done = run("evaluate", folder, "-o", tmp_path / "again.json")
    assert done.returncode == 0, done.stderr
    again = json.loads((tmp_path / "again.json").read_text(encoding="utf-8"))
    record = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    assert set(again["languages"]) == set(LANGUAGES)
    for tag in LANGUAGES:
        assert again["languages"][tag]["loss"] == pytest.approx(record["languages"][tag]["loss"], abs=1e-6)
        assert again["languages"][tag]["text_sha256"] == record["languages"][tag]["text_sha256"]


@pytest.mark.inc
def test_same_run_gives_the_same_bytes(output, tmp_path):
    folder, _ = output
    config = write(tmp_path, settings())
    done = run("quantize", config, "--output", tmp_path / "out", "--compare", "rtn", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for name in ("scales.safetensors", "packed.safetensors", "qconfig.json"):
        assert (tmp_path / "out" / name).read_bytes() == (folder / name).read_bytes(), name
    first, second = (
        json.loads((path / "results.json").read_text(encoding="utf-8")) for path in (folder, tmp_path / "out")
    )
    for results in (first, second):
        results["meta"].pop("time")
        results["texts"].pop("source")
        results.pop("configuration_sha256")
    assert first == second
    first, second = (
        json.loads((path / "laaciq.json").read_text(encoding="utf-8")) for path in (folder, tmp_path / "out")
    )
    for record in (first, second):
        record["meta"].pop("time")
        # The two runs lie in different folders, and paths are told relative to them.
        record.pop("config")
        record["texts"]["calibration"].pop("source")
        record["texts"]["evaluation"].pop("source")
    assert first == second


@pytest.mark.inc
@pytest.mark.parametrize("keep", [False, True])
def test_failed_gate_exits_3_and_keeps_the_model_only_if_asked(main, tmp_path, keep):
    content = settings(mode="fast", gate={"max_degradation": "0npb", "max_disparity": "0%"})
    content["quantization"]["model_wise"]["weight"]["bits"] = 2
    content["tuning"]["exit_policy"] = {"max_trials": 1}
    config = write(tmp_path, content)
    done = main("quantize", config, "--output", tmp_path / "out", *(["--keep-failed"] if keep else []), cwd=tmp_path)
    assert done.returncode == 3, done.stderr
    assert "verdict: FAIL" in done.stdout
    assert not (tmp_path / "out").exists()
    failed = tmp_path / "out.failed"
    assert (failed / "laaciq.json").is_file()
    assert (failed / "report.html").is_file()
    assert (failed / "packed.safetensors").exists() is keep
    record = json.loads((failed / "laaciq.json").read_text(encoding="utf-8"))
    assert any(reason.startswith("FAIL") for reason in record["reasons"])


@pytest.mark.inc
def test_passed_gate_exits_0(main, tmp_path):
    content = settings(mode="fast", gate={"max_degradation": "50%"})
    content["la_aciq"]["evaluation"]["tokens_per_language"] = 2048
    done = main("quantize", write(tmp_path, content), "--output", tmp_path / "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "verdict: PASS" in done.stdout


@pytest.mark.inc
def test_too_little_text_is_told_at_once_and_passes_only_where_the_policy_lets_it(main, tmp_path):
    config = write(tmp_path, settings(mode="fast", gate={"max_degradation": "50%"}))
    done = main("quantize", config, "--output", tmp_path / "out", "--strict", cwd=tmp_path)
    assert done.returncode == 4, done.stderr
    assert "at least 30 are needed" in done.stdout
    assert not (tmp_path / "out").exists()
    record = json.loads((tmp_path / "out.failed" / "laaciq.json").read_text(encoding="utf-8"))
    assert len(record["trials"]) == 1  # no other configuration could have passed
    reported = main("report", tmp_path / "out.failed", "--junit", tmp_path / "gate.xml")
    assert reported.returncode == 0, reported.stderr
    gate = ElementTree.parse(tmp_path / "gate.xml").getroot().find("testsuite[@name='gate']/testcase")
    assert gate.find("failure").get("type") == "INCONCLUSIVE"


@pytest.mark.inc
def test_listed_language_without_text_never_passes(main, tmp_path):  # faults row 13
    config = write(tmp_path, settings(mode="fast", languages=[*LANGUAGES, "sw"], gate={"max_degradation": "50%"}))
    done = main("quantize", config, "--output", tmp_path / "out", cwd=tmp_path)
    assert done.returncode == 3, done.stderr
    assert "Swahili" in done.stdout


@pytest.mark.inc
def test_language_that_was_calibrated_and_cannot_be_judged_never_passes(main, tmp_path):  # faults row 13
    texts = tmp_path / "texts"
    texts.mkdir()
    for tag in ("en", "fi"):
        (texts / f"{tag}.txt").write_bytes((TEXT / "evaluation" / f"{tag}.txt").read_bytes())
    content = settings(mode="fast", gate={"max_degradation": "50%"})
    del content["la_aciq"]["languages"]
    content["la_aciq"]["evaluation"]["texts"] = str(texts)
    done = main("quantize", write(tmp_path, content), "--output", tmp_path / "out", cwd=tmp_path)
    assert done.returncode == 3, done.stderr
    assert "Hindi" in done.stdout
    again = main("gate", tmp_path / "out.failed", "--max-degradation", "50%")  # from what was written of it
    assert again.returncode == 3, again.stdout
    assert "no evaluation text was found" in again.stdout
    record = json.loads((tmp_path / "out.failed" / "laaciq.json").read_text(encoding="utf-8"))
    assert {"en", "fi", "hi"} <= set(record["texts"]["evaluation"]["languages"])  # which `evaluate` goes by


@pytest.mark.inc
def test_static_int8_runs_and_evaluates(main, tmp_path):
    content = settings()
    content["quantization"] = {"approach": "post_training_static_quant"}
    done = main("quantize", write(tmp_path, content), "--output", tmp_path / "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "out" / "laaciq.json").read_text(encoding="utf-8"))
    quantized = [layer for layer in record["layers"] if "bits" in layer]
    assert {layer["bits"] for layer in quantized} == {8}
    for layer in quantized:
        assert layer["input"]["minimum"] < 0 < layer["input"]["maximum"]
        assert all(0 < layer["input"]["errors"][tag] < 0.01 for tag in LANGUAGES)
    again = main("evaluate", tmp_path / "out", "-o", tmp_path / "again.json")
    assert again.returncode == 0, again.stderr
    losses = json.loads((tmp_path / "again.json").read_text(encoding="utf-8"))["languages"]
    for tag in LANGUAGES:
        assert losses[tag]["loss"] == pytest.approx(record["languages"][tag]["loss"], abs=1e-4)


def test_evaluate_a_float_model_from_texts(main, tmp_path):
    texts = tmp_path / "texts"
    texts.mkdir()
    for tag in LANGUAGES:
        lines = (TEXT / "evaluation" / f"{tag}.txt").read_text(encoding="utf-8").splitlines()[:20]
        (texts / f"{tag}.txt").write_text("\n".join(lines), encoding="utf-8")
    done = main("evaluate", MODEL, "--texts", texts, "-o", tmp_path / "results.json")
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert set(results["languages"]) == set(LANGUAGES)
    assert all(0 < entry["loss"] < 5 for entry in results["languages"].values())


def test_evaluate_beside_a_reference_on_aligned_text(main, tmp_path):
    texts = tmp_path / "texts"
    texts.mkdir()
    for tag in LANGUAGES:
        (texts / f"{tag}.txt").write_text("".join(f"{number} {tag}\n" for number in range(20)), encoding="utf-8")
    call = "evaluate", MODEL, "--texts", texts, "--aligned", "--reference", MODEL, "-o", tmp_path / "results.json"
    done = main(*call)
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert results["texts"]["aligned"] is True
    assert {(entry["flip_rate"], entry["kl"]) for entry in results["languages"].values()} == {(0.0, 0.0)}
    (texts / "en.txt").write_text("one line\n", encoding="utf-8")
    done = main(*call)
    assert done.returncode == 2
    assert "the languages differ in their number of lines: en 1, fi 20, hi 20" in done.stderr


def test_plan_writes_nothing_and_explains(main, tmp_path):
    config = write(tmp_path, settings())
    done = main("plan", config, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "16 layers" in done.stdout
    assert "lm_head" in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["conf.yaml"]
    as_json = json.loads(main("plan", config, "--json", cwd=tmp_path).stdout)
    assert as_json["fits"] is True
    assert as_json["languages"] == len(LANGUAGES)


@pytest.mark.parametrize("form", [(), ("--json",)])
def test_plan_of_what_does_not_fit_is_printed_and_then_refused(tmp_path, monkeypatch, capsys, form):
    monkeypatch.setattr("inc_laaciq.planning.available_memory", lambda: 1)
    with pytest.raises(ResourceError, match=r"needs about \d+\.\d GB of memory and 0\.0 GB are free"):
        cli.main(["plan", str(write(tmp_path, settings())), *form], standalone_mode=False)
    out = capsys.readouterr().out
    assert json.loads(out)["fits"] is False if form else "16 layers" in out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["la_aciq"].update(langauges=["en"]), "Did you mean 'languages'"),
        (lambda c: c["la_aciq"].update(model="no/such/folder-or-id"), "no/such/folder-or-id"),
        (lambda c: c["la_aciq"].update(mode="best"), "balanced"),
        (lambda c: c["la_aciq"]["calibration"].update(texts="/no/such/texts"), "/no/such/texts"),
        (lambda c: c["quantization"]["model_wise"]["weight"].update(bits=5.5), "bits"),
        (lambda c: c["quantization"]["model_wise"]["weight"].update(group_size=100), "does not divide"),
        (lambda c: c["la_aciq"].pop("calibration"), "calibration"),
        (
            lambda c: (
                c["la_aciq"]["evaluation"].update(texts=str(TEXT / "calibration")),
                c["la_aciq"].update(gate={"max_degradation": "10%"}),
            ),
            "overlap",
        ),  # faults row 21
    ],
)
def test_wrong_input_gets_one_clear_error_and_leaves_nothing(main, tmp_path, change, message):
    content = settings()
    change(content)
    done = main("quantize", write(tmp_path, content), "--output", tmp_path / "out", cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.count("Error:") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["conf.yaml"]


def test_missing_configuration_exits_2(main, tmp_path):  # faults row 1
    done = main("quantize", tmp_path / "none.yaml", "--output", tmp_path / "out")
    assert done.returncode == 2
    assert "none.yaml" in done.stderr


def test_existing_output_is_refused_before_any_work(main, tmp_path):  # faults row 50
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "precious.txt").write_text("keep me", encoding="utf-8")
    content = settings(model="/no/such/model")  # would be an error of its own, if it were looked at
    done = main("quantize", write(tmp_path, content), "--output", tmp_path / "out", cwd=tmp_path)
    assert done.returncode == 1
    assert "--overwrite" in done.stderr
    assert (tmp_path / "out" / "precious.txt").read_text(encoding="utf-8") == "keep me"


@pytest.mark.parametrize("output", ["data", "data/out"])
def test_output_over_a_data_set_is_refused(main, tmp_path, output):  # faults row 51
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.jsonl").write_text("{}", encoding="utf-8")
    texts = {"path": "json", "split": "train", "data_files": {"train": ["data/a.jsonl"]}}
    content = settings(model="/no/such/model")
    content["la_aciq"]["calibration"]["texts"] = texts if output == "data" else {**texts, "path": "data"}
    done = main("quantize", write(tmp_path, content), "--output", output, "--overwrite", cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    assert "the input" in done.stderr
    assert (tmp_path / "data" / "a.jsonl").is_file()


def test_a_results_file_that_cannot_be_written_is_refused_before_any_work(main, tmp_path):  # faults row 53
    done = main("evaluate", "/no/such/model", "-o", tmp_path / "none" / "results.json")
    assert done.returncode == 1, done.stderr
    assert "cannot be written" in done.stderr


def test_a_model_name_longer_than_a_path_is_no_internal_error(main, tmp_path):
    done = main("quantize", write(tmp_path, settings()), "--model", "x" * 5000, "--output", "out", cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert "is neither a folder here nor a model on the hub" in done.stderr


@pytest.mark.parametrize("policy", ["error", "keep-fp"])
def test_nan_outside_of_the_quantized_layers_is_named(main, tmp_path, policy):  # faults row 38
    shutil.copytree(MODEL, tmp_path / "model")
    file = tmp_path / "model" / "model.safetensors"
    state = {name: tensor.clone() for name, tensor in load_file(file).items()}
    name = next(name for name in state if name.endswith("ln_f.weight"))
    state[name][:3] = float("nan")
    save_file(state, file, metadata={"format": "pt"})
    done = main("plan", write(tmp_path, settings(model="model", nan=policy)))
    assert done.returncode == (2 if policy == "error" else 0), done.stderr
    assert f"{name.removeprefix('transformer.')} (3)" in " ".join((done.stdout + done.stderr).split())


@pytest.mark.inc
def test_neural_compressor_is_not_heard_while_it_is_imported():
    code = (
        "from inc_laaciq.backends.inc_api import is_available\n"
        "from inc_laaciq.cli import listen\n"
        "listen(verbose=False, debug=False)\n"
        "is_available('adaptor'), is_available('torch')"
    )
    environment = {key: value for key, value in ENVIRONMENT.items() if key != "LOGLEVEL"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert "accelerator" not in done.stderr


def test_an_error_cannot_command_the_terminal(main, tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text(
        json.dumps({"model_type": "own", "auto_map": {"AutoConfig": "own.\x1b[2J"}}), encoding="utf-8"
    )
    done = main("quantize", write(tmp_path, settings(model="model")), "--output", tmp_path / "out", cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert "\\x1b[2J" in done.stderr
    assert "\x1b" not in done.stderr


def test_a_reader_that_goes_away_is_no_internal_error(tmp_path):
    config = write(tmp_path, settings())
    read, written = os.pipe()
    os.close(read)
    with os.fdopen(written, "wb") as pipe:
        done = subprocess.run(
            command("plan", config), stdout=pipe, stderr=subprocess.PIPE, text=True, check=False, env=ENVIRONMENT
        )
    assert done.returncode == 1
    assert "internal error" not in done.stderr
    assert "Exception ignored" not in done.stderr


def test_output_inside_the_model_is_refused(main, tmp_path):  # faults row 51
    done = main("quantize", write(tmp_path, settings()), "--output", MODEL / "out", cwd=tmp_path)
    assert done.returncode == 1
    assert not (MODEL / "out").exists()


@pytest.mark.inc
@pytest.mark.parametrize(
    ("stage", "sent", "code"),
    [("calibrating", signal.SIGTERM, 143), ("evaluating", signal.SIGINT, 130), ("calibrating", signal.SIGINT, 130)],
)
def test_signals_leave_nothing_half_written(tmp_path, stage, sent, code):  # faults row 55
    content = settings()
    content["la_aciq"]["evaluation"]["tokens_per_language"] = 0
    content["la_aciq"]["calibration"]["tokens_per_language"] = 16384
    config = write(tmp_path, content)
    process = subprocess.Popen(
        command("quantize", config, "--output", tmp_path / "out"),
        stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=tmp_path, env=ENVIRONMENT,
        # A job in the background of a script is started with SIGINT ignored, and its children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith(stage):
            process.send_signal(sent)
            break
    process.communicate(timeout=120)
    assert process.returncode == code
    left = {path.name for path in tmp_path.iterdir()} - {"conf.yaml"}
    assert not {name for name in left if not name.endswith(".lock")}, left


@pytest.mark.parametrize("arguments", [(), ("quantize",), ("plan",), ("evaluate",)])
def test_help_teaches(arguments):
    done = run(*arguments, "--help")
    assert done.returncode == 0
    assert "Usage: " in done.stdout
    assert (
        "CONFIG" if arguments in (("quantize",), ("plan",)) else "MODEL" if arguments else "quantize"
    ) in done.stdout
    assert "torch" not in done.stderr


def test_c_locale_does_not_crash(tmp_path):
    texts = tmp_path / "texts"
    texts.mkdir()
    (texts / "hi.txt").write_text("यह एक परीक्षण है।\n", encoding="utf-8")
    where = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii"}
    done = run("evaluate", MODEL, "--texts", texts, "-o", tmp_path / "r.json", env=where)
    assert done.returncode == 0, done.stderr

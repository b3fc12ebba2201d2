"""What goes wrong gets one clear message and its exit code, and leaves nothing behind."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from tiny_models import VOCABULARY
from transformers import CTRLConfig, CTRLLMHeadModel

import optimum.commands.register as register
from inc_laaciq.config import RunSpec
from inc_laaciq.errors import IntegrityError, ModelError, ResourceError, SpecError
from inc_laaciq.evaluate import evaluate_model
from inc_laaciq.openvino import export

pytestmark = pytest.mark.openvino


def left(folder):
    """What is in a folder, but for locks, which stay."""
    return sorted(path.name for path in folder.iterdir() if not path.name.endswith(".lock"))


@pytest.fixture
def refused(optimum_cli, tmp_path):
    """Run the command, and see that it fails with one message and leaves the folder as it was."""

    def call(*arguments, code=2):
        before = left(tmp_path)
        done = optimum_cli(*arguments)
        assert done.returncode == code, done.stderr
        assert done.stderr.count("Error:") == 1, done.stderr
        assert "Traceback" not in done.stderr
        assert "internal error" not in done.stderr
        assert left(tmp_path) == before
        return done.stderr

    return call


def write(folder, **content):
    (folder / "conf.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    return folder / "conf.yaml"


def test_help_teaches(optimum_cli):
    done = optimum_cli("--help")
    assert done.returncode == 0
    for word in ("MODEL must be in float", "5%", "exit codes: 0 pass", "--keep-failed"):
        assert word in done.stdout


def test_optimum_finds_the_command_because_no_package_is_in_its_way():
    assert register.__file__ is None
    assert not [folder for folder in register.__path__ if (Path(folder) / "__init__.py").exists()]


def test_a_kind_of_model_that_optimum_cannot_export_is_refused_before_any_work(refused, bpe, tmp_path):
    sizes = {"n_embd": 64, "dff": 128, "n_layer": 1, "n_head": 2, "n_positions": 64}
    torch.manual_seed(0)
    CTRLLMHeadModel(CTRLConfig(vocab_size=VOCABULARY, **sizes)).save_pretrained(tmp_path / "model")
    bpe.save_pretrained(tmp_path / "model")
    told = refused("-m", tmp_path / "model", tmp_path / "out", "--group-size", 32)
    assert "optimum-intel cannot export a ctrl model for text-generation-with-past to OpenVINO" in told
    assert "solving" not in told


def test_a_quantized_checkpoint_is_refused(refused, checkpoint, tmp_path):
    shutil.copytree(checkpoint("llama"), tmp_path / "model")
    config = json.loads((tmp_path / "model" / "config.json").read_text(encoding="utf-8"))
    config["quantization_config"] = {"quant_method": "gptq", "bits": 4, "group_size": 32}
    (tmp_path / "model" / "config.json").write_text(json.dumps(config), encoding="utf-8")
    told = refused("-m", tmp_path / "model", tmp_path / "out")
    assert "quantized" in told
    assert "gptq" in told


def test_an_openvino_model_is_refused_wherever_it_is_named(refused, float_ir, tmp_path):
    folder = float_ir("llama").path.parent
    for arguments in (("-m", folder), ("--config", write(tmp_path, la_aciq={"model": str(folder), "mode": "fast"}))):
        told = refused(*arguments, tmp_path / "out")
        assert f"{folder} is an OpenVINO model already. Give the float model" in " ".join(told.split())


def test_a_hub_id_is_told_apart_from_a_folder_and_not_fetched_offline(refused, tmp_path):
    assert "no-such/model" in refused("-m", "no-such/model", tmp_path / "out")
    told = refused("-m", "x" * 5000, tmp_path / "out")
    assert "is neither a folder here nor a model on the hub" in told
    with pytest.raises(ModelError, match="neither a folder here nor a model on the hub"):
        evaluate_model("x" * 5000, texts=tmp_path)


def test_no_model_at_all(refused, tmp_path):
    assert "no model" in refused(tmp_path / "out")


def test_an_output_that_is_there_is_refused_and_kept(refused, checkpoint, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "precious.txt").write_text("keep me", encoding="utf-8")
    assert "--overwrite" in refused("-m", checkpoint("llama"), tmp_path / "out", code=1)
    assert (tmp_path / "out" / "precious.txt").read_text(encoding="utf-8") == "keep me"


@pytest.mark.parametrize("place", ["model", "model/out", "texts/out"])
def test_an_output_in_what_is_read_is_refused(refused, checkpoint, texts, tmp_path, place):
    shutil.copytree(checkpoint("llama"), tmp_path / "model")
    shutil.copytree(texts / "evaluation", tmp_path / "texts")
    before = left(tmp_path / "model")
    arguments = ("-m", tmp_path / "model", tmp_path / place, "--evaluation", tmp_path / "texts", "--overwrite")
    assert "input" in refused(*arguments, code=1)
    assert left(tmp_path / "model") == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--group-size", 48), "group_size=48 does not divide in_features=64"),
        (("--group-size", 0), "group_size"),
        (("--mode", "balanced"), "needs la_aciq.calibration.texts"),
        (("--calibration", "/no/such/texts"), "/no/such/texts"),
        (("--evaluation", "/no/such/texts"), "/no/such/texts"),
        (("--gate", "policy.yaml"), "policy.yaml"),
        (("--gate", "much"), "max_degradation"),
        (("--config", "none.yaml"), "none.yaml"),
        (("--revision", "a" * 40), "A revision is for the id of a model on the hub"),
    ],
    ids=lambda value: value[0].strip("-") if isinstance(value, tuple) else "",
)
def test_wrong_arguments(refused, checkpoint, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert message in " ".join(refused("-m", checkpoint("llama"), tmp_path / "out", *arguments).split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--group-size", "many"), "invalid int value"),
        (("--weight-format", "int3"), "invalid choice"),
        (("--sym", "--asym"), "not allowed with"),
    ],
)
def test_options_that_argparse_refuses(optimum_cli, tmp_path, arguments, message):
    done = optimum_cli("-m", "model", tmp_path / "out", *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert left(tmp_path) == []


def test_ranges_of_neural_compressor_are_refused_before_the_model_is_loaded(refused, tmp_path):
    activation = {"activation": {"algorithm": "minmax"}}
    config = write(tmp_path, quantization={"approach": "post_training_static_quant", "model_wise": activation})
    told = refused("-m", "/no/such/model", tmp_path / "out", "--config", config)
    assert "activation.algorithm: minmax is Neural Compressor's own" in told


def test_a_run_spec_with_other_settings(checkpoint, tmp_path):
    with pytest.raises(SpecError, match="a RunSpec was given together with other settings"):
        export(checkpoint("llama"), tmp_path / "out", RunSpec(), weight_format="int8")
    assert left(tmp_path) == []


@pytest.mark.parametrize("missing", ["openvino", "optimum.intel.openvino"])
def test_without_openvino_the_command_that_installs_it_is_told(
    refused, checkpoint, float_ir, tmp_path, monkeypatch, missing
):
    folder = float_ir("llama").path.parent
    monkeypatch.setitem(sys.modules, missing, None)
    told = refused("-m", checkpoint("llama"), tmp_path / "out", code=1)
    assert "pip install 'inc-laaciq[openvino]'" in told
    with pytest.raises(Exception, match=r"OpenVINO models need the packages openvino and optimum-intel"):
        evaluate_model(folder, texts=tmp_path)


@pytest.fixture
def small_disk(tmp_path):
    """A disk of two MiB; skip where mounting is not allowed."""
    place = tmp_path / "disk"
    place.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)], check=False, capture_output=True
    )
    if done.returncode != 0:
        pytest.skip("mounting is not allowed here")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_a_full_disk(checkpoint, small_disk, when):
    """Seen before the work where the estimate tells it, and else told as what it is, whatever OpenVINO says."""
    filler = small_disk / "filler"

    def fill(*_):
        with contextlib.suppress(OSError), open(filler, "wb", buffering=0) as file:
            while file.write(b"x" * 65536):
                pass

    if when == "before":
        filler.write_bytes(b"x" * 1_500_000)
    message = "too small: .* bytes needed" if when == "before" else r"the disk is full.* bytes needed.*Nothing was left"
    with pytest.raises(ResourceError, match=message):
        export(checkpoint("llama"), small_disk / "out", group_size=32, progress=fill if when == "meanwhile" else None)
    assert left(small_disk) == ["filler"]


@pytest.mark.parametrize(
    ("number", "code", "part"),
    [(signal.SIGINT, 130, "float"), (signal.SIGTERM, 143, "candidate")],
    ids=["SIGINT while it is exported", "SIGTERM while it is judged"],
)
def test_a_signal_leaves_what_was_there(checkpoint, texts, tmp_path, number, code, part):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old.txt").write_text("keep me", encoding="utf-8")
    command = [
        sys.executable, "-m", "optimum.commands.optimum_cli", "export", "openvino-laaciq", "-m", checkpoint("llama"),
        tmp_path / "out", "--group-size", "32", "--overwrite", "--evaluation", texts / "evaluation",
    ]  # fmt: skip
    # A process of its own: a signal is for all of a process, and this one may be a worker of the test runner.  A job in
    # the background of a script is started with SIGINT ignored, and its children inherit that.
    process = subprocess.Popen(
        list(map(str, command)),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    while process.poll() is None and not any(tmp_path.glob(f".out*/{part}")):
        time.sleep(0.01)
    process.send_signal(number)
    _, told = process.communicate(timeout=120)
    assert process.returncode == code, told
    assert "nothing is half-written" in told
    assert left(tmp_path) == ["out"]
    assert (tmp_path / "out" / "old.txt").read_text(encoding="utf-8") == "keep me"


def test_an_output_that_was_changed_is_refused(run, texts, tmp_path):
    shutil.copytree(run("llama").folder, tmp_path / "out")
    file = tmp_path / "out" / "openvino_model.bin"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(IntegrityError, match=r"openvino_model\.bin has SHA-256"):
        evaluate_model(tmp_path / "out", texts=texts / "evaluation")
    record = json.loads((tmp_path / "out" / "laaciq.json").read_text(encoding="utf-8"))
    del record["files"]["openvino_model.bin"]
    (tmp_path / "out" / "laaciq.json").write_text(json.dumps(record), encoding="utf-8")
    with pytest.raises(IntegrityError, match=r"openvino_model\.bin is not in the manifest"):
        evaluate_model(tmp_path / "out", texts=texts / "evaluation")

"""`inc-laaciq pack`: an output folder becomes a checkpoint, or nothing is written."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path

import pytest
import torch
import yaml
from packed_models import any_weight, grown, linear_names, llama, logits, solved, with_weights
from safetensors.torch import load_file, save_file

with warnings.catch_warnings():  # Neural Compressor and what it imports warn while they are imported
    warnings.simplefilter("ignore")
    pytest.importorskip("neural_compressor", exc_type=ImportError)

import inc_laaciq
from inc_laaciq.artifacts import write_artifacts
from inc_laaciq.backends.inc_saved import save_solution
from inc_laaciq.backends.saved_solution import read_solution
from inc_laaciq.calibration.folding import Fold
from inc_laaciq.checkpoint import load_model, sha256_of_files
from inc_laaciq.config import read_config
from inc_laaciq.errors import IntegrityError, SpecError
from inc_laaciq.evaluation.gate import judge
from inc_laaciq.evaluation.measured import Evaluation
from inc_laaciq.job import prepare
from inc_laaciq.output import atomic_folder
from inc_laaciq.packing import read_output
from inc_laaciq.pipeline import run_quantization

pytestmark = pytest.mark.inc

RECIPE = Path(__file__).parents[1] / "recipes" / "small_bloom"
MODEL = RECIPE / "model"
EMPTY = Evaluation(source="", id="", name="", model={}, tokenizer={}, texts={}, losses={}, missing={})


@pytest.fixture(scope="module")
def output(tmp_path_factory):
    """Output folder of a run; its gate is undecided, and that is a warning."""
    folder = tmp_path_factory.mktemp("run")
    content = {
        "quantization": {
            "approach": "post_training_weight_only",
            "model_wise": {"weight": {"bits": 4, "group_size": 64, "scheme": "sym"}},
        },
        "tuning": {"strategy": {"name": "la_aciq"}, "exit_policy": {"max_trials": 1}},
        "la_aciq": {
            "model": str(MODEL),
            "mode": "fast",
            "languages": ["en", "fi"],
            "evaluation": {"texts": str(RECIPE / "text" / "evaluation"), "tokens_per_language": 128},
            "gate": {"max_degradation": "50%"},
        },
    }
    (folder / "conf.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch:
        warnings.simplefilter("ignore")
        patch.chdir(folder)
        job = prepare(read_config(folder / "conf.yaml"))
        with atomic_folder(folder / "out", inputs=[]) as out:
            write_artifacts(job, run_quantization(job), out)
    return folder / "out"


@pytest.fixture
def copied(output, tmp_path):
    """Give a copy of the output with other contents of its record."""

    def give(**changes):
        folder = tmp_path / "out"
        shutil.copytree(output, folder)
        record = json.loads((folder / "laaciq.json").read_text(encoding="utf-8"))
        (folder / "laaciq.json").write_text(json.dumps({**record, **changes}), encoding="utf-8")
        return folder

    return give


def record_of(folder):
    return json.loads((folder / "laaciq.json").read_text(encoding="utf-8"))


@torch.no_grad()
def bloom_logits(model):
    return model(input_ids=torch.arange(5, 37)[None]).logits


def test_packed_model_is_the_one_that_was_solved_and_keeps_its_verdict(main, output, tmp_path):
    folder = tmp_path / "packed"
    done = main("pack", output, "--model", MODEL, "-o", folder)
    assert done.returncode == 0, done.stderr
    assert "neural-compressor on Gaudi: nothing stands in the way" in done.stdout
    assert f"Written to {folder}" in done.stdout
    record, before = record_of(folder), record_of(output)
    assert {key: record[key] for key in ("verdict", "languages", "policy")} == {
        key: before[key] for key in ("verdict", "languages", "policy")
    }
    assert record["verdict"] == "INCONCLUSIVE"
    assert record["packed"]["made_from"] == {"laaciq.json": sha256_of_files([output / "laaciq.json"])}
    assert record["files"]["model.safetensors"] == sha256_of_files([folder / "model.safetensors"])
    source = record["texts"]["evaluation"]["source"]
    assert (folder / source).resolve() == RECIPE / "text" / "evaluation"
    loaded = load_model(MODEL).model
    expected = bloom_logits(with_weights(loaded, dict(read_solution(output, before).weights)))
    assert torch.equal(bloom_logits(inc_laaciq.load_packed_checkpoint(folder)), expected)


def test_packed_model_is_evaluated_and_judged_like_the_output(main, output, tmp_path):
    pytest.importorskip("compressed_tensors")
    measured = json.loads((output / "results.json").read_text(encoding="utf-8"))["languages"]
    for layout in ("gptq", "compressed-tensors"):
        folder, results = tmp_path / layout, tmp_path / f"{layout}.json"
        assert main("pack", output, "--model", MODEL, "--format", layout, "-o", folder).returncode == 0
        assert main("evaluate", folder, "-o", results).returncode == 0
        found = json.loads(results.read_text(encoding="utf-8"))
        assert found["model"] == {**found["model"], "kind": "packed", "sha256": record_of(output)["model"]["sha256"]}
        for tag, entry in found["languages"].items():
            assert entry["loss"] == pytest.approx(measured[tag]["loss"], rel=1e-6)
        assert main("gate", folder, "--max-degradation", "50%").returncode == 0
    (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:-1] + b"\x00")
    spoilt = main("evaluate", folder, "-o", results)
    assert spoilt.returncode == 2
    assert "model.safetensors has SHA-256" in spoilt.stderr


def test_dry_run_says_all_and_writes_nothing(main, output, tmp_path):
    done = main("pack", output, "--model", MODEL, "--dry-run", cwd=tmp_path)
    assert done.returncode == 0
    assert "gptqmodel: nothing stands in the way" in done.stdout
    assert done.stdout.endswith("Nothing was written\n")
    assert main("pack", output, "--model", MODEL, "--dry-run", "-o", "packed", cwd=tmp_path).returncode == 0
    assert not list(tmp_path.iterdir())


def test_a_folder_is_needed_and_is_replaced_only_if_asked(main, output, tmp_path):
    assert main("pack", output, "--model", MODEL).returncode == 2
    folder = tmp_path / "packed"
    folder.mkdir()
    (folder / "mine").write_text("mine", encoding="utf-8")
    refused = main("pack", output, "--model", MODEL, "-o", folder)
    assert refused.returncode == 1
    assert "exists and is not empty" in refused.stderr
    assert main("pack", output, "--model", MODEL, "-o", folder, "--overwrite").returncode == 0
    assert not (folder / "mine").exists()
    inside = main("pack", output, "--model", MODEL, "-o", output / "packed")
    assert "would be written inside the input" in inside.stderr


@pytest.mark.parametrize(
    "changes",
    [
        {"verdict": "FAIL"},
        {"verdict": "NOT-RUN"},
        {"verdict": "INCONCLUSIVE", "policy": {"inconclusive": "fail"}},
        {"verdict": "of another version"},
        {"verdict": None},
        {"verdict": "FAIL", "policy": None},
        {"verdict": "NOT-RUN", "policy": {}},
    ],
)
def test_what_its_gate_does_not_let_through_is_refused(main, copied, changes, tmp_path):
    done = main("pack", copied(**changes), "--model", MODEL, "-o", tmp_path / "packed")
    assert done.returncode == 3
    assert f"its gate says {changes['verdict']}" in done.stderr
    assert not list(tmp_path.glob("packed*"))


def test_a_failed_model_is_kept_apart_if_asked(main, copied, tmp_path):
    folder = tmp_path / "packed"
    done = main("pack", copied(verdict="FAIL"), "--model", MODEL, "-o", folder, "--keep-failed")
    assert done.returncode == 3
    assert not folder.exists()
    failed = tmp_path / "packed.failed"
    assert f"Written to {failed}" in done.stdout
    assert record_of(failed)["verdict"] == "FAIL"
    assert (failed / "model.safetensors").is_file()


def test_without_a_gate_nothing_was_asked(copied):
    """The record then has a policy without bounds, which `judge` writes for None."""
    nothing = judge(EMPTY, EMPTY, None)
    assert read_output(copied(policy=nothing["policy"], verdict=nothing["verdict"])).refusal == ""


def test_another_float_model_is_refused(main, output, tmp_path):
    done = main("pack", output, "--model", RECIPE.parent / "small_llama" / "model", "-o", tmp_path / "packed")
    assert done.returncode == 2
    assert "Give the float model that was quantized" in done.stderr
    assert not (tmp_path / "packed").exists()


def test_what_is_no_output_is_refused(main, output, copied, tmp_path):
    done = main("pack", MODEL, "--model", MODEL, "--dry-run")
    assert done.returncode == 2
    assert "has no laaciq.json" in done.stderr
    static = copied(config={"approach": "post_training_static_quant"})
    with pytest.raises(SpecError, match="its layers round their inputs too"):
        read_output(static)
    assert main("pack", output, "--model", MODEL, "-o", tmp_path / "packed").returncode == 0
    with pytest.raises(SpecError, match="is packed already"):
        read_output(tmp_path / "packed")


def test_codes_that_are_not_those_of_the_record_are_refused(copied):
    folder = copied()
    tensors = {name: tensor.clone() for name, tensor in load_file(folder / "scales.safetensors").items()}
    first = next(name for name in tensors if name.endswith(".codes"))
    tensors[first] += 1
    save_file(tensors, folder / "scales.safetensors")
    with pytest.raises(IntegrityError, match=r"scales\.safetensors has SHA-256"):
        read_output(folder)


def entry(name, weight):
    return {
        "name": name,
        "bits": weight.grid.bits,
        "group_size": weight.group_size,
        "scheme": weight.grid.scheme,
        "n_weights": weight.codes.numel(),
    }


def saved(folder, weights, folds=()):
    """A solution on disk, and the part of the record that belongs to it."""
    save_solution(weights, folder / "scales.safetensors", folds=folds)
    return {
        "files": {"scales.safetensors": sha256_of_files([folder / "scales.safetensors"])},
        "layers": [*(entry(name, weight) for name, weight in weights.items()), {"name": "head", "float": "why"}],
        "folds": [{"norm": fold.norm, "layers": list(fold.layers)} for fold in folds],
    }


def test_a_solution_is_read_back_as_it_was_with_its_folds(tmp_path):
    model = grown(llama)
    names = linear_names(model)
    weights = {**solved(model, names), **solved(model, names[:1], bits=3, scheme="asym", group_size=-1)}
    scale = torch.ones(64)
    scale[3] = 8.0
    layers = tuple(f"model.layers.0.self_attn.{name}_proj" for name in "qkv")
    folds = (Fold(norm="model.layers.0.input_layernorm", layers=layers, scale=scale),)
    found = read_solution(tmp_path, saved(tmp_path, weights, folds))
    assert list(found.weights) == list(weights)
    for name, weight in weights.items():
        assert torch.equal(found.weights[name].codes, weight.codes)
        assert (found.weights[name].grid, found.weights[name].group_size) == (weight.grid, weight.group_size)
    expected = logits(with_weights(model, weights, folds))
    assert torch.equal(logits(with_weights(model, dict(found.weights), found.folds)), expected)


def test_layers_that_only_openvino_quantizes_stay_in_float(tmp_path):
    weights = {"layer": any_weight(4, "sym")}
    record = saved(tmp_path, weights)
    record["layers"].append({"name": "lm_head", "bits": 8, "group_size": -1, "scheme": "sym", "n_weights": 4})
    assert set(read_solution(tmp_path, record).weights) == {"layer"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bits": 3}, "does not fit 3 bits sym in groups of 16"),
        ({"group_size": 32}, "does not fit 4 bits sym in groups of 32"),
        ({"n_weights": 5}, "what it holds of layer 'layer' does not fit"),
        ({"scheme": "asym"}, "layer.zero_point is missing"),
        ({"name": "other"}, "layer.codes, layer.scale is not in laaciq.json"),
    ],
)
def test_a_record_that_does_not_fit_is_refused(change, message, tmp_path):
    record = saved(tmp_path, {"layer": any_weight(4, "sym")})
    record["layers"][0] |= change
    with pytest.raises(IntegrityError, match=message):
        read_solution(tmp_path, record)


def test_an_incomplete_record_is_refused(tmp_path):
    record = saved(tmp_path, {"layer": any_weight(4, "sym")})
    del record["folds"]
    with pytest.raises(IntegrityError, match="is not a complete record"):
        read_solution(tmp_path, record)

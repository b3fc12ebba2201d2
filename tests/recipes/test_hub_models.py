"""The recipe for models of the hub: names at full size without weights, the whole way on a model that is here."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from pathlib import Path

import pytest
import torch

from inc_laaciq.assess import assess_quantization_risk
from inc_laaciq.calibration.layers import find_layers
from inc_laaciq.config import WeightSpec, run_spec
from inc_laaciq.config.strict_yaml import read_document

ROOT = Path(__file__).parents[2]
LINEAR = {  # of each block
    "bloom": {"self_attention.query_key_value", "self_attention.dense", "mlp.dense_h_to_4h", "mlp.dense_4h_to_h"},
    "xglm": {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.out_proj", "fc1", "fc2"},
    "llama": {f"self_attn.{name}_proj" for name in "qkvo"} | {f"mlp.{name}_proj" for name in ("gate", "up", "down")},
}
LINEAR["qwen2"] = LINEAR["mistral"] = LINEAR["llama"]


@pytest.fixture(scope="module")
def recipe():
    spec = importlib.util.spec_from_file_location("hub_models", ROOT / "recipes/hub_models.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["hub_models"] = module  # where its dataclasses look for their annotations
    spec.loader.exec_module(module)
    yield module
    del sys.modules["hub_models"]


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    found = {}
    for kind in ("calibration", "evaluation"):
        found[kind] = tmp_path_factory.mktemp(kind)
        for tag in ("en", "fi"):
            shutil.copy(ROOT / f"recipes/small_bloom/text/{kind}/{tag}.txt", found[kind])
    return found


NAMES = ("bloom-560m", "bloom-7b1", "xglm-564m", "qwen2.5-0.5b", "llama-3.2-1b", "mistral-7b")


@pytest.mark.parametrize("name", NAMES)
def test_every_weight_of_the_full_model_has_its_name(recipe, name):
    model = recipe.MODELS[name]
    module = recipe.skeleton(model)
    assert {parameter.device.type for parameter in module.parameters()} == {"meta"}
    layers = find_layers(module, WeightSpec(bits=4, group_size=recipe.GROUP_SIZE))
    quantized = {layer.name for layer in layers if layer.weight is not None}
    n_blocks = model.sizes.get("n_layer") or model.sizes.get("num_layers") or model.sizes["num_hidden_layers"]
    ends = {name.split(".", maxsplit=[p.isdigit() for p in name.split(".")].index(True) + 1)[-1] for name in quantized}
    assert ends == LINEAR[model.model_type]
    assert len(quantized) == n_blocks * len(ends)
    assert [layer.name for layer in layers if layer.weight is None] == ["lm_head"]


def test_the_list_says_what_each_takes(recipe, capsys):
    assert recipe.main([]) == 0
    shown = capsys.readouterr().out
    for name, model in recipe.MODELS.items():
        assert name in shown
        assert model.hub_id in shown
    plan = recipe.planned(recipe.MODELS["bloom-7b1"])
    assert 40e9 < plan.memory_bytes < 80e9
    assert f"{plan.memory_bytes / 1e9:6.1f} GB" in shown


SMALL = {
    "bloom": {"hidden_size": 64, "n_layer": 2, "n_head": 4},
    "xglm": {"d_model": 64, "num_layers": 2, "attention_heads": 4, "ffn_dim": 128},
    "qwen2": {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128},
    "llama": {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128},
    "mistral": {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128},
}


@pytest.mark.parametrize("model_type", SMALL)
def test_every_architecture_is_assessed(recipe, model_type, texts, bpe):
    sizes = {**SMALL[model_type], "vocab_size": len(bpe)}
    if "num_attention_heads" in sizes:
        sizes["num_key_value_heads"] = 2
    torch.manual_seed(0)
    model = recipe.skeleton(recipe.HubModel(hub_id="", model_type=model_type, dtype="float32", sizes=sizes))
    model = type(model)(model.config).eval()
    found = assess_quantization_risk(model, texts["calibration"], tokenizer=bpe, tokens_per_language=128)
    assert len(found["layers"]) == 2 * len(LINEAR[model_type])
    assert all(entry["predicted_degradation"] > 0 for entry in found["languages"].values())


def given(texts, folder, *more):
    chosen = ["llama-3.2-1b", "--model", str(ROOT / "recipes/small_llama/model"), "--output", str(folder)]
    return [*chosen, *(f"--{kind}={path}" for kind, path in texts.items()), *more]


def test_a_dry_run_prints_commands_and_writes_nothing(recipe, texts, tmp_path, capsys):
    assert recipe.main(given(texts, tmp_path / "out", "--dry-run")) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(recipe.STEPS)
    assert all("small_llama" in line or " gate " in line for line in lines)
    assert list(tmp_path.iterdir()) == []


def test_the_configuration_is_a_good_one(recipe, texts, tmp_path):
    options = recipe.parser().parse_args(given(texts, tmp_path))
    path = tmp_path / "conf.yaml"
    path.write_text(recipe.yaml_of(options), encoding="utf-8")
    run = run_spec(read_document(path).data, folder=tmp_path)
    assert (run.weight.bits, run.weight.group_size, run.la_aciq.mode) == (4, 128, "balanced")
    assert run.la_aciq.evaluation.tokens_per_language == 4096
    odd = dict.fromkeys(texts, tmp_path / "a, b: c #1}")
    path.write_text(recipe.yaml_of(recipe.parser().parse_args(given(odd, tmp_path))), encoding="utf-8")
    assert run_spec(read_document(path).data, folder=tmp_path).la_aciq.calibration.texts == str(odd["calibration"])


def test_a_step_that_is_none_is_refused(recipe, texts, tmp_path):
    with pytest.raises(SystemExit, match="no step is called quantise"):
        recipe.main(given(texts, tmp_path, "--steps", "assess,quantise"))


def test_a_failed_gate_is_the_exit_code_and_stops_nothing(recipe, texts, tmp_path, monkeypatch):
    shutil.copytree(ROOT / "recipes/ci/example", tmp_path / "out/inc")
    commands = recipe.commands_of
    reached = [sys.executable, "-c", "open('reached', 'w').close()"]
    monkeypatch.setattr(recipe, "commands_of", lambda options: {**commands(options), "export": reached})
    monkeypatch.chdir(tmp_path)
    assert recipe.main(given(texts, tmp_path / "out", "--steps", "gate", "--limit", "10%")) == recipe.GATE_FAILED
    assert (tmp_path / "reached").is_file()


def test_another_failure_ends_it(recipe, texts, tmp_path, monkeypatch):
    commands = {"gate": [sys.executable, "-c", "raise SystemExit(2)"], "export": ["no-such-command"]}
    monkeypatch.setattr(recipe, "commands_of", lambda _options: commands)
    assert recipe.main(given(texts, tmp_path)) == 2


@pytest.mark.inc
@pytest.mark.openvino
def test_the_whole_way(recipe, texts, tmp_path, monkeypatch):
    pytest.importorskip("neural_compressor.quantization", exc_type=ImportError)
    pytest.importorskip("optimum.intel.openvino", exc_type=ImportError)
    monkeypatch.chdir(tmp_path)
    code = recipe.main(given(texts, tmp_path / "out", "--tokens", "128", "--bits", "4", "--limit", "90%"))
    assert code == 0
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"risk.json", "risk.html", "recommended.yaml", "sweep.json", "inc", "gate.html", "openvino"} <= written
    assert (tmp_path / "out/openvino/openvino_model.xml").is_file()

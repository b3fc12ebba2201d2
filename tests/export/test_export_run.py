"""Whole exports of tiny models: what is written is what was solved, and what is told of it is what it does."""

from __future__ import annotations

import json
import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from stamps import read_stamp
from tiny_exports import NAMES, WEIGHTS

from inc_laaciq.backends.openvino_ir import linear_nodes
from inc_laaciq.backends.openvino_weights import stored_weights
from inc_laaciq.checkpoint import sha256_of_files
from inc_laaciq.evaluate import evaluate_model
from inc_laaciq.evaluation.results import read_results
from inc_laaciq.output import write_json_atomic

pytestmark = pytest.mark.openvino

CACHED = ("llama", "xglm", "bloom")
GENERATE = """
import json, sys
import openvino_genai
folder, prompt, settings, options = sys.argv[1:]
text = openvino_genai.LLMPipeline(folder, "CPU", **json.loads(settings)).generate(prompt, **json.loads(options))
print(json.dumps(str(text)))
"""


@pytest.mark.parametrize("name", NAMES)
def test_the_file_holds_what_was_solved(run, name):
    found = run(name)
    stored = stored_weights(found.ir)
    assert found.layers
    for layer in found.layers:
        (parts,) = stored[layer]
        assert parts["scale"].dtype == np.float16
        for key in ("codes", "scale", "zero_point"):
            solved = found.solved.get(f"{layer}.{key}")
            assert (solved is None) == (key not in parts)
            if solved is not None:
                assert np.array_equal(parts[key], solved.numpy()), (layer, key)
    extra = {"transformer.word_embeddings", "lm_head"} if name == "bloom" else set()
    assert set(stored) == {*found.layers, *extra}
    assert {layer["name"] for layer in found.report["layers"] if "bits" in layer} == {
        *found.layers,
        *(extra & {"lm_head"}),
    }


@pytest.mark.parametrize("name", ["llama", "xglm", "qwen2", "mistral"])
def test_its_logits_are_those_of_the_rounded_weights(run, tokens, name):
    found = run(name)
    real = tokens["attention_mask"].bool()
    with torch.inference_mode():
        wanted = found.rounded_model()(**tokens).logits[real]
        before = found.float_model()(**tokens).logits[real]
    logits = found.model()(**tokens)[real]
    assert float((logits - wanted).abs().max()) < 1e-4
    assert float((before - wanted).abs().max()) > 0.005


def test_mixed_bits_are_those_of_the_configuration(run):
    layers = {layer["name"].removeprefix("model.layers."): layer for layer in run("llama").report["layers"]}
    bits = {name: layer.get("bits") for name, layer in layers.items() if not name.startswith("0.")}
    assert bits == {
        "1.self_attn.q_proj": 4, "1.self_attn.k_proj": 8, "1.self_attn.v_proj": None, "1.self_attn.o_proj": 6,
        "1.mlp.gate_proj": 5, "1.mlp.up_proj": 3, "1.mlp.down_proj": 2, "lm_head": 4,
    }  # fmt: skip
    assert layers["0.self_attn.q_proj"]["scheme"] == "asym"
    kinds = {}
    for name, (node,) in linear_nodes(run("llama").ir).items():
        value = node.input_value(1).get_node()
        while value.get_type_name() != "Constant":
            value = value.input_value(0).get_node()
        kinds[name.removeprefix("model.layers.1.")] = value.get_element_type().get_type_name()
    assert kinds["self_attn.q_proj"] == "u4"
    assert kinds["self_attn.v_proj"] == "f32"
    assert kinds["mlp.down_proj"] == kinds["mlp.up_proj"] == kinds["lm_head"] == "i4"
    assert kinds["mlp.gate_proj"] == kinds["self_attn.o_proj"] == kinds["self_attn.k_proj"] == "i8"


def test_signed_scales_and_folds_were_really_there(run):
    assert any(bool((value < 0).any()) for key, value in run("qwen2").solved.items() if key.endswith(".scale"))
    folds = [key for key in run("mistral").solved if key.endswith(".fold")]
    assert folds
    assert len(run("mistral").report["folds"]) == len(folds)


def test_int8_embeddings_take_the_tied_projection_with_them(run, tokens):
    found = run("bloom")
    stored = stored_weights(found.ir)
    (embedding,), (projection,) = stored["transformer.word_embeddings"], stored["lm_head"]
    assert np.array_equal(embedding["codes"], projection["codes"])
    assert embedding["codes"].dtype == np.int8
    layer = next(layer for layer in found.report["layers"] if layer["name"] == "lm_head")
    assert (layer["bits"], layer["group_size"], layer["scheme"]) == (8, -1, "sym")
    model = found.rounded_model()
    weight = torch.from_numpy(embedding["codes"].astype(np.float32) * embedding["scale"].astype(np.float32))
    assert float((weight - model.lm_head.weight).abs().max()) < 0.01
    model.lm_head.weight.data.copy_(weight)
    real = tokens["attention_mask"].bool()
    with torch.inference_mode():
        wanted = model(**tokens).logits[real]
    assert float((found.model()(**tokens)[real] - wanted).abs().max()) < 1e-4


def test_a_model_without_a_cache_has_no_state(run):
    found = run("mistral")
    assert found.report["openvino"]["task"] == "text-generation"
    assert not found.ir.get_variables()
    assert run("llama").ir.get_variables()


def test_a_tied_projection_stays_in_float_with_its_embeddings(run):
    layer = next(layer for layer in run("qwen2").report["layers"] if layer["name"] == "lm_head")
    assert layer["float"] == "output projection tied to the embeddings"


@pytest.mark.parametrize(
    ("name", "floats"), [("llama", "fp32"), ("bloom", "fp16"), ("qwen2", "fp16"), ("mistral", "fp16")]
)
def test_floats_are_stored_as_asked_or_as_in_the_checkpoint(run, name, floats):
    found = run(name)
    assert found.report["openvino"]["floats"] == floats
    constants = [node for node in found.ir.get_ops() if node.get_type_name() == "Constant"]
    kinds = {
        node.get_element_type().get_type_name()
        for node in constants
        if len(node.get_output_shape(0)) == 2 and min(node.get_output_shape(0)) > 16  # weights, not scales
    }
    codes = {"llama": {"i4", "u4", "i8"}, "bloom": {"u4", "i8"}, "qwen2": {"i4"}, "mistral": {"u4"}}[name]
    kept = {"fp32": "f32", "fp16": "f16"}[floats]
    assert kinds - codes == (set() if name == "bloom" else {kept})
    vectors = {node.get_element_type().get_type_name() for node in constants if node.get_output_shape(0)[-1:] == [64]}
    assert vectors - codes - {kept} <= {"f32"}


@pytest.mark.parametrize("name", ["qwen2", "mistral"])
def test_frequencies_of_positions_keep_their_precision(run, name):
    """In 16 bits they would be off by 1 in 4096, and a position some hundred tokens on by a tenth of a radian."""
    found = run(name)
    wanted = found.float_model().model.rotary_emb.inv_freq.numpy()
    (node,) = [
        node
        for node in found.ir.get_ops()
        if node.get_type_name() == "Constant" and list(node.get_output_shape(0)) == [1, len(wanted), 1]
    ]
    assert np.array_equal(np.asarray(node.data).reshape(-1), wanted)
    assert not np.array_equal(wanted.astype(np.float16).astype(np.float32), wanted)


@pytest.mark.parametrize("name", NAMES)
def test_evaluating_the_output_gives_the_reports_numbers(run, tmp_path, name):
    """Another process could not do otherwise: everything comes from the folder."""
    found = run(name)
    write_json_atomic(tmp_path / "again.json", evaluate_model(found.folder))
    again, recorded = read_results(tmp_path / "again.json"), read_results(found.folder / "results.json")
    assert again.losses.keys() == recorded.losses.keys() == {"en", "fi"}
    for tag, losses in again.losses.items():
        assert np.array_equal(losses.loss, recorded.losses[tag].loss)
        entry = found.report["languages"][tag]
        per_byte = losses.loss.sum() / losses.n_bytes.sum()
        assert entry["loss"] == pytest.approx(per_byte, rel=1e-9)
        assert entry["degradation"] == pytest.approx(per_byte - entry["baseline_loss"], abs=1e-12)
        assert math.isfinite(entry["degradation"])
    content = json.loads((tmp_path / "again.json").read_text(encoding="utf-8"))
    assert (content["model"]["kind"], content["model"]["runtime"]) == ("openvino", "default")
    assert content["configuration_sha256"] == recorded_digest(found)


def recorded_digest(found):
    return json.loads((found.folder / "results.json").read_text(encoding="utf-8"))["configuration_sha256"]


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_float32_arithmetic_is_compared_with_what_is_deployed(run, name):
    found = run(name)
    exact = evaluate_model(found.folder, runtime="exact")
    compared = found.report["comparisons"]["float32 arithmetic"]["languages"]
    for tag, entry in exact["languages"].items():
        assert compared[tag]["loss"] == pytest.approx(entry["loss"], abs=1e-9)
        assert compared[tag]["loss"] != found.report["languages"][tag]["loss"] or (
            found.report["openvino"]["runtime"]["inference_precision_hint"] == "f32"
        )


def test_the_float_model_is_measured_as_by_evaluate(run, texts, tmp_path):
    """Though it was exported before: the export leaves it as it was."""
    found = run("llama")
    results = evaluate_model(found.source, texts=texts / "evaluation", tokens_per_language=400)
    write_json_atomic(tmp_path / "float.json", results)
    again, recorded = read_results(tmp_path / "float.json"), read_results(found.folder / "baseline.json")
    for tag, losses in again.losses.items():
        assert np.array_equal(losses.loss, recorded.losses[tag].loss)


def test_static_ranges_round_the_inputs(run, tokens):
    """In PyTorch, every layer's input rounded to the ends that the file has."""
    found = run("gpt2")
    limits = {}
    for name, (node,) in linear_nodes(found.ir).items():
        fake = node.input_value(0).get_node()
        if fake.get_type_name() == "FakeQuantize":
            ends = (fake.input_value(port).get_node() for port in (1, 2))
            limits[name] = tuple(float(np.asarray(end.data).reshape(())) for end in ends)
    assert set(limits) == set(found.layers)
    model = found.rounded_model()
    with torch.inference_mode():
        weights_only = model(**tokens).logits
    for name, (low, high) in limits.items():
        step = (high - low) / 255
        zero = round(-low / step)

        def rounds(_module, inputs, step=step, zero=zero):
            return ((torch.clamp(torch.round(inputs[0] / step) + zero, 0, 255) - zero) * step,)

        model.get_submodule(name).register_forward_pre_hook(rounds)
    real = tokens["attention_mask"].bool()
    with torch.inference_mode():
        wanted = model(**tokens).logits[real]
    off = (found.model()(**tokens)[real] - wanted).abs()
    # A value halfway between two levels may go either way, and everything behind it then differs a little.
    assert float(off.median()) < 0.1 * float((weights_only[real] - wanted).abs().median())


@pytest.mark.parametrize("name", NAMES)
def test_the_folder_is_complete_and_holds_nothing_else(run, name):
    found = run(name)
    names = {path.name for path in found.folder.iterdir()}
    ours = {"laaciq.json", "baseline.json", "results.json", "report.html", "report.md", "scales.safetensors"}
    models = {
        f"openvino_{part}.{ending}" for part in ("model", "tokenizer", "detokenizer") for ending in ("xml", "bin")
    }
    configurations = {"config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"}
    assert names == ours | models | configurations
    assert sorted(path.name for path in found.folder.parent.iterdir() if not path.name.endswith(".lock")) == [name]
    for file, digest in found.report["files"].items():
        assert sha256_of_files([found.folder / file]) == digest
    assert set(found.report["files"]) == (models | configurations | {"scales.safetensors"})


def test_sizes_are_those_on_the_disk(run):
    for name in ("llama", "bloom"):
        found = run(name)
        sizes = found.report["bytes"]
        on_disk = (found.folder / "openvino_model.bin").stat().st_size
        assert sizes["after"] == on_disk
        rest = sizes["before"] - sizes["packed_layers_before"]
        kept = rest if name == "llama" else rest / 2
        assert on_disk == pytest.approx(sizes["packed_layers_after"] + kept, rel=0.05)


@pytest.mark.parametrize("name", ["llama", "bloom"])
def test_the_model_says_what_it_is(run, name):
    found = run(name)
    facts = {
        "mode": "balanced", "reconcile": "mean", "gate.verdict": "NOT-RUN", "languages": '["en", "fi"]',
        "source.name": name, "source.sha256": found.report["model"]["sha256"], "bits": "4",
        "group_size": str(WEIGHTS[name]["group_size"]), "scheme": WEIGHTS[name]["scheme"],
        "gate.worst_language": found.report["worst_language"], "gate.disparity": repr(found.report["disparity"]),
        "gate.worst_degradation": repr(found.report["worst"]["degradation"]),
        "configuration_sha256": recorded_digest(found), "version": found.report["meta"]["versions"]["inc-laaciq"],
        "gate.judged_in": found.report["openvino"]["runtime"]["inference_precision_hint"],
    }  # fmt: skip
    assert {key: read_stamp(found.ir, key) for key in facts} == facts
    assert not found.ir.has_rt_info(["runtime_options", "KV_CACHE_PRECISION"])


def _generator(folder):
    from optimum.intel.openvino import OVModelForCausalLM

    return OVModelForCausalLM.from_pretrained(folder, export=False, compile=True, ov_config=EXACT)


EXACT = {"INFERENCE_PRECISION_HINT": "f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0", "KV_CACHE_PRECISION": "f32"}


@pytest.mark.parametrize("name", CACHED)
def test_optimum_loads_it_and_generates(run, tokens, name):
    found = run(name)
    model = _generator(found.folder)
    prompt = {key: value[:1] for key, value in tokens.items()}
    texts = [model.generate(**prompt, max_new_tokens=12, min_new_tokens=12, do_sample=False) for _ in range(2)]
    assert torch.equal(*texts)
    assert texts[0].shape == (1, 24)
    logits = model(**prompt).logits
    assert torch.equal(logits, found.model()(**prompt))
    assert int(logits[0, -1].argmax()) == int(texts[0][0, 12])


@pytest.mark.parametrize("name", CACHED)
def test_openvino_genai_runs_it_by_itself(run, bpe, name):
    """In a process of its own: it leaves the thread a freed stack for signals, and the next signal would be the end."""
    pytest.importorskip("openvino_genai")
    found = run(name)
    prompt = "the cat sat"
    options = {"max_new_tokens": 8, "do_sample": False, "ignore_eos": True, "apply_chat_template": False}
    command = [sys.executable, "-c", GENERATE, found.folder, prompt, json.dumps(EXACT), json.dumps(options)]
    text = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    ids = bpe(prompt, return_tensors="pt").input_ids
    mask = torch.ones_like(ids)
    written = _generator(found.folder).generate(
        input_ids=ids, attention_mask=mask, max_new_tokens=8, min_new_tokens=8, do_sample=False
    )
    assert text == bpe.decode(written[0, ids.shape[1] :], skip_special_tokens=True)

"""OpenVINO models that others made: evaluated, judged, and made of ours."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import jsonschema
import numpy as np
import pytest
import torch
from stamps import read_stamp

import inc_laaciq
from inc_laaciq.backends.openvino_ir import read_ir
from inc_laaciq.backends.openvino_weights import stored_weights
from inc_laaciq.calibration.corpus import read_texts
from inc_laaciq.errors import IntegrityError, ModelError, SpecError
from inc_laaciq.evaluate import evaluate_model
from inc_laaciq.evaluation.likelihood import sentence_losses
from inc_laaciq.evaluation.results import read_results

pytestmark = pytest.mark.openvino

EXACT = {"INFERENCE_PRECISION_HINT": "f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0", "KV_CACHE_PRECISION": "f32"}


def optimum(folder, **options):
    """A live model of optimum-intel's."""
    from optimum.intel.openvino import OVModelForCausalLM

    return OVModelForCausalLM.from_pretrained(folder, **options)


@pytest.fixture(scope="module")
def compressed(tmp_path_factory, trained, bpe):
    """A model as NNCF compresses it to 4 bits, exported by optimum-intel alone."""
    from optimum.intel.openvino import OVWeightQuantizationConfig

    folder = tmp_path_factory.mktemp("nncf") / "model"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        asked = OVWeightQuantizationConfig(bits=4, sym=True, group_size=-1, ratio=1.0)
        optimum(trained, export=True, compile=False, quantization_config=asked).save_pretrained(folder)
    bpe.save_pretrained(folder)
    return folder


def test_a_model_of_nncf_is_judged_against_the_float_model(main, trained, compressed, texts, tmp_path):
    """As in CI: evaluate both, and let the gate decide."""
    for model, name in ((trained, "float.json"), (compressed, "int4.json")):
        call = ("evaluate", model, "--texts", texts / "evaluation", "-o", tmp_path / name)
        done = main(*call)
        assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "int4.json").read_text(encoding="utf-8"))
    assert (results["model"]["kind"], results["model"]["runtime"]) == ("openvino", "default")
    schema = json.loads((Path(inc_laaciq.__file__).parent / "schemas" / "results.schema.json").read_text("utf-8"))
    assert list(jsonschema.Draft202012Validator(schema).iter_errors(results)) == []
    judged = ("gate", tmp_path / "int4.json", "--baseline", tmp_path / "float.json", "--max-degradation")
    done = main(*judged, "50%")
    assert done.returncode == 0, done.stderr
    assert "verdict: PASS" in done.stdout
    done = main(*judged, "0npb")
    assert done.returncode == 3, done.stderr
    assert "FAIL" in done.stdout


def test_a_float_model_in_openvino_has_the_float_models_losses(checkpoint, float_ir, texts):
    folder, text = float_ir("llama").path.parent, texts / "evaluation"
    float_model = evaluate_model(checkpoint("llama"), texts=text, tokens_per_language=400)
    exact = evaluate_model(folder, texts=text, tokens_per_language=400, runtime="exact")
    assert exact["tokenizer"] == float_model["tokenizer"]
    assert exact["model"]["runtime"] == "exact"
    for tag, entry in exact["languages"].items():
        assert entry["loss"] == pytest.approx(float_model["languages"][tag]["loss"], abs=1e-5)
        assert entry["text_sha256"] == float_model["languages"][tag]["text_sha256"]


def test_a_live_model_of_optimum_gives_the_same_losses(float_ir, bpe, texts, tmp_path):
    folder = float_ir("llama").path.parent
    corpus = read_texts(texts / "evaluation")
    live = sentence_losses(optimum(folder, export=False, ov_config=EXACT), bpe, corpus, tokens_per_language=400)
    results = evaluate_model(folder, texts=texts / "evaluation", tokens_per_language=400, runtime="exact")
    (tmp_path / "exact.json").write_text(json.dumps(results), encoding="utf-8")
    for tag, losses in read_results(tmp_path / "exact.json").losses.items():
        np.testing.assert_allclose(live[tag].loss, losses.loss, atol=1e-5)


def test_flips_and_divergence_are_told_from_a_reference(checkpoint, float_ir, run, texts):
    alone = {"texts": texts / "evaluation", "tokens_per_language": 200}
    same = evaluate_model(float_ir("llama").path.parent, runtime="exact", reference=checkpoint("llama"), **alone)
    assert max(entry["kl"] for entry in same["languages"].values()) < 1e-8
    found = run("llama")
    ours = evaluate_model(found.folder, runtime="exact", reference=found.source, **alone)
    assert min(entry["kl"] for entry in ours["languages"].values()) > 1e-6


def test_a_reference_that_an_export_was_not_made_from_is_remarked(checkpoint, run, texts, caplog):
    found, alone = run("llama"), {"texts": texts / "evaluation", "tokens_per_language": 50}
    evaluate_model(found.folder, reference=found.source, **alone)
    assert "was not quantized from" not in caplog.text
    evaluate_model(found.folder, reference=checkpoint("mistral"), **alone)
    assert "llama was not quantized from" in caplog.text


def test_a_runtime_is_only_for_openvino(checkpoint, texts):
    with pytest.raises(SpecError, match="is not an OpenVINO model, and only that has a choice of runtime"):
        evaluate_model(checkpoint("llama"), texts=texts / "evaluation", runtime="exact")


def test_a_folder_without_weights_or_tokenizer_is_refused(float_ir, texts, tmp_path):
    source = float_ir("llama").path.parent
    for name in ("openvino_model.xml", "config.json", "tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((source / name).read_bytes())
    with pytest.raises(IntegrityError, match=r"openvino_model\.bin"):
        evaluate_model(tmp_path, texts=texts / "evaluation")
    (tmp_path / "openvino_model.bin").write_bytes((source / "openvino_model.bin").read_bytes())
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(ModelError, match="tokenizer"):
        evaluate_model(tmp_path, texts=texts / "evaluation")


def test_optimum_may_compress_what_we_left_in_float_and_keeps_the_rest(run, tmp_path):
    """It refuses only what NNCF has marked.  The verdict that the model then still carries is of another model."""
    from optimum.intel.openvino import OVWeightQuantizationConfig

    found = run("qwen2")
    before = stored_weights(found.ir)
    asked = OVWeightQuantizationConfig(bits=8, sym=True)
    optimum(found.folder, export=False, compile=False, quantization_config=asked).save_pretrained(tmp_path / "again")
    after = read_ir(tmp_path / "again" / "openvino_model.xml")
    stored = stored_weights(after)
    assert set(stored) == {*before, "model.embed_tokens", "lm_head"}
    for name, (parts,) in before.items():
        assert all(np.array_equal(stored[name][0][key], parts[key]) for key in parts), name
    assert after.has_rt_info(["nncf", "weight_compression"])
    assert read_stamp(after, "gate.verdict") == read_stamp(found.ir, "gate.verdict") == "NOT-RUN"
    assert not found.ir.has_rt_info(["nncf", "weight_compression"])


@pytest.mark.inc
def test_neural_compressors_backend_solves_the_same(run, texts, tmp_path, monkeypatch):
    """The same configuration gives the same codes, scales and zero points, bit by bit, through either way in."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("neural_compressor.quantization", exc_type=ImportError)
    from safetensors.torch import load_file
    from tiny_exports import configuration

    from inc_laaciq.artifacts import write_artifacts
    from inc_laaciq.config import run_spec
    from inc_laaciq.job import prepare
    from inc_laaciq.output import atomic_folder
    from inc_laaciq.pipeline import run_quantization

    monkeypatch.chdir(tmp_path)
    found = run("llama")
    job = prepare(run_spec(configuration("llama", texts)), found.source)
    with atomic_folder(tmp_path / "out") as folder:
        write_artifacts(job, run_quantization(job), folder)
    solved = load_file(str(tmp_path / "out" / "scales.safetensors"))
    assert solved.keys() == found.solved.keys()
    for key, tensor in solved.items():
        assert tensor.dtype == found.solved[key].dtype
        assert torch.equal(tensor, found.solved[key]), key
    fake = torch.load(tmp_path / "out" / "best_model.pt", weights_only=True)
    for name in found.layers:
        assert torch.equal(fake[f"{name}.weight"], found.weight(name)), name

"""A model as OpenVINO runs it: its state, its inputs, and what it computes in."""

from __future__ import annotations

import numpy as np
import openvino
import pytest
import torch
from openvino import opset13
from stamps import read_stamp

from inc_laaciq.backends.openvino_export import save_ir
from inc_laaciq.backends.openvino_ir import let_cache_be_compressed, openvino_core, read_ir, stamp
from inc_laaciq.backends.openvino_model import OpenVINOModel
from inc_laaciq.errors import IntegrityError, ModelError

pytestmark = pytest.mark.openvino

EXACT = {
    "INFERENCE_PRECISION_HINT": "f32",
    "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0",
    "KV_CACHE_PRECISION": "f32",
}


def expected(model, tokens):
    with torch.inference_mode():
        return model(**tokens).logits


def farthest(found, wanted, mask=None):
    difference = (torch.as_tensor(found) - torch.as_tensor(wanted)).abs()
    return float((difference if mask is None else difference[mask.bool()]).max())


@pytest.fixture
def request_of(float_ir):
    """An inference request of OpenVINO's own, and its inputs for the tokens of the test."""

    def make(tokens):
        request = openvino_core().compile_model(float_ir("llama").read(), "CPU", EXACT).create_infer_request()
        mask = tokens["attention_mask"]
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
        return request, {
            "input_ids": tokens["input_ids"].numpy(),
            "attention_mask": mask.numpy(),
            "position_ids": positions.numpy(),
            "beam_idx": np.arange(len(mask), dtype=np.int32),
        }

    return make


def test_without_a_reset_the_last_call_would_be_context(float_ir, tokens, request_of):
    """The trap: OpenVINO fails in no way, and gives other logits."""
    request, feed = request_of(tokens)
    first = request.infer(feed)["logits"].copy()
    assert farthest(request.infer(feed)["logits"], first, tokens["attention_mask"]) > 0.01
    request.reset_state()
    assert farthest(request.infer(feed)["logits"], first, tokens["attention_mask"]) < 1e-5
    source = float_ir("llama")
    model = OpenVINOModel(source.read(), source.model.config, runtime="exact")
    once, again = model(**tokens), model(**tokens)
    assert torch.equal(once, again)
    assert farthest(once, expected(source.model, tokens), tokens["attention_mask"]) < 1e-4


def test_logits_are_the_callers_to_keep(float_ir, tokens):
    source = float_ir("llama")
    model = OpenVINOModel(source.read(), source.model.config, runtime="exact")
    first = model(**tokens)
    kept = first.clone()
    model(input_ids=tokens["input_ids"].flip(1), attention_mask=torch.ones_like(tokens["input_ids"]))
    assert first.dtype == torch.float32
    assert torch.equal(first, kept)


def test_beam_idx_tells_whose_cache_a_row_goes_on_with(request_of, tokens):
    """What each choice changes: nothing in a first call, which is all that an evaluation makes, but it must fit."""
    request, feed = request_of(tokens)
    first = request.infer(feed)["logits"].copy()
    request.reset_state()
    swapped = request.infer({**feed, "beam_idx": np.array([1, 0], dtype=np.int32)})["logits"].copy()
    assert farthest(swapped, first) == 0.0
    nexts = []
    for order in ([0, 1], [1, 0]):
        request.reset_state()
        request.infer(feed)
        step = {"input_ids": feed["input_ids"][:, :1], "position_ids": np.array([[12], [8]])}
        mask = np.concatenate([feed["attention_mask"], np.ones((2, 1), dtype=np.int64)], axis=1)
        given = {**step, "attention_mask": mask, "beam_idx": np.array(order, dtype=np.int32)}
        nexts.append(request.infer(given)["logits"].copy())
    assert farthest(*nexts) > 0.01
    fresh, feed = request_of(tokens)
    del feed["beam_idx"]
    with pytest.raises(RuntimeError, match="B == B_state"):
        fresh.infer(feed)


@pytest.mark.parametrize("name", ["bloom", "gpt2"])
def test_padding_changes_nothing(float_ir, tokens, name):
    """Right and left, with a cache and without, and with positions from the mask where the model takes them."""
    source = float_ir(name)
    model = OpenVINOModel(source.read(), source.model.config, runtime="exact")
    alone = {key: value[1:, :8] for key, value in tokens.items()}
    left = {key: torch.stack([value[0], value[1].roll(4)]) for key, value in tokens.items()}
    wanted = expected(source.model, alone)
    assert farthest(model(**alone), wanted) < 1e-4
    assert farthest(model(**tokens)[1:, :8], wanted) < 1e-4
    assert farthest(model(**left)[1:, 4:], wanted) < 1e-4


def test_what_is_computed_in_is_told(float_ir, tokens):
    source = float_ir("llama")
    exact = OpenVINOModel(source.read(), source.model.config, runtime="exact")
    assert exact.properties == {
        "inference_precision_hint": "f32",
        "dynamic_quantization_group_size": "0",
        "kv_cache_precision": "f32",
    }
    deployed = OpenVINOModel(source.read(), source.model.config)
    assert deployed.properties["inference_precision_hint"] in ("f32", "bf16", "f16")
    assert deployed.properties["kv_cache_precision"] == "f16"  # as a float export asks for
    mask = tokens["attention_mask"]
    assert farthest(deployed(**tokens), expected(source.model, tokens), mask) < 0.5


def test_the_cache_may_be_compressed_once_its_flag_is_gone(float_ir, tmp_path):
    source = float_ir("llama")
    model = source.read()
    assert model.has_rt_info(["runtime_options", "KV_CACHE_PRECISION"])
    model.set_rt_info("64", ["runtime_options", "ACTIVATIONS_SCALE_FACTOR"])
    let_cache_be_compressed(model)
    let_cache_be_compressed(model)  # of a model without the flag: nothing
    save_ir(model, tmp_path / "model.xml")
    stored = read_ir(tmp_path / "model.xml")
    assert not stored.has_rt_info(["runtime_options", "KV_CACHE_PRECISION"])
    assert stored.get_rt_info(["runtime_options", "ACTIVATIONS_SCALE_FACTOR"]).astype(str) == "64"
    assert OpenVINOModel(stored, source.model.config).properties["kv_cache_precision"] == "u8"


def test_a_stamp_survives_the_disk(float_ir, tmp_path):
    model = float_ir("llama").read()
    facts = {"gate.verdict": "PASS", "source.name": 'a "<name>" & more', "languages": '["en", "sw"]', "empty": ""}
    assert read_stamp(model, "gate.verdict") is None
    stamp(model, facts)
    save_ir(model, tmp_path / "model.xml")
    stored = read_ir(tmp_path / "model.xml")
    assert {key: read_stamp(stored, key) for key in facts} == facts
    assert stored.get_rt_info(["inc_laaciq", "gate", "verdict"]).astype(str) == "PASS"


def _toy(inputs, output):
    parameters = []
    for name in inputs:
        parameter = opset13.parameter([-1, -1], openvino.Type.i64)
        parameter.output(0).get_tensor().set_names({name})
        parameters.append(parameter)
    result = opset13.result(opset13.convert(parameters[0], openvino.Type.f32))
    result.output(0).get_tensor().set_names({output})
    return openvino.Model([result], parameters)


def test_what_is_no_language_model_with_a_state_is_refused():
    with pytest.raises(
        ModelError, match=r"takes past_key_values\.0\.key, past_key_values\.0\.value, so it is no causal"
    ):
        OpenVINOModel(_toy(["input_ids", "past_key_values.0.key", "past_key_values.0.value"], "logits"), None)
    with pytest.raises(ModelError, match="gives no logits, so it is no causal"):
        OpenVINOModel(_toy(["input_ids"], "last_hidden_state"), None)


def test_a_damaged_file_is_refused(float_ir, tmp_path):
    path = float_ir("llama").path
    (tmp_path / "openvino_model.xml").write_bytes(path.read_bytes()[:5000])
    with pytest.raises(IntegrityError, match=r"openvino_model\.xml: OpenVINO cannot read it .*Export the model again"):
        read_ir(tmp_path / "openvino_model.xml")
    (tmp_path / "openvino_model.xml").write_bytes(path.read_bytes())
    (tmp_path / "openvino_model.bin").write_bytes(path.with_suffix(".bin").read_bytes()[:-5000])
    with pytest.raises(IntegrityError, match="OpenVINO cannot read it"):
        read_ir(tmp_path / "openvino_model.xml")

"""Static INT8 in an OpenVINO model: inputs are rounded as numpy rounds them, and the processor uses integers."""

from __future__ import annotations

import numpy as np
import openvino
import pytest
from torch import nn

from inc_laaciq.backends.openvino_export import save_ir
from inc_laaciq.backends.openvino_ir import linear_nodes, openvino_core, read_ir
from inc_laaciq.backends.openvino_static import put_ranges
from inc_laaciq.backends.openvino_weights import check_stored, put_weights
from inc_laaciq.quant.activation import Range
from inc_laaciq.quant.solver import SolverSpec, solve

pytestmark = pytest.mark.openvino

SHARED = [f"model.layers.0.self_attn.{name}_proj" for name in "qkv"]
RANGES = {
    **dict.fromkeys(SHARED, Range(minimum=-1.0, maximum=0.8, alpha={})),
    "model.layers.0.mlp.down_proj": Range(minimum=-0.011, maximum=0.02, alpha={}),
    "lm_head": Range(minimum=0.0, maximum=0.5, alpha={}),
}


def rounded(values, low, high):
    """To 256 levels, zero among them; in float64, as a check on others."""
    step = (high - low) / 255
    zero = round(-low / step)
    codes = np.clip(np.round(values.astype(np.float64) / step) + zero, 0, 255)
    return (codes - zero) * step


@pytest.fixture
def stored(float_ir, tmp_path):
    """A model with rounded inputs, from the disk."""
    model = float_ir("llama").read()
    put_ranges(model, RANGES)
    save_ir(model, tmp_path / "model.xml")
    return read_ir(tmp_path / "model.xml")


def run(model, outputs, tokens):
    changed = openvino.Model(outputs, model.get_sinks(), model.get_parameters())
    settings = {
        "INFERENCE_PRECISION_HINT": "f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0", "KV_CACHE_PRECISION": "f32",
    }  # fmt: skip
    mask = tokens["attention_mask"]
    feed = {
        "input_ids": tokens["input_ids"].numpy(),
        "attention_mask": mask.numpy(),
        "position_ids": (mask.cumsum(-1) - 1).clamp(min=0).numpy(),
        "beam_idx": np.arange(len(mask), dtype=np.int32),
    }
    found = openvino_core().compile_model(changed, "CPU", settings).create_infer_request().infer(feed)
    return [found[index] for index in range(len(outputs))]


@pytest.mark.parametrize("name", [SHARED[0], "model.layers.0.mlp.down_proj", "lm_head"])
def test_inputs_of_layers_are_rounded_as_numpy_rounds_them(stored, tokens, name):
    (node,) = linear_nodes(stored)[name]
    fake = node.input_value(0).get_node()
    assert fake.get_type_name() == "FakeQuantize"
    assert fake.get_attributes()["levels"] == 256
    before, after = run(stored, [fake.input_value(0), fake.output(0)], tokens)
    limits = RANGES[name]
    wanted = rounded(before, limits.minimum, limits.maximum)
    step = (limits.maximum - limits.minimum) / 255
    assert len(np.unique(np.round(after / step))) > 20
    off = np.abs(after - wanted) / step
    assert np.mean(off > 0.01) < 0.01  # of those halfway between two levels, some go the other way
    assert off.max() < 1.01


def test_layers_that_share_an_input_share_its_rounding(stored):
    nodes = linear_nodes(stored)
    names = {nodes[name][0].input_value(0).get_node().get_friendly_name() for name in SHARED}
    assert len(names) == 1
    assert nodes["model.layers.1.mlp.up_proj"][0].input_value(0).get_node().get_type_name() != "FakeQuantize"
    found = [node for node in stored.get_ops() if node.get_type_name() == "FakeQuantize"]
    assert len(found) == 3


def test_zero_is_a_level(stored):
    for node in stored.get_ops():
        if node.get_type_name() == "FakeQuantize":
            low, high = (float(np.asarray(run_constant(node, port))) for port in (1, 2))
            levels = -low / ((high - low) / 255)
            assert levels == pytest.approx(round(levels), abs=1e-3)


def run_constant(node, port):
    model = openvino.Model([node.input_value(port)], [])
    return openvino_core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})([])[0].reshape(())


def test_the_processor_multiplies_integers(float_ir, tmp_path):
    source = float_ir("llama")
    layers = {name: module for name, module in source.model.named_modules() if isinstance(module, nn.Linear)}
    spec = SolverSpec(bits=8, group_size=-1, mode="fast", signed=False)
    weights = {name: solve(module.weight, spec) for name, module in layers.items()}
    model = source.read()
    put_weights(model, weights)
    put_ranges(model, dict.fromkeys(layers, Range(minimum=-1.0, maximum=1.0, alpha={})))
    save_ir(model, tmp_path / "model.xml")
    stored = read_ir(tmp_path / "model.xml")
    check_stored(stored, weights)
    compiled = openvino_core().compile_model(stored, "CPU")
    kinds = {}
    for node in compiled.get_runtime_model().get_ops():
        facts = node.get_rt_info()
        if facts["layerType"].astype(str) == "FullyConnected":
            kinds[node.get_friendly_name()] = facts["runtimePrecision"].astype(str)
    assert len(kinds) >= len(layers) - 4  # some may be merged
    assert set(kinds.values()) <= {"u8", "i8"}

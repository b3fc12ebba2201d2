"""Codes, scales and zero points in an OpenVINO model, compared with PyTorch and with OpenVINO's own reading."""

from __future__ import annotations

import copy
import itertools
from dataclasses import replace

import numpy as np
import openvino
import pytest
import torch
from openvino import opset13
from tiny_models import ARCHITECTURES
from torch import nn

from inc_laaciq.backends.openvino_export import save_ir
from inc_laaciq.backends.openvino_ir import embedding_nodes, linear_nodes, openvino_core, read_ir
from inc_laaciq.backends.openvino_model import OpenVINOModel
from inc_laaciq.backends.openvino_static import put_ranges
from inc_laaciq.backends.openvino_weights import check_stored, put_weights, store_in_half, stored_bytes, stored_weights
from inc_laaciq.errors import BackendError, ModelError
from inc_laaciq.quant.activation import Range
from inc_laaciq.quant.solver import SolverSpec, solve

pytestmark = pytest.mark.openvino

PORT = {"MatMul": 1, "Gather": 0}


def linears(model):
    return {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear)}


def solved(module, bits=4, group_size=32, **settings):
    return solve(module.weight.float(), SolverSpec(bits=bits, group_size=group_size, mode="fast", **settings))


def turned(weight):
    """The same weight with a negative scale in every second group, where the grid allows it."""
    if weight.zero_point is not None:
        return weight
    groups = weight.codes.reshape(*weight.scale.shape, -1).clamp(min=-weight.grid.qmax)
    sign = torch.ones_like(weight.scale)
    sign.view(-1)[::2] = -1
    codes = (groups * sign[..., None]).to(weight.codes.dtype).reshape(weight.codes.shape)
    return replace(weight, codes=codes, scale=weight.scale * sign)


def rounded(model, weights):
    """Copy in float32 with dequantized weights; a weight that is tied is replaced only where it is named."""
    changed = copy.deepcopy(model).float()
    for name, weight in weights.items():
        changed.get_submodule(name).weight = nn.Parameter(weight.dequantize())
    return changed


def codes_of(node):
    """Codes behind a module as OpenVINO's own conversion unpacks them, and the name of their type."""
    value = node.input_value(PORT[node.get_type_name()]).get_node()
    while value.get_type_name() != "Constant":
        value = value.input_value(0).get_node()
    model = openvino.Model([opset13.convert(value, openvino.Type.f32)], [])
    codes = openvino_core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})([])[0]
    return codes.reshape(len(codes), -1), value.get_element_type().get_type_name()


def logits(model, config, tokens):
    return OpenVINOModel(model, config, runtime="exact")(**tokens)


def expected(model, tokens):
    with torch.inference_mode():
        return model(**tokens).logits


def close(found, wanted, tokens):
    real = tokens["attention_mask"].bool()
    return float((found - wanted)[real].abs().max()) < 1e-4


def test_every_grid_is_stored_and_computed_as_solved(float_ir, tokens, tmp_path):
    """Bits from 2 to 8, symmetric with signed scales and asymmetric, in groups and by channel, mixed in one model."""
    source = float_ir("llama")
    grids = list(itertools.product(range(2, 9), ("sym", "asym"), (32, -1)))
    for start in (0, 14):  # the model has 15 linear layers
        weights = {
            name: turned(solved(module, bits=bits, scheme=scheme, group_size=size))
            for (name, module), (bits, scheme, size) in zip(
                linears(source.model).items(), grids[start : start + 14], strict=False
            )
        }
        assert len(weights) == 14
        assert any((weight.scale < 0).any() for weight in weights.values() if weight.zero_point is None)
        model = source.read()
        put_weights(model, weights)
        save_ir(model, tmp_path / f"{start}.xml")
        stored = read_ir(tmp_path / f"{start}.xml")
        check_stored(stored, weights)
        for name, weight in weights.items():
            (node,) = linear_nodes(stored)[name]
            codes, kind = codes_of(node)
            assert np.array_equal(codes, weight.codes.float().numpy()), name
            assert kind == ("i" if weight.zero_point is None else "u") + ("4" if weight.grid.bits <= 4 else "8")
        assert close(
            logits(stored, source.model.config, tokens), expected(rounded(source.model, weights), tokens), tokens
        )
        assert not close(expected(source.model, tokens), expected(rounded(source.model, weights), tokens), tokens)


@pytest.mark.parametrize("name", ["llama", "bloom"])
def test_nodes_have_the_names_of_modules(float_ir, name):
    source = float_ir(name)
    model = source.read()
    assert set(linear_nodes(model)) == set(linears(source.model))
    assert set(embedding_nodes(model)) == {
        key for key, module in source.model.named_modules() if isinstance(module, nn.Embedding)
    }
    assert {len(nodes) for nodes in linear_nodes(model).values()} == {1}


def test_embeddings_stay_in_float_where_only_the_tied_projection_is_quantized(float_ir, tokens):
    source = float_ir("bloom")
    weights = {"lm_head": solved(source.model.lm_head, bits=3)}
    model = source.read()
    put_weights(model, weights)
    (node,) = embedding_nodes(model)["transformer.word_embeddings"]
    constant = node.input_value(0).get_node()
    assert constant.get_type_name() == "Constant"
    assert np.array_equal(constant.data, source.model.lm_head.weight.detach().numpy())
    assert close(logits(model, source.model.config, tokens), expected(rounded(source.model, weights), tokens), tokens)


def test_tied_embeddings_and_projection_share_one_constant(float_ir, tokens, tmp_path):
    source, embedding = float_ir("bloom"), "transformer.word_embeddings"
    weight = solved(source.model.lm_head, bits=8, group_size=-1)
    weights = {embedding: weight, "lm_head": weight}
    model = source.read()
    put_weights(model, weights)
    constants = [node for node in model.get_ops() if node.get_type_name() == "Constant"]
    assert [node.get_element_type().get_type_name() for node in constants].count("i8") == 1
    save_ir(model, tmp_path / "model.xml")
    stored = read_ir(tmp_path / "model.xml")
    check_stored(stored, weights)
    before, after = (path.with_suffix(".bin").stat().st_size for path in (source.path, tmp_path / "model.xml"))
    saved = 4 * source.model.lm_head.weight.numel() - stored_bytes(weights.values())
    assert before - after == pytest.approx(saved, abs=256)  # constants are aligned
    assert close(logits(stored, source.model.config, tokens), expected(rounded(source.model, weights), tokens), tokens)


def test_weights_of_sixteen_bits_stand_behind_a_conversion(tokens, tmp_path):
    """As optimum-intel exports a checkpoint of 16 bits: other names, and a constant that a conversion shares."""
    from optimum.exporters.openvino import export_from_model
    from optimum.intel.openvino import OVConfig

    model = ARCHITECTURES["qwen2"]().to(torch.bfloat16)
    export_from_model(
        model, tmp_path, task="text-generation-with-past", patch_16bit_model=True, ov_config=OVConfig(dtype="auto")
    )
    ir = read_ir(tmp_path / "openvino_model.xml")
    (node,) = linear_nodes(ir)["lm_head"]
    assert node.get_friendly_name().startswith("__module.lm_head/ov_ext::linear/MatMul")
    assert node.input_value(1).get_node().get_type_name() == "Convert"
    weight = solved(model.lm_head, bits=8, group_size=-1)
    others = {name: solved(module) for name, module in linears(model).items() if name != "lm_head"}
    weights = {"model.embed_tokens": weight, "lm_head": weight, **others}
    put_weights(ir, weights)
    check_stored(ir, weights)
    assert close(logits(ir, model.config, tokens), expected(rounded(model, weights), tokens), tokens)


class _Twice(nn.Module):
    """An embedding and a layer that run twice, and a projection that is tied."""

    def __init__(self):
        super().__init__()
        self.tokens = nn.Embedding(16, 8)
        self.layer = nn.Linear(8, 8)
        self.head = nn.Linear(8, 16, bias=False)
        self.head.weight = self.tokens.weight

    def forward(self, input_ids):
        hidden = self.tokens(input_ids) + self.tokens(input_ids.flip(1))
        return self.head(self.layer(torch.relu(self.layer(hidden))))


def run(model, ids):
    settings = {"INFERENCE_PRECISION_HINT": "f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0"}
    return openvino_core().compile_model(model, "CPU", settings)([ids.numpy()])[0]


def test_a_module_that_runs_twice_is_quantized_at_both_places():
    torch.manual_seed(0)
    model, ids = _Twice().eval(), torch.tensor([[1, 5, 7]])
    ir = openvino.convert_model(model, example_input=ids)
    weights = {name: solved(model.get_submodule(name), bits=3, group_size=-1) for name in ("tokens", "layer")}
    put_weights(ir, weights)
    assert {name: len(uses) for name, uses in stored_weights(ir).items()} == {"tokens": 2, "layer": 2}
    check_stored(ir, weights)
    with torch.inference_mode():
        wanted = rounded(model, weights)(ids).numpy()
    np.testing.assert_allclose(run(ir, ids), wanted, atol=1e-5)
    put_ranges(ir, {"layer": Range(minimum=-1.0, maximum=2.0, alpha={})})
    assert {node.input_value(0).get_node().get_type_name() for node in linear_nodes(ir)["layer"]} == {"FakeQuantize"}


def test_codes_that_differ_in_one_place_are_found(float_ir):
    source = float_ir("llama")
    name = "model.layers.0.mlp.down_proj"
    weight = solved(source.model.get_submodule(name), scheme="asym")
    model = source.read()
    put_weights(model, {name: weight})
    check_stored(model, {name: weight})
    codes, scale, zero_point = weight.codes.clone(), weight.scale.clone(), weight.zero_point.clone()
    codes[3, 5], scale[0, 0], zero_point[1, 1] = (codes[3, 5] + 1) % 16, 2 * scale[0, 0], (zero_point[1, 1] + 1) % 16
    for other in (
        replace(weight, codes=codes),
        replace(weight, scale=scale),
        replace(weight, zero_point=zero_point),
        replace(weight, zero_point=None),
    ):
        with pytest.raises(BackendError, match=rf"does not hold what was solved for {name}"):
            check_stored(model, {name: other})
    with pytest.raises(BackendError, match="does not hold what was solved for lm_head"):
        check_stored(model, {name: weight, "lm_head": weight})
    with pytest.raises(BackendError, match=f"does not hold what was solved for {name}"):
        check_stored(model, {})


def test_a_layer_that_is_not_there_or_of_another_shape_is_refused(float_ir):
    source = float_ir("llama")
    weight = solved(source.model.lm_head)
    with pytest.raises(BackendError, match=r"no linear layer or embedding model\.layers\.9\.x"):
        put_weights(source.read(), {"model.layers.9.x": weight})
    with pytest.raises(BackendError, match=r"shape \(64, 64\) in OpenVINO and \(340, 64\) in PyTorch"):
        put_weights(source.read(), {"model.layers.0.self_attn.q_proj": weight})
    with pytest.raises(BackendError, match="no linear layer 'none'"):
        put_ranges(source.read(), {"none": Range(minimum=-1.0, maximum=2.0, alpha={})})


def test_what_is_quantized_already_is_refused(float_ir):
    import nncf

    source = float_ir("llama")
    weights = {"lm_head": solved(source.model.lm_head)}
    ours = source.read()
    put_weights(ours, weights)
    with pytest.raises(ModelError, match=r"'lm_head' is quantized already. Give the float model|is quantized already"):
        put_weights(ours, weights)
    for mode, settings in (
        (nncf.CompressWeightsMode.INT8_ASYM, {}),
        (nncf.CompressWeightsMode.INT4_SYM, {"group_size": 32, "all_layers": True}),
    ):
        with pytest.raises(ModelError, match="layer 'lm_head' is quantized already"):
            put_weights(nncf.compress_weights(source.read(), mode=mode, **settings), weights)


def test_matrices_in_half_are_computed_with_in_float32(float_ir, tokens, tmp_path):
    source = float_ir("bloom")
    layer = "transformer.h.0.mlp.dense_h_to_4h"
    weights = {layer: solved(source.model.get_submodule(layer))}
    model, halved = source.read(), source.read()
    for each in (model, halved):
        put_weights(each, weights)
    store_in_half(halved)
    for name, each in (("model", model), ("halved", halved)):
        save_ir(each, tmp_path / f"{name}.xml")
    stored = read_ir(tmp_path / "halved.xml")
    check_stored(stored, weights)
    matrices = sum(p.numel() for p in source.model.parameters() if p.dim() == 2) - weights[layer].codes.numel()
    before, after = ((tmp_path / f"{name}.bin").stat().st_size for name in ("model", "halved"))
    assert before - after == pytest.approx(2 * matrices, rel=0.01)
    wanted = rounded(source.model, weights)
    for parameter in wanted.parameters():
        if parameter.dim() == 2 and parameter is not wanted.get_submodule(layer).weight:
            parameter.data = parameter.half().float()
    assert close(logits(stored, source.model.config, tokens), expected(wanted, tokens), tokens)
    large = source.model.lm_head.weight.detach().clone()
    large[0, 0] = 1e5  # more than float16 has
    constant = opset13.constant(large.numpy())
    alone = openvino.Model([opset13.relu(constant)], [])
    store_in_half(alone)
    assert [op.get_element_type().get_type_name() for op in alone.get_ops() if op.get_type_name() == "Constant"] == [
        "f32"
    ]


def test_bytes_are_those_of_the_types(float_ir):
    source = float_ir("llama")
    layer = source.model.model.layers[0].mlp.down_proj  # 64 by 128
    assert stored_bytes([solved(layer, bits=3)]) == 64 * 128 // 2 + 64 * 4 * 2
    assert stored_bytes([solved(layer, bits=4, scheme="asym")]) == 64 * 128 // 2 + 64 * 4 * 2 + 64 * 4 // 2
    weight = solved(layer, bits=5, group_size=-1, scheme="asym")
    assert stored_bytes([weight, weight]) == 64 * 128 + 64 * 2 + 64


@pytest.mark.parametrize("name", ["llama", "bloom", "gpt2"])
def test_an_export_leaves_the_model_as_it_was(float_ir, name):
    """And warns the caller of nothing: there, warnings are errors."""
    source = float_ir(name)
    assert torch.equal(expected(source.model, {"input_ids": source.ids}), source.logits)
    after = source.model.config.to_dict()
    assert {key: after[key] for key in source.config} == source.config

"""Packed checkpoints on disk: whoever reads them computes what was solved, and what cannot be carried is refused."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest
import torch
from packed_models import bloom, gpt2, grown, linear_names, llama, logits, qwen2, solved, with_weights
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, MixtralConfig, MixtralForCausalLM
from transformers.quantizers.auto import AUTO_QUANTIZER_MAPPING, GptqHfQuantizer

import inc_laaciq
from inc_laaciq.backends.gptq_checkpoint import write_packed_checkpoint
from inc_laaciq.backends.packed_linear import PackedLinear
from inc_laaciq.backends.packed_readers import GAUDI, GPTQMODEL, NEURAL_COMPRESSOR
from inc_laaciq.calibration.folding import Fold
from inc_laaciq.errors import BackendError, IntegrityError, ModelError

ATTENTION = "model.layers.0.self_attn"


def norm_fold(factor=8.0):
    scale = torch.ones(64)
    scale[[3, 17]] = factor
    layers = tuple(f"{ATTENTION}.{name}_proj" for name in "qkv")
    return (Fold(norm="model.layers.0.input_layernorm", layers=layers, scale=scale),)


def mixed(model):
    """A layer in float, and bits, groups and schemes that differ."""
    names = [name for name in linear_names(model) if not name.endswith("0.mlp.up_proj")]
    return {
        **solved(model, names),
        **solved(model, names[:1], bits=3, scheme="asym", group_size=16),
        **solved(model, names[1:2], bits=2, group_size=-1),
    }


CASES = {
    "llama": (llama, lambda model: solved(model, linear_names(model)), ()),
    "llama with asym, its head and folds": (
        llama,
        lambda model: solved(model, linear_names(model, head=True), scheme="asym"),
        norm_fold(),
    ),
    "llama with layers that differ": (llama, mixed, ()),
    "qwen2, tied and with biases": (qwen2, lambda model: solved(model, linear_names(model), group_size=-1), ()),
    "bloom, tied, 8 bits": (bloom, lambda model: solved(model, linear_names(model), bits=8), ()),
}


@pytest.fixture(scope="module", params=CASES)
def case(request):
    make, solve_all, folds = CASES[request.param]
    model = grown(make)
    weights = solve_all(model)
    return model, weights, folds, logits(with_weights(model, weights, folds))


@pytest.fixture(scope="module")
def small():
    model = grown(llama)
    return model, solved(model, linear_names(model))


def with_parameters_in(model, dtype, then=None):
    """Buffers stay as they are: loaders do not round the frequencies of positions."""
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype).to(then or dtype)
    return model


def edit(folder, **changes):
    file = folder / "config.json"
    content = json.loads(file.read_text(encoding="utf-8"))
    content["quantization_config"] |= changes
    file.write_text(json.dumps(content), encoding="utf-8")


@pytest.mark.parametrize("variant", ["gptq", "gptq_v2"])
def test_plain_transformers_computes_exactly_what_was_solved(case, variant, tmp_path):
    model, weights, folds, expected = case
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    written = write_packed_checkpoint(model, weights, tmp_path, folds=folds, layout=variant)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    loaded = inc_laaciq.load_packed_checkpoint(tmp_path)
    assert torch.equal(logits(loaded), expected)
    packed = {name for name, module in loaded.named_modules() if isinstance(module, PackedLinear)}
    assert packed == set(weights)
    assert loaded.config.tie_word_embeddings == model.config.tie_word_embeddings
    assert written.n_bytes < sum(parameter.nbytes for parameter in model.parameters())


def test_compressed_tensors_in_transformers_computes_exactly_what_was_solved(case, tmp_path):
    pytest.importorskip("compressed_tensors")
    model, weights, folds, expected = case
    write_packed_checkpoint(model, weights, tmp_path, folds=folds, layout="compressed-tensors")
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert torch.equal(logits(loaded), expected)
    assert torch.equal(logits(inc_laaciq.load_packed_checkpoint(tmp_path)), expected)


def test_8_bits_asym_go_where_they_are_read_right(tmp_path):
    pytest.importorskip("compressed_tensors")
    model = grown(llama)
    weights = solved(model, linear_names(model), bits=8, scheme="asym")
    with pytest.raises(ModelError, match=r"in 8 bits and would read another weight. Write compressed-tensors"):
        write_packed_checkpoint(model, weights, tmp_path)
    expected = logits(with_weights(model, weights))
    for layout in ("gptq_v2", "compressed-tensors"):
        folder = tmp_path / layout
        folder.mkdir()
        written = write_packed_checkpoint(model, weights, folder, layout=layout)
        assert torch.equal(logits(inc_laaciq.load_packed_checkpoint(folder)), expected)
    assert written.readers == {}


def test_packed_layers_keep_no_float_weight(small, tmp_path):
    model, weights = small
    write_packed_checkpoint(model, weights, tmp_path)
    loaded = inc_laaciq.load_packed_checkpoint(tmp_path)
    logits(loaded)
    layer = loaded.get_submodule(f"{ATTENTION}.q_proj")
    held = sum(tensor.nbytes for tensor in (*layer.parameters(), *layer.buffers()))
    assert held < 64 * 64 * 4 / 4  # a quarter of the weight in float32
    assert {name for name, value in vars(layer).items() if isinstance(value, torch.Tensor)} == set()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_in_16_bits_each_weight_is_rounded_once(small, dtype, tmp_path):
    model, weights = small
    write_packed_checkpoint(model, weights, tmp_path)
    loaded = inc_laaciq.load_packed_checkpoint(tmp_path, dtype=dtype)
    expected = with_parameters_in(with_weights(model, weights), dtype)
    assert loaded.get_submodule(f"{ATTENTION}.q_proj").scales.dtype == torch.float16
    assert torch.equal(logits(loaded), logits(expected))


def test_shards_hold_the_same(small, tmp_path):
    model, weights = small
    write_packed_checkpoint(model, weights, tmp_path, shard_bytes=40_000)
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text(encoding="utf-8"))
    files = {file.name for file in tmp_path.glob("*.safetensors")}
    assert set(index["weight_map"].values()) == files
    assert len(files) > 3
    assert {name for file in files for name in load_file(tmp_path / file)} == set(index["weight_map"])
    assert torch.equal(logits(inc_laaciq.load_packed_checkpoint(tmp_path)), logits(with_weights(model, weights)))


def test_floats_take_16_bits_only_where_that_is_exact(small, tmp_path):
    model = with_parameters_in(grown(llama), torch.float16, then=torch.float32)
    weights = small[1]
    written = write_packed_checkpoint(model, weights, tmp_path, dtype="float16")
    assert written.dtype == "float16"
    assert load_file(tmp_path / "model.safetensors")["model.norm.weight"].dtype == torch.float16
    assert json.loads((tmp_path / "config.json").read_text())["dtype"] == "float16"
    shutil.rmtree(tmp_path)
    tmp_path.mkdir()
    # Divided by 2^14 a norm's weights leave the normal numbers of float16.
    folds = norm_fold(2.0**14)
    written = write_packed_checkpoint(model, weights, tmp_path, folds=folds, dtype="float16")
    assert written.dtype == json.loads((tmp_path / "config.json").read_text())["dtype"] == "float32"
    assert "1 tensors are not exact in float16 (model.layers.0.input_layernorm.weight)" in " ".join(written.notes)
    expected = logits(with_weights(model, weights, folds))
    assert torch.equal(logits(inc_laaciq.load_packed_checkpoint(tmp_path)), expected)


def test_nothing_is_registered_in_the_place_of_gptqmodel(small, tmp_path):
    model, weights = small
    write_packed_checkpoint(model, weights, tmp_path)
    inc_laaciq.load_packed_checkpoint(tmp_path)
    assert AUTO_QUANTIZER_MAPPING["gptq"] is GptqHfQuantizer
    assert json.loads((tmp_path / "config.json").read_text())["quantization_config"]["quant_method"] == "gptq"


def test_config_says_which_layers_are_in_float(tmp_path):
    model = grown(llama)
    inside = [name for name in linear_names(model) if "up_proj" not in name]
    config = write_packed_checkpoint(model, solved(model, inside), tmp_path).quantization_config
    assert config["dynamic"] == {rf"-:^model\.layers\.{n}\.mlp\.up_proj$": {} for n in range(2)}
    assert config["modules_in_block_to_quantize"] == [
        [*(f"self_attn.{name}_proj" for name in "qkvo"), "mlp.gate_proj", "mlp.down_proj"]
    ]
    uneven = write_packed_checkpoint(model, solved(model, inside[:1]), None)
    assert "modules_in_block_to_quantize" not in uneven.quantization_config
    assert uneven.readers[GPTQMODEL] == [
        "through transformers the same layers must be in float in every block; its own loader takes others"
    ]


def test_readers_are_told_apart(small, tmp_path):
    model, weights = small
    written = write_packed_checkpoint(model, weights, None)
    assert written.readers == {NEURAL_COMPRESSOR: [], GAUDI: [], GPTQMODEL: []}
    assert written.quantization_config["sym"]
    assert "not exact in bfloat16" in " ".join(written.notes)
    positive = write_packed_checkpoint(model, weights, None, positive_scales=True)
    assert not positive.quantization_config["sym"]
    assert "takes zero points outside the middle only in gptq_v2" in positive.readers[GPTQMODEL][0]
    wide = write_packed_checkpoint(model, solved(model, linear_names(model), bits=5), None)
    assert wide.readers[GAUDI] == ["it takes 4-bit codes, and these have 8"]
    assert wide.notes[0] == "codes of 5 bits are stored in 8 bits"
    second = write_packed_checkpoint(model, weights, None, layout="gptq_v2")
    assert "one less" in second.readers[NEURAL_COMPRESSOR][0]
    assert second.readers[GAUDI] == second.readers[NEURAL_COMPRESSOR]
    head = write_packed_checkpoint(model, solved(model, linear_names(model, head=True), group_size=8), None)
    assert head.readers[GPTQMODEL] == [
        "it knows no groups of 8",
        "through transformers the output projection stays unread; its own loader takes it",
    ]
    assert not list(tmp_path.iterdir())


def test_layers_of_another_kind_are_refused():
    model = grown(gpt2)
    linear = inc_laaciq.linearize(model)
    weights = solved(linear, linear_names(linear))
    for given in (model, linear):
        with pytest.raises(ModelError, match=r"'transformer.h.0.attn.c_attn' is a Conv1D in GPT2LMHeadModel"):
            write_packed_checkpoint(given, weights, None)


def test_fused_experts_are_refused():
    sizes = {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4}
    config = MixtralConfig(vocab_size=64, num_key_value_heads=2, num_local_experts=2, **sizes)
    model = MixtralForCausalLM(config).eval()
    weights = solved(model, ["model.layers.0.self_attn.q_proj"])
    with pytest.raises(ModelError, match=r"several matrices in one parameter \(fused experts\)"):
        write_packed_checkpoint(model, weights, None)


def test_weights_and_folds_of_another_model_are_refused(small):
    model, weights = small
    with pytest.raises(ModelError, match="no layer was quantized"):
        write_packed_checkpoint(model, {}, None)
    name = f"{ATTENTION}.q_proj"
    cut = replace(weights[name], codes=weights[name].codes[:32], scale=weights[name].scale[:32])
    with pytest.raises(ModelError, match=r"codes of shape \(32, 64\) and weights of shape \(64, 64\)"):
        write_packed_checkpoint(model, {name: cut}, None)
    with pytest.raises(BackendError, match=r"model\.layers\.0\.input_layernorm cannot take the scale"):
        write_packed_checkpoint(model, weights, None, folds=norm_fold(2.0**126))
    with pytest.raises(ModelError, match="positive_scales is for the GPTQ layout"):
        write_packed_checkpoint(model, weights, None, layout="compressed-tensors", positive_scales=True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"quant_method": "awq"}, "quant_method of quantization_config is 'awq'"),
        ({"desc_act": True}, "desc_act of quantization_config is True, and must be False"),
        ({"checkpoint_format": "marlin"}, "checkpoint_format of quantization_config is 'marlin'"),
        ({"bits": 3}, "bits of quantization_config is 3"),
        ({"group_size": 0}, "group_size of quantization_config is 0"),
    ],
)
def test_other_checkpoints_are_refused(small, changes, message, tmp_path):
    write_packed_checkpoint(*small, tmp_path)
    edit(tmp_path, **changes)
    with pytest.raises(ModelError, match=message):
        inc_laaciq.load_packed_checkpoint(tmp_path)


def test_a_folder_that_is_none_is_refused(tmp_path):
    with pytest.raises(ModelError, match=r"has no config\.json"):
        inc_laaciq.load_packed_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ("less", IntegrityError, r"q_proj\.qzeros is missing"),
        ("shape", IntegrityError, r"q_proj\.scales has shape \(1, 64\) in the checkpoint; the model needs \(2, 64\)"),
        ("other layer", IntegrityError, "packed weights of 'model.norm', which is no linear layer"),
        ("float", IntegrityError, r"weights and model differ in model\.norm\.weight"),
    ],
)
def test_damaged_weights_are_refused(small, change, error, message, tmp_path):
    write_packed_checkpoint(*small, tmp_path)
    file = tmp_path / "model.safetensors"
    tensors = {name: tensor.clone() for name, tensor in load_file(file).items()}
    name = f"{ATTENTION}.q_proj"
    if change == "less":
        del tensors[f"{name}.qzeros"]
    elif change == "shape":
        tensors[f"{name}.scales"] = tensors[f"{name}.scales"][:1].clone()
    elif change == "other layer":
        tensors |= {f"model.norm.{leaf}": tensors[f"{name}.{leaf}"].clone() for leaf in ("qweight", "qzeros", "scales")}
        tensors["model.norm.g_idx"] = tensors[f"{name}.g_idx"].clone()
    else:
        del tensors["model.norm.weight"]
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(error, match=message):
        inc_laaciq.load_packed_checkpoint(tmp_path)

"""Static INT8 from a configuration file: its rules and its text, through `load_config` and `quantization.fit`."""

from __future__ import annotations

import pytest
import torch
from neural_compressor import quantization
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

import inc_laaciq
from inc_laaciq.errors import SpecError

pytestmark = pytest.mark.inc


@pytest.fixture
def load_config(tmp_path):
    """Write a configuration for static INT8, with rules, and read it."""

    def load_config(op_wise="{}", la_aciq="{calibration: {texts: texts, tokens_per_language: 512}, model: model}"):
        path = tmp_path / "conf.yaml"
        path.write_text(
            f"quantization: {{approach: post_training_static_quant, op_wise: {op_wise}}}\n"
            f"strategy: la_aciq\nla_aciq: {la_aciq}\n",
            encoding="utf-8",
        )
        return inc_laaciq.load_config(path)

    return load_config


def test_rules_hold_for_the_lone_layers_that_neural_compressor_renames(batches, load_config):
    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 1, "num_attention_heads": 4}
    llama = LlamaForCausalLM(LlamaConfig(vocab_size=128, **sizes)).eval()
    rules = '{".*self_attn.*": {weight: {dtype: fp32}}, ".*k_proj": {weight: {bits: 8}}}'
    quantized = quantization.fit(llama, load_config(rules), calib_dataloader=inc_laaciq.LanguageLoader(batches))
    attention = quantized.model.model.layers[0].self_attn
    assert [name for name in quantized.la_aciq.weights if "attn" in name] == ["model.layers.0.self_attn.k_proj"]
    for layer in (attention.q_proj, attention.v_proj, attention.o_proj):
        assert type(layer.module) is torch.nn.Linear
    assert type(attention.k_proj.module) is not torch.nn.Linear


def test_a_rule_for_no_layer_is_refused(bloom, batches, load_config):
    config = load_config('{".*q_prog": {weight: {dtype: fp32}}}')
    with pytest.raises(SpecError, match="op_wise names no linear layer"):
        quantization.fit(bloom, config, calib_dataloader=inc_laaciq.LanguageLoader(batches))


def test_text_of_the_file_is_calibrated_on(bloom, load_config, tmp_path):
    words = {f"w{number}": number for number in range(127)} | {"[UNK]": 127}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]")
    tokenizer.save_pretrained(tmp_path / "model")
    (tmp_path / "texts").mkdir()
    for tag, start in (("en", 0), ("sw", 40)):
        lines = (" ".join(f"w{start + (line * word) % 80}" for word in range(1, 30)) for line in range(40))
        (tmp_path / "texts" / f"{tag}.txt").write_text("\n".join(lines), encoding="utf-8")
    quantized = quantization.fit(bloom, load_config())
    loader = inc_laaciq.language_loader(tokenizer, tmp_path / "texts", tokens_per_language=512)
    expected = quantization.fit(bloom, load_config(), calib_dataloader=loader)
    assert len(quantized.la_aciq.ranges) == 8
    assert quantized.la_aciq.ranges == expected.la_aciq.ranges


def test_calib_func_is_refused_because_the_ranges_would_be_lost(bloom, batches, load_config):
    loader = inc_laaciq.LanguageLoader(batches)
    with pytest.raises(SpecError, match="calib_func is not possible"):
        quantization.fit(bloom, load_config(), calib_dataloader=loader, calib_func=lambda model: None)

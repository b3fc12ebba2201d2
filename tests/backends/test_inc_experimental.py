"""`strategy: la_aciq` through Neural Compressor 2.x's first API, `experimental.Quantization('conf.yaml')`."""

from __future__ import annotations

import copy
import subprocess
import sys
import textwrap
import warnings
from pathlib import Path

import pytest
import torch
import yaml

import inc_laaciq
from inc_laaciq.errors import BackendError, EvaluationError, NumericError, SpecError

pytestmark = pytest.mark.inc

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    pytest.importorskip("neural_compressor.experimental", reason="neural-compressor 3 has no such API")
    from neural_compressor import quantization
    from neural_compressor.conf.config import EXP_STRATEGIES as NAMES
    from neural_compressor.conf.config import QuantConf
    from neural_compressor.experimental import Quantization, common
    from neural_compressor.experimental.strategy import EXP_STRATEGIES
    from neural_compressor.utils.pytorch import load

FLOAT = {"weight": {"dtype": "fp32"}, "activation": {"dtype": "fp32"}}


class Scores:
    """An eval_func that gives these scores one after the other."""

    def __init__(self, *scores):
        self._scores = iter(scores)

    def __call__(self, _model):
        return next(self._scores)


@pytest.fixture
def write(tmp_path):
    """Write a configuration for static INT8 with some sections changed; its path."""

    def write(name="conf.yaml", **sections):
        settings = {
            "model": {"name": "tiny", "framework": "pytorch"},
            "quantization": {"approach": "post_training_static_quant"},
            "tuning": {"strategy": {"name": "la_aciq"}},
            "la_aciq": {"mode": "balanced", "calibration": {"texts": "unused"}},
            **sections,
        }
        path = tmp_path / name
        path.write_text(yaml.safe_dump({k: v for k, v in settings.items() if v is not None}), encoding="utf-8")
        return str(path)

    return write


def old_api(path, model, batches=None):
    quantization = Quantization(path)
    quantization.model = common.Model(model)
    if batches is not None:
        quantization.calib_dataloader = inc_laaciq.LanguageLoader(batches)
    return quantization


def new_api(path, model, batches=None):
    loader = None if batches is None else inc_laaciq.LanguageLoader(batches)
    return quantization.fit(model, inc_laaciq.load_config(path), calib_dataloader=loader)


def assert_same(one, other):
    """Same codes, scales, input ranges and output scales, to the last bit."""
    assert one.la_aciq.ranges == other.la_aciq.ranges
    assert one.la_aciq.weights.keys() == other.la_aciq.weights.keys()
    for name, weight in one.la_aciq.weights.items():
        for model in (one, other):
            modules = dict(model.model.named_modules())
            layer = modules.get(f"{name}.module", modules[name])
            assert torch.equal(layer.weight().int_repr(), weight.codes), name
            assert torch.equal(layer.weight().q_per_channel_scales().float(), weight.scale[:, 0]), name
    first, second = one.model.state_dict(), other.model.state_dict()
    assert first.keys() == second.keys()
    assert any("input_scale" in name for name in first)
    for name, value in first.items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(value, second[name]), name


def test_same_bits_as_quantization_fit(bloom, batches, write):
    before = {name: tensor.clone() for name, tensor in bloom.state_dict().items()}
    path = write(quantization={"approach": "post_training_static_quant", "op_wise": {".*h.0.*4h_to_h": FLOAT}})
    text = Path(path).read_text(encoding="utf-8")
    quantized = old_api(path, bloom, batches).fit()
    expected = new_api(path, bloom, batches)
    assert len(quantized.la_aciq.weights) == 7
    assert_same(quantized, expected)
    ids = batches["sw"][0]
    logits = quantized.model(input_ids=ids).logits
    assert torch.equal(logits, expected.model(input_ids=ids).logits)
    for name, tensor in bloom.state_dict().items():
        assert torch.equal(tensor, before[name]), f"{name} of the float model was changed"
    assert Path(path).read_text(encoding="utf-8") == text, (
        "Neural Compressor's own reader would write a version into it"
    )
    quantized.save("saved")
    assert torch.equal(load("saved", copy.deepcopy(bloom))(input_ids=ids).logits, logits)


def test_a_rule_holds_for_the_lone_layers_that_neural_compressor_renames(batches, write):
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 1, "num_attention_heads": 4}
    llama = LlamaForCausalLM(LlamaConfig(vocab_size=128, **sizes)).eval()
    path = write(
        quantization={"approach": "post_training_static_quant", "op_wise": {".*q_proj": FLOAT}},
        strategy="la_aciq",
        tuning=None,
    )
    wrapped = common.Model(llama)  # before the API object exists, which is where it learns of the backend
    quantized = Quantization(path)
    quantized.model = wrapped
    quantized.calib_dataloader = inc_laaciq.LanguageLoader(batches)
    quantized = quantized()
    assert len(quantized.la_aciq.weights) == 6
    assert type(quantized.model.model.layers[0].self_attn.q_proj.module) is torch.nn.Linear
    assert_same(quantized, new_api(path, llama, batches))


def test_text_of_the_file_is_calibrated_on(bloom, write, tmp_path):
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = {f"w{number}": number for number in range(127)} | {"[UNK]": 127}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]").save_pretrained(tmp_path / "model")
    (tmp_path / "texts").mkdir()
    for tag, start in (("no", 0), ("sw", 40)):
        lines = (" ".join(f"w{start + (line * word) % 80}" for word in range(1, 30)) for line in range(40))
        (tmp_path / "texts" / f"{tag}.txt").write_text("\n".join(lines), encoding="utf-8")
    path = write(
        la_aciq={
            "model": "model",
            "languages": ["no", "sw"],
            "calibration": {"texts": "texts", "tokens_per_language": 512},
        }
    )
    quantized = old_api(path, bloom).fit()
    assert_same(quantized, new_api(path, bloom))


def test_other_strategies_and_files_are_neural_compressors_own(write, tmp_path):
    stock = write(
        tuning={"strategy": {"name": "basic"}}, la_aciq=None, model={"name": "la_aciq", "framework": "pytorch"}
    )
    conf = QuantConf(stock)
    assert conf.usr_cfg.tuning.strategy.name == "basic"
    assert not hasattr(conf, "la_aciq")
    with pytest.raises(RuntimeError, match="yaml file is not exist"):
        QuantConf(str(tmp_path / "no_such.yaml"))
    assert QuantConf().usr_cfg.quantization.approach == "post_training_static_quant"


def test_registering_twice_changes_nothing(write):
    from inc_laaciq.backends import inc_experimental, inc_registration

    before = dict(EXP_STRATEGIES), list(NAMES), QuantConf.__init__
    inc_experimental.register()
    inc_registration.register_on_import()
    assert (dict(EXP_STRATEGIES), list(NAMES), QuantConf.__init__) == before
    assert NAMES.count("la_aciq") == 1


def test_old_api_first_then_the_package(write):
    script = f"""
        import warnings
        warnings.simplefilter("ignore")
        from neural_compressor.experimental import Quantization
        import inc_laaciq
        assert Quantization({write()!r}).cfg.tuning.strategy.name == "la_aciq"
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        (
            {"quantization": {"approach": "post_training_weight_only"}},
            r"post_training_weight_only.*quantization\.fit.*inc-laaciq",
        ),
        ({"quantization": None}, r"post_training_weight_only.*default.*quantization\.fit"),
        (
            {
                "la_aciq": {
                    "calibration": {"texts": "a"},
                    "evaluation": {"texts": "b"},
                    "gate": {"max_degradation": "10%"},
                }
            },
            r"la_aciq\.gate.*inc-laaciq quantize",
        ),
        (
            {"tuning": {"strategy": "la_aciq", "workspace": {"path": "w", "resume": "history.snapshot"}}},
            r"workspace\.resume.*quantization\.fit",
        ),
        ({"tuning": {"strategy": "la_aciq", "objective": "beauty"}}, r"refuses the section tuning.*quantization\.fit"),
        ({"la_aciq": {"mood": "balanced"}}, r"conf\.yaml:\d+: la_aciq\.mood"),
        ({"tuning": {"strategy": {"name": "basic"}}}, r"conf\.yaml:\d+: tuning\.strategy\.name.*use INC itself"),
    ],
)
def test_what_cannot_be_carried_is_refused(write, sections, message):
    with pytest.raises(SpecError, match=message):
        Quantization(write(**sections))


def test_bad_yaml_is_told_with_its_line(tmp_path):
    path = tmp_path / "conf.yaml"
    path.write_text("la_aciq: {mode: [\n", encoding="utf-8")
    with pytest.raises(SpecError, match=r"conf\.yaml:\d+:\d+: "):
        Quantization(str(path))


def test_without_a_file_there_is_nothing_to_go_by(bloom, batches, write):
    conf = QuantConf(write())
    del conf.la_aciq
    with pytest.raises(SpecError, match=r"yaml file only.*quantization\.fit"):
        old_api(conf, bloom, batches).fit()


def test_no_text_is_refused(bloom, write):
    with pytest.raises(SpecError, match="static INT8 needs calibration text"):
        old_api(write(la_aciq=None), bloom).fit()


def test_calib_func_is_refused(bloom, batches, write):
    api = old_api(write(), bloom, batches)
    api.calib_func = lambda model: None
    with pytest.raises(SpecError, match=r"calib_func is not possible"):
        api.fit()


def test_errors_of_the_run_reach_the_caller(bloom, batches, write):
    with torch.no_grad():
        bloom.transformer.h[0].mlp.dense_h_to_4h.weight[0, 0] = float("nan")
    with pytest.raises(NumericError, match=r"dense_h_to_4h.*1 NaN"):
        old_api(write(), bloom, batches).fit()


def test_foreign_errors_reach_the_caller(bloom, batches, write):
    api = old_api(write(), bloom, batches)
    api.eval_func = Scores()
    with pytest.raises(BackendError, match="StopIteration"):
        api.fit()


def test_a_search_is_judged_by_the_criterion_of_the_file(bloom, batches, write):
    path = write(tuning={"strategy": {"name": "la_aciq"}, "accuracy_criterion": {"absolute": 0.2}})
    api = old_api(path, bloom, batches)
    api.eval_func = Scores(1.0, 0.85)
    assert len(api.fit().la_aciq.weights) == 8
    api = old_api(path, bloom, batches)
    api.eval_func = Scores(1.0, 0.75)
    with pytest.raises(EvaluationError, match=r"absolute loss of at most 0\.2, baseline 1\.0.*trial 1: 0\.75"):
        api.fit()

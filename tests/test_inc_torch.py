"""LA-ACIQ in Neural Compressor's torch API: its own calls, bit by bit, on real tiny models."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
from packed_models import VOCABULARY, bloom, gpt2, grown, logits, qwen2, with_weights

with warnings.catch_warnings():  # Neural Compressor and what it imports warn while they are imported
    warnings.simplefilter("ignore")
    pytest.importorskip("neural_compressor.torch.quantization", exc_type=ImportError)
    from neural_compressor.torch.algorithms.weight_only.modules import INCWeightOnlyLinear
    from neural_compressor.torch.quantization import (
        AWQConfig,
        GPTQConfig,
        RTNConfig,
        TuningConfig,
        autotune,
        convert,
        load,
        prepare,
        quantize,
    )

sys.path.insert(0, str(Path(__file__).parents[1] / "recipes" / "small_bloom"))
from outliers import make_outlier_variant

from inc_laaciq import LAACIQConfig, LanguageLoader, calibrate, calibration_language, linearize
from inc_laaciq.backends.inc_torch_calibration import RECORDER
from inc_laaciq.backends.inc_torch_packing import solved_in
from inc_laaciq.calibration.layers import find_layers
from inc_laaciq.checkpoint.digest import sha256_of_files
from inc_laaciq.config import FairSpec, LaaciqSpec, WeightSpec, run_spec
from inc_laaciq.errors import BackendError, DataError, IntegrityError, SpecError
from inc_laaciq.layerwise import quantize_layers

pytestmark = [pytest.mark.inc, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module")
def batches():
    generator = torch.Generator().manual_seed(1)
    return {
        tag: [torch.randint(low, VOCABULARY, (4, 16), generator=generator) for _ in range(2)]
        for tag, low in (("en", 0), ("sw", 80))
    }


@pytest.fixture(scope="module")
def loader(batches):
    return LanguageLoader(batches)


@pytest.fixture
def model():
    return grown(qwen2)


def run_tagged(model, batches):
    for tag, rows in batches.items():
        with calibration_language(tag):
            for row in rows:
                model(input_ids=row)


def same(first, second):
    return first.keys() == second.keys() and all(
        torch.equal(first[name].codes, second[name].codes) and torch.equal(first[name].scale, second[name].scale)
        for name in first
    )


def as_inc_computes(model, solution):
    """The float model with products of code and scale, and biases of packed layers, rounded to float16."""
    expected = with_weights(model, solution.weights, solution.folds)
    for name in solution.weights:
        for parameter in expected.get_submodule(name).parameters():
            parameter.data = parameter.data.half().float()
    return expected


@pytest.mark.parametrize("make", [bloom, qwen2, gpt2])
def test_prepare_calibrate_convert_save_load(make, batches, tmp_path):
    model = linearize(grown(make))
    expected = quantize_layers(model, find_layers(model, WeightSpec()), batches, LaaciqSpec())
    prepared = prepare(grown(make), LAACIQConfig())
    run_tagged(prepared, batches)
    quantized = convert(prepared)
    assert not hasattr(quantized, RECORDER)
    assert same(quantized.la_aciq.weights, expected.weights)
    for name, weight in expected.weights.items():
        packed = quantized.get_submodule(name)
        assert type(packed) is INCWeightOnlyLinear
        codes, scale, zero_point = solved_in(packed)
        assert torch.equal(codes - zero_point[:, :1], weight.codes.int())
        assert torch.equal(scale, weight.scale)
    assert type(quantized.get_output_embeddings()) is torch.nn.Linear
    assert torch.equal(logits(quantized), logits(as_inc_computes(model, expected)))
    for _ in range(2):  # a second time is as good as the first
        quantized.save(tmp_path)
        assert torch.equal(logits(load(str(tmp_path), copy.deepcopy(model))), logits(quantized))
    record = json.loads((tmp_path / "laaciq_layers.json").read_text(encoding="utf-8"))
    solved = {layer["name"]: layer["errors"].keys() for layer in record["layers"] if "bits" in layer}
    assert solved.keys() == expected.weights.keys()
    assert all(languages == {"en", "sw"} for languages in solved.values())
    assert record["files"] == {"quantized_weight.pt": sha256_of_files([tmp_path / "quantized_weight.pt"])}


@pytest.mark.parametrize(
    ("bits", "group_size", "use_sym"),
    [(2, 32, True), (2, 16, False), (3, -1, False), (5, 32, True), (6, -1, False), (7, 32, False), (8, -1, True)],
)
def test_every_grid_survives(model, tmp_path, bits, group_size, use_sym):
    before = copy.deepcopy(model)
    config = LAACIQConfig(bits=bits, group_size=group_size, use_sym=use_sym, mode="fast")
    quantized = quantize(model, config)
    middle = 2 ** (bits - 1) if use_sym else 0
    for name, weight in quantized.la_aciq.weights.items():
        codes, scale, zero_point = solved_in(quantized.get_submodule(name))
        assert torch.equal(codes - middle, weight.codes.int())
        assert torch.equal(scale, weight.scale)
        assert use_sym or torch.equal(zero_point, weight.zero_point.int())
    if bits < 8:  # where signed scales are of use they are carried too
        assert use_sym is bool(any((weight.scale < 0).any() for weight in quantized.la_aciq.weights.values()))
    assert torch.equal(logits(quantized), logits(as_inc_computes(before, quantized.la_aciq)))
    quantized.save(tmp_path)
    assert torch.equal(logits(load(str(tmp_path), before)), logits(quantized))


def test_a_dictionary_and_a_run_fn_give_the_same(model, loader, batches):
    float_model = copy.deepcopy(model)
    settings = {"bits": 3, "reconcile": "minimax", "weights": {"sw": 2.0}}
    first = quantize(model, {"laaciq": settings}, run_fn=calibrate(loader))
    prepared = prepare(float_model, LAACIQConfig(**settings))
    run_tagged(prepared, batches)
    assert same(first.la_aciq.weights, convert(prepared).la_aciq.weights)


def test_a_weight_for_a_language_that_is_not_calibrated_on_is_refused(model, loader):
    with pytest.raises(SpecError, match="weights and shares name tr"):
        quantize(model, LAACIQConfig(bits=3, weights={"tr": 5.0}), run_fn=calibrate(loader))


def test_other_batches_are_not_forgotten_in_silence(model, batches):
    prepared = prepare(model, LAACIQConfig(bits=3))
    one, other = (LanguageLoader({tag: batches[tag]}) for tag in list(batches)[:2])
    calibrate(one)(prepared)
    calibrate(one)(prepared)
    with pytest.raises(SpecError, match="already calibrated on other batches"):
        calibrate(other)(prepared)


def test_natural_goes_by_the_size_of_the_text_that_the_loader_knows(model, batches):
    def codes(text_bytes, **settings):
        config = LAACIQConfig(bits=3, reconcile="natural", mode="fast", **settings)
        loader = LanguageLoader(batches, text_bytes=text_bytes)
        return quantize(copy.deepcopy(model), config, run_fn=calibrate(loader)).la_aciq.weights

    by_size = codes({"en": 1, "sw": 30})
    assert same(by_size, codes(None, shares={"en": 1 / 31, "sw": 30 / 31}))
    assert not same(by_size, codes({"en": 1, "sw": 1}))


def test_natural_goes_by_the_size_of_the_text_of_listed_languages_too(model, batches):
    def codes(batches, **settings):
        config = LAACIQConfig(bits=3, reconcile="natural", mode="fast", **settings)
        loader = LanguageLoader(batches, text_bytes={"en": 1, "sw": 30, "tr": 900})
        return quantize(copy.deepcopy(model), config, run_fn=calibrate(loader)).la_aciq.weights

    expected = codes(batches)
    assert same(expected, codes({"tr": batches["en"], **batches}, languages=["en", "sw"]))
    assert not same(expected, codes(batches, shares={"en": 0.5, "sw": 0.5}))


def test_calibrate_runs_models_of_other_algorithms_under_each_language(batches, loader):
    from inc_laaciq.calibration.current_language import current_language

    seen = []

    class Spy(torch.nn.Linear):
        def forward(self, input_ids):
            seen.append((current_language(), input_ids.shape))

    calibrate(loader)(Spy(1, 1))
    assert seen == [(tag, row.shape) for tag, rows in batches.items() for row in rows]


def test_mode_fair(loader, tmp_path):
    model = grown(bloom)
    settings = {"mode": "fair", "fair": {"tune": "blocks", "steps": 3}}
    spec = run_spec(la_aciq={**settings, "calibration": {"texts": "unused"}}).la_aciq
    expected = quantize_layers(model, find_layers(model, WeightSpec(bits=3)), loader.batches, spec)
    quantized = quantize(copy.deepcopy(model), LAACIQConfig(bits=3, **settings), run_fn=calibrate(loader))
    assert same(quantized.la_aciq.weights, expected.weights)
    quantized.save(tmp_path)
    assert torch.equal(logits(load(str(tmp_path), model)), logits(quantized))


def test_scaled_norms_are_saved_and_loaded(loader, tmp_path):
    """Neural Compressor's `load` alone would keep the norms of the float model."""
    model = make_outlier_variant(grown(bloom), factors=(16.0, 32.0, 32.0))
    quantized = quantize(copy.deepcopy(model), LAACIQConfig(bits=3), run_fn=calibrate(loader))
    assert quantized.la_aciq.folds
    assert torch.equal(logits(quantized), logits(as_inc_computes(model, quantized.la_aciq)))
    quantized.save(tmp_path)
    assert torch.equal(logits(load(str(tmp_path), copy.deepcopy(model))), logits(quantized))
    without = quantize(copy.deepcopy(model), LAACIQConfig(bits=3, scaling=False), run_fn=calibrate(loader))
    assert not without.la_aciq.folds


def test_single_layers_have_their_own_grid_or_stay_in_float(model, tmp_path):
    before = copy.deepcopy(model)
    config = LAACIQConfig(bits=3, group_size=32, mode="fast")
    config.set_local(torch.nn.Linear, LAACIQConfig(bits=4, group_size=16))
    config.set_local(r"model\.layers\.0\..*_proj", LAACIQConfig(bits=8, group_size=-1))
    config.set_local(".*down_proj", RTNConfig(dtype="fp32"))
    config.set_local(".*1.*k_proj", LAACIQConfig(use_sym=False))
    quantized = quantize(model, config)
    grids = {layer.name: layer.weight for layer in quantized.la_aciq.layers}
    assert grids["model.layers.0.self_attn.q_proj"] == WeightSpec(bits=8, group_size=-1)
    assert grids["model.layers.1.self_attn.q_proj"] == WeightSpec(bits=4, group_size=16)
    assert grids["model.layers.1.self_attn.k_proj"] == WeightSpec(bits=4, group_size=32, scheme="asym")
    assert grids["model.layers.1.mlp.down_proj"] is None
    assert type(quantized.model.layers[1].mlp.down_proj) is torch.nn.Linear
    quantized.save(tmp_path)
    assert torch.equal(logits(load(str(tmp_path), before)), logits(quantized))


class Alike(torch.nn.Module):
    """Names of some layers are the beginning of others'."""

    def __init__(self):
        super().__init__()
        self.embed = torch.nn.Embedding(VOCABULARY, 64)
        self.fc, self.fc1, self.fc11 = (torch.nn.Linear(64, 64) for _ in range(3))

    def forward(self, input_ids):
        return self.fc11(self.fc1(self.fc(self.embed(input_ids))))


def test_layers_whose_names_contain_one_another_are_loaded_with_their_own_bits(tmp_path):
    torch.manual_seed(0)
    model = Alike().eval()
    config = LAACIQConfig(bits=2, mode="fast")
    config.set_local("fc1$", LAACIQConfig(bits=4))
    config.set_local("fc11$", LAACIQConfig(bits=8))
    quantized = quantize(copy.deepcopy(model), config)
    quantized.save(tmp_path)
    loaded = load(str(tmp_path), model)
    assert [loaded.get_submodule(name).bits for name in ("fc", "fc1", "fc11")] == [2, 4, 8]
    row = torch.arange(8)[None]
    assert torch.equal(loaded(row), quantized(row))


def test_white_list(model):
    quantized = quantize(model, LAACIQConfig(mode="fast", white_list=[".*up_proj"]))
    assert quantized.la_aciq.weights.keys() == {"model.layers.0.mlp.up_proj", "model.layers.1.mlp.up_proj"}


def test_configurations_survive_dictionaries_and_files(tmp_path):
    config = LAACIQConfig(bits=3, mode="fair", fair={"steps": 3}, weights={"sw": 2.0}, languages=["en", "sw"])
    config.set_local("fc", LAACIQConfig(dtype="fp32"))
    again = LAACIQConfig.from_dict(config.to_dict())
    config.to_json_file(tmp_path / "config.json")
    read = LAACIQConfig.from_json_file(tmp_path / "config.json")
    for other in (again, read):
        assert other == config
        assert other.settings() == config.settings()
        assert other.local_config["fc"].dtype == "fp32"
    assert config != LAACIQConfig(bits=3)
    (tmp_path / "config.json").write_text("{", encoding="utf-8")
    with pytest.raises(IntegrityError, match="is not JSON"):
        LAACIQConfig.from_json_file(tmp_path / "config.json")


def test_a_configuration_is_not_changed_by_use(model):
    config = LAACIQConfig(mode="fast")
    quantize(model, config)
    assert config == LAACIQConfig(mode="fast")
    assert not config.local_config


def test_a_setting_that_is_changed_later_counts(model):
    config = LAACIQConfig(mode="fast")
    config.bits = 8
    assert {weight.grid.bits for weight in quantize(model, config).la_aciq.weights.values()} == {8}
    with pytest.raises(SpecError, match="bits"):
        config.bits = 9


def test_the_configuration_of_a_yaml_file():
    run = run_spec(
        quantization={
            "model_wise": {"weight": {"bits": 3, "group_size": 64, "scheme": "asym"}},
            "op_wise": {"fc.*2": {"weight": {"dtype": "fp32"}}, "fc1": {"weight": {"bits": 4}}},
        },
        la_aciq={"mode": "fast", "reconcile": "cvar", "nan": "keep-fp", "calibration": {"texts": "unused"}},
    )
    config = LAACIQConfig.from_run(run)
    mapping = config.to_config_mapping(model_info=[(name, "Linear") for name in ("fc", "fc1", "fc11", "fc12", "fc123")])
    grids = {name: each.weight_spec() for (name, _), each in mapping.items()}
    assert grids["fc"] == grids["fc11"] == grids["fc123"] == WeightSpec(bits=3, group_size=64, scheme="asym")
    assert grids["fc1"] == WeightSpec(bits=4, group_size=64, scheme="asym")
    assert grids["fc12"] is None
    assert (config.settings().mode, config.settings().reconcile, config.settings().nan) == ("fast", "cvar", "keep-fp")


@pytest.mark.parametrize(
    "given",
    [
        {"tune": "model", "steps": 3, "tilt": 1.5, "sampled": 2, "labels": 0.1},
        {},
        {"tune": "blocks"},
        {"labels": 0.0},
    ],
)
def test_every_setting_of_mode_fair_reaches_the_configuration(given):
    run = run_spec(la_aciq={"mode": "fair", "fair": given, "calibration": {"texts": "unused"}})
    assert LAACIQConfig.from_run(run).settings().fair == run.la_aciq.fair == FairSpec(**given)


def test_batches_that_say_no_language_are_one_language(model, batches, caplog):
    prepared = prepare(model, LAACIQConfig(mode="fast"))
    prepared(batches["en"][0])
    with caplog.at_level("WARNING", logger="inc_laaciq"):
        quantized = convert(prepared)
    assert "no calibration batch says its language" in caplog.text
    assert all(weight.errors.keys() == {"und"} for weight in quantized.la_aciq.weights.values())


def test_some_batches_with_a_language_and_some_without_are_refused(model, batches):
    prepared = prepare(model, LAACIQConfig(mode="fast"))
    prepared(batches["en"][0])
    run_tagged(prepared, {"sw": batches["sw"]})
    for _ in range(2):  # the second time too: the text is not forgotten, which mode fast would not miss
        with pytest.raises(SpecError, match=r"1 calibration batches were run outside.*\(sw\)"):
            convert(prepared)


def test_a_failed_convert_without_prepare_leaves_no_trace(model):
    with pytest.raises(SpecError, match="the model was run on none"):
        convert(model, LAACIQConfig(mode="balanced"))
    assert not hasattr(model, RECORDER)
    assert not model._forward_pre_hooks


def test_padding_is_no_text(model, batches):
    def recorded(*positional, **inputs):
        prepared = prepare(copy.deepcopy(model), LAACIQConfig(mode="fast"))
        with calibration_language("en"):
            prepared(*positional, **inputs)
        return getattr(prepared, RECORDER).batches()["en"]

    rows = batches["en"][0][:2]
    mask = torch.ones_like(rows)
    assert [row.tolist() for row in recorded(input_ids=rows, attention_mask=mask)] == [rows.tolist()]
    mask[0, :5] = 0
    expected = [[rows[0, 5:].tolist()], [rows[1].tolist()]]
    assert [row.tolist() for row in recorded(input_ids=rows, attention_mask=mask)] == expected
    assert [row.tolist() for row in recorded(rows, mask)] == expected


def test_what_is_no_row_of_text_is_refused(model):
    prepared = prepare(model, LAACIQConfig(mode="fast"))
    with pytest.raises(SpecError, match=r"integer tensor of shape .* not on nothing"):
        prepared(inputs_embeds=torch.zeros(1, 4, 64))
    with pytest.raises(SpecError, match=r"Run whole rows of text, not generate\(\)"):
        prepared.generate(torch.arange(4)[None], max_new_tokens=3, do_sample=False)


def test_languages_choose_among_the_batches(model, loader, batches):
    quantized = quantize(
        copy.deepcopy(model), LAACIQConfig(mode="fast", languages=["sw"]), run_fn=calibrate(loader)
    ).la_aciq.weights
    alone = calibrate(LanguageLoader({"sw": batches["sw"]}))
    only = quantize(copy.deepcopy(model), LAACIQConfig(mode="fast"), run_fn=alone)
    assert same(quantized, only.la_aciq.weights)
    with pytest.raises(DataError, match=r"no calibration batch is in fi.*en, sw"):
        quantize(model, LAACIQConfig(languages=["fi", "sw"]), run_fn=calibrate(loader))


def test_without_inplace_the_model_stays_as_it_is(model, loader):
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    prepared = prepare(model, LAACIQConfig(), inplace=False)
    assert not model._forward_pre_hooks
    calibrate(loader)(prepared)
    quantized = convert(prepared, inplace=False)
    assert model.state_dict().keys() == before.keys()
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert hasattr(prepared, RECORDER)
    assert not hasattr(quantized, RECORDER)
    assert not quantized._forward_pre_hooks


def test_neural_compressors_autotune_takes_it(model, loader):
    scores = iter([1.0, 0.5, 0.99])
    tuning = TuningConfig(config_set=[LAACIQConfig(bits=[2, 4, 8], mode="fast")], tolerable_loss=0.05)
    best = autotune(model, tuning, eval_fn=lambda _model: next(scores), run_fn=calibrate(loader))
    assert {weight.grid.bits for weight in best.la_aciq.weights.values()} == {4}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"reconsile": "minimax"}, r"no setting 'reconsile'.*Did you mean 'reconcile'"),
        ({"mode": "fats"}, "mode='fats'"),
        ({"bits": 9}, "bits=9 is out of range"),
        ({"use_sym": "yes"}, "use_sym='yes' must be true or false"),
        ({"damping": 2}, "damping"),
        ({"signed": 1}, "signed=1"),
        ({"weights": {"xx": 1.0}}, "'xx' is not a known language"),
        ({"mode": "fast", "fair": {"steps": 3}}, "the mode is fast"),
        ({"calibration": {"texts": "text"}}, r"run_fn=inc_laaciq\.calibrate"),
        ({"scheme": "sym"}, "use_sym=True"),
        ({"range_reconcile": "max"}, "it is for static INT8"),
        ({"use_mse_search": True}, "a setting of RTNConfig that has no meaning here"),
        ({"dtype": "nf4"}, "dtype='nf4'.*integer grids"),
        ({"mode": "paper", "bits": 8}, "does not work at 8 bits"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_wrong_settings_are_refused(settings, message):
    with pytest.raises(SpecError, match=message):
        LAACIQConfig(**settings)


@pytest.mark.parametrize(
    ("settings", "exceptions", "message"),
    [
        ({"bits": 8, "use_sym": False}, {}, "8-bit asymmetric weights wrongly"),
        ({}, {".*0.*up_proj": LAACIQConfig(bits=8, use_sym=False)}, r"layers\.0\.mlp\.up_proj.*8-bit asymmetric"),
        ({}, {"mlp": LAACIQConfig(bits=8)}, "'mlp'.*names no layer of the model"),
        ({}, {torch.nn.Conv2d: LAACIQConfig(bits=8)}, "names no layer of the model"),
        ({}, {".*up_proj": GPTQConfig()}, "another algorithm cannot take part"),
        ({}, {".*up_proj": LAACIQConfig(mode="paper")}, "mode holds for the whole model"),
        ({"group_size": 48}, {}, "group_size=48 does not divide in_features=64"),
        ({"mode": "balanced"}, {}, r"run on none.*inc_laaciq\.calibrate\(loader\)"),
    ],
    ids=["8 bits", "8 bits of one", "no name", "no type", "algorithm", "mode of one", "group", "no text"],
)
def test_what_a_model_cannot_take_is_refused(model, settings, exceptions, message):
    config = LAACIQConfig(**{"mode": "fast", **settings})
    for key, exception in exceptions.items():
        config.set_local(key, exception)
    with pytest.raises(SpecError, match=message):
        quantize(model, config)


def test_no_sum_with_another_algorithm(model):
    """Neural Compressor would quantize nothing, without a word."""
    ours = LAACIQConfig(mode="fast")
    for add in (lambda: ours + GPTQConfig(), lambda: RTNConfig() + ours, lambda: ours + RTNConfig()):
        with pytest.raises(SpecError, match="cannot be added"):
            add()
    summed = AWQConfig() + ours  # it is AWQConfig that makes this one
    with pytest.raises(SpecError, match="cannot be added"):
        quantize(model, summed)
    both = LAACIQConfig(mode="fast").set_local(".*up_proj", LAACIQConfig(bits=8)) + ours
    assert list(both.local_config) == [".*up_proj"]


def test_twice_prepared_and_an_unreadable_form_are_refused(model, tmp_path):
    prepared = prepare(model, LAACIQConfig(mode="fast"))
    with pytest.raises(SpecError, match="is prepared for LA-ACIQ already"):
        prepare(prepared, LAACIQConfig(mode="fast"))
    with pytest.raises(BackendError, match="transformers refuse"):
        convert(prepared).save(tmp_path, format="huggingface")


def test_codes_of_a_model_in_16_bits(model, caplog):
    half = model.to(torch.bfloat16)
    expected = quantize_layers(half, find_layers(half, WeightSpec()), None, LaaciqSpec(mode="fast"))
    with caplog.at_level("WARNING", logger="inc_laaciq"):
        quantized = quantize(copy.deepcopy(half), LAACIQConfig(mode="fast"))
    assert same(quantized.la_aciq.weights, expected.weights)
    assert "load the float model in float32" in caplog.text


def test_a_bias_that_float16_does_not_hold_is_refused(model):
    with torch.no_grad():
        model.model.layers[0].self_attn.q_proj.bias[0] = 1e6
    with pytest.raises(BackendError, match=r"layers\.0\.self_attn\.q_proj.*biases.*1e\+06"):
        quantize(model, LAACIQConfig(mode="fast"))


def test_neural_compressor_may_be_imported_first():
    """And a model is loaded without a look at anything else of this package."""
    script = (
        "import warnings; warnings.simplefilter('ignore')\n"
        "import neural_compressor.torch.quantization\n"
        "import inc_laaciq\n"
        "from neural_compressor.common.base_config import config_registry\n"
        "from neural_compressor.torch.utils.utility import algos_mapping\n"
        "assert 'laaciq' in algos_mapping\n"
        "assert config_registry.get_cls_configs()['torch']['laaciq'] is inc_laaciq.LAACIQConfig\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

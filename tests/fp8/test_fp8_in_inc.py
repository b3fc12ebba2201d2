"""FP8 through Neural Compressor itself, on a CPU: measured by language, merged, and quantized by the merged files.

Its faults that this package works around are pinned here too, so that their repair would be noticed.
"""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from packed_models import VOCABULARY, grown, ids, linear_names, llama, logits

import inc_laaciq
from inc_laaciq.backends import gaudi_fp8_measure
from inc_laaciq.backends.gaudi_fp8_files import Measurement, Node, measurement_files, read_measurement
from inc_laaciq.backends.gaudi_fp8_names import DumpName, find_dump
from inc_laaciq.errors import BackendError, DataError, NumericError, SpecError
from inc_laaciq.fp8_inputs import named_dumps, read_dumps
from inc_laaciq.fp8_merge import MergeSettings, destination, merge, write_merged
from inc_laaciq.fp8_merge_report import merge_report
from inc_laaciq.quant.fp8_scales import Fp8Target

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    if reason := gaudi_fp8_measure.missing():
        pytest.skip(f"no FP8 here: {reason}", allow_module_level=True)
    from neural_compressor.torch.algorithms.fp8_quant._core.scale_methods import round_scales_function as rounding
    from neural_compressor.torch.quantization import FP8Config, convert, finalize_calibration, prepare
    from neural_compressor.torch.utils.auto_accelerator import INCAcceleratorType

pytestmark = [pytest.mark.inc, pytest.mark.filterwarnings("ignore")]

NAME = "model.layers.0.self_attn.q_proj"
BLOCKED = {"names": ["lm_head"], "types": ()}


def batches(low, high, seed=0, spread=2):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(low, high, (2, 16), generator=generator) for _ in range(spread)]


@pytest.fixture(scope="module")
def model():
    """A Llama whose ranges differ between languages: tokens of Swahili have large embeddings."""
    made = grown(llama)
    with torch.no_grad():
        made.model.embed_tokens.weight[200:] *= 6
        for layer in made.model.layers:
            layer.mlp.down_proj.weight *= 2
    return made


@pytest.fixture(scope="module")
def loader():
    text = {"en": batches(0, 100), "sw": batches(200, VOCABULARY), "fi": batches(100, 200)}
    return inc_laaciq.LanguageLoader(text)


@pytest.fixture(scope="module")
def measured(model, loader):
    return gaudi_fp8_measure.measure(model, loader)


def fp8(folder, mode, **more):
    settings = {"use_qdq": True, "hp_dtype": "fp32", "measure_on_hpu": False, "blocklist": BLOCKED, **more}
    return FP8Config(mode=mode, dump_stats_path=str(folder / "measure"), **settings)


def stock_measure(model, rows, folder, observer="maxabs"):
    """One run of Neural Compressor's own measuring."""
    folder.mkdir(exist_ok=True)
    prepared = prepare(copy.deepcopy(model), fp8(folder, "MEASURE", observer=observer))
    with torch.no_grad():
        for batch in rows:
            prepared(input_ids=batch)
    finalize_calibration(prepared)
    return prepared


def stock_quantize(model, folder, scale_method="maxabs_arbitrary", **more):
    """Neural Compressor's own quantizing by the measurement in a folder."""
    return convert(copy.deepcopy(model), fp8(folder, "QUANTIZE", scale_method=scale_method, **more))


def inverse_scale(quantized, name=NAME):
    return quantized.get_submodule(name).quant_input.scale_inv


def put(found, folder):
    folder.mkdir(exist_ok=True)
    name = DumpName(prefix=folder / "measure", observer="maxabs")
    for path, content in measurement_files(name, None, found).items():
        path.write_bytes(content)
    return name


def largest(found, name=NAME):
    return float(found.nodes[name].inputs[0][0, 0])


# Measuring


@pytest.mark.parametrize("tag", ["en", "sw"])
def test_each_language_is_measured_as_the_stock_observer_measures_it_alone(tag, model, loader, measured, tmp_path):
    stock_measure(model, loader.batches[tag], tmp_path / "stock")
    gaudi_fp8_measure.write_measurements(measured, tmp_path)
    ours, theirs = (folder / "measure_hooks_maxabs.npz" for folder in (tmp_path / tag, tmp_path / "stock"))
    assert ours.read_bytes() == theirs.read_bytes()
    written = json.loads(ours.with_suffix(".json").read_text())
    assert written == json.loads(theirs.with_suffix(".json").read_text())


def test_languages_differ_and_only_linear_layers_are_measured(model, measured):
    assert list(measured) == ["en", "sw", "fi"]
    assert largest(measured["sw"], "model.layers.0.mlp.down_proj") > 0
    assert largest(measured["en"]) != largest(measured["sw"])
    for found in measured.values():
        assert list(found.nodes) == list(found.modules) == linear_names(model)


def test_counts_are_of_every_value(model, loader, measured):
    seen = []
    hook = model.get_submodule(NAME).register_forward_pre_hook(lambda _module, args: seen.append(args[0].detach()))
    with torch.no_grad():
        for batch in loader.batches["sw"]:
            model(input_ids=batch)
    hook.remove()
    x = torch.cat([part.flatten() for part in seen])
    found = measured["sw"].magnitudes[NAME, "input 0"]
    assert (found.n, found.largest) == (x.numel(), float(x.abs().max()))
    assert found.largest == largest(measured["sw"])
    assert found.share_below(0.5) == float((x.abs() < 0.5).double().mean())


def test_the_model_is_not_changed_and_nothing_is_left_behind(model, loader):
    before, names = logits(model), sorted(os.listdir(tempfile.gettempdir()))
    gaudi_fp8_measure.quantize(model, gaudi_fp8_measure.measure(model, loader)["en"])
    assert torch.equal(logits(model), before)
    assert not [name for name, module in model.named_modules() if "Patched" in type(module).__name__]
    left = set(os.listdir(tempfile.gettempdir())) - set(names)
    assert not [name for name in left if name.startswith("inc-laaciq-") or name.endswith(".json")]


def test_inc_finds_the_observer_and_writes_the_largest_of_all_languages(model, loader, measured, tmp_path):
    prepared = prepare(copy.deepcopy(model), fp8(tmp_path, "MEASURE", observer="laaciq"))
    with torch.no_grad():
        for tag, rows in loader.batches.items():
            with inc_laaciq.calibration_language(tag):
                for batch in rows:
                    prepared(input_ids=batch)
    finalize_calibration(prepared)
    found = read_measurement(find_dump(tmp_path), None)
    assert largest(found) == max(map(largest, measured.values()))
    (tmp_path / "dumps").mkdir()
    written = gaudi_fp8_measure.write_language_dumps(prepared, tmp_path / "dumps")
    assert {tag: largest(read_measurement(name, None)) for tag, name in written.items()} == {
        tag: largest(one) for tag, one in measured.items()
    }


def test_text_without_a_language_is_refused(model, tmp_path):
    prepared = prepare(copy.deepcopy(model), fp8(tmp_path, "MEASURE", observer="laaciq"))
    with pytest.raises(DataError, match="nothing was measured"):
        gaudi_fp8_measure.write_language_dumps(prepared, tmp_path)
    with pytest.raises(SpecError, match=rf"input0 of {NAME}: a batch was measured whose language is not known"):
        prepared(input_ids=ids())
    with pytest.raises(SpecError, match="the model has no observers 'laaciq'"):
        gaudi_fp8_measure.write_language_dumps(model, tmp_path)


def test_activations_that_are_not_numbers_are_told_by_layer_and_language(model, loader):
    broken = copy.deepcopy(model)
    with torch.no_grad():
        broken.model.layers[1].input_layernorm.weight[0] = torch.nan
    with pytest.raises(NumericError, match=r"input0 of model\.layers\.1\.self_attn\.q_proj, language en: 32 of 2048"):
        gaudi_fp8_measure.measure(broken, loader)


def test_outputs_are_measured_where_that_is_asked_for(model, loader, tmp_path):
    prepared = prepare(copy.deepcopy(model), fp8(tmp_path, "MEASURE", observer="laaciq", measure_exclude="NONE"))
    with torch.no_grad(), inc_laaciq.calibration_language("en"):
        prepared(input_ids=loader.batches["en"][0])
    (tmp_path / "ours").mkdir()
    name = gaudi_fp8_measure.write_language_dumps(prepared, tmp_path / "ours")["en"]
    assert read_measurement(name, None).nodes[NAME].outputs[0].shape == (1, 1)


def test_each_worker_writes_files_of_its_own(tmp_path):
    """Neural Compressor asks for rank and number of workers once in a process."""
    script = """
import sys, torch
from pathlib import Path
from packed_models import grown, ids, llama
import inc_laaciq
from inc_laaciq.backends.gaudi_fp8_measure import write_language_dumps
from neural_compressor.torch.quantization import FP8Config, prepare
folder = Path(sys.argv[1])
config = FP8Config(mode="MEASURE", observer="laaciq", use_qdq=True, hp_dtype="fp32", measure_on_hpu=False,
                   dump_stats_path=str(folder / "measure"))
model = prepare(grown(llama), config)
with torch.no_grad(), inc_laaciq.calibration_language("sw"):
    model(input_ids=ids())
write_language_dumps(model, folder)
"""
    environment = {**os.environ, "LOCAL_RANK": "1", "WORLD_SIZE": "2", "PYTHONPATH": str(Path(__file__).parent.parent)}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script, str(tmp_path)], env=environment, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    name = DumpName(prefix=tmp_path / "sw/measure", observer="maxabs", ranks=((1, 2),))
    assert name.file((1, 2), ".npz").name == "measure_hooks_maxabs_1_2.npz"
    found = read_measurement(name, (1, 2))
    assert (found.local_rank, found.language) == (1, "sw")


# Merging, and quantizing by what was merged


@pytest.fixture(scope="module")
def merged(measured, tmp_path_factory):
    """Files of each language on disk, merged by the largest range into others."""
    folder = tmp_path_factory.mktemp("fp8")
    (folder / "dumps").mkdir()
    gaudi_fp8_measure.write_measurements(measured, folder / "dumps")
    names = named_dumps([str(folder / "dumps")])
    settings = MergeSettings(target=Fp8Target(device="cpu", method="maxabs_arbitrary"))
    dumps = read_dumps(names)
    found = merge(dumps, settings)
    (folder / "merged").mkdir()
    place = destination(folder / "merged/measure", names.values())
    write_merged(found, place, merge_report(dumps, found, settings))
    return place


def test_stock_neural_compressor_quantizes_by_the_merged_ranges(model, measured, merged):
    """Its scale is the range over 448 * 0.25, the largest number and its own headroom."""
    quantized = stock_quantize(model, merged.prefix.parent, recalc_scales=True)
    layers = [name for name, module in quantized.named_modules() if hasattr(module, "quant_input")]
    assert layers == linear_names(model)
    for name in layers:
        shared = max(largest(found, name) for found in measured.values())
        assert inverse_scale(quantized, name) == pytest.approx(112 / shared, rel=1e-5)


@pytest.mark.parametrize("tag", ["en", "sw"])
def test_ranges_of_one_language_give_other_scales(tag, model, measured, merged, tmp_path):
    put(measured[tag], tmp_path / tag)
    alone = stock_quantize(model, tmp_path / tag)
    both = stock_quantize(model, merged.prefix.parent, recalc_scales=True)
    assert inverse_scale(alone) == pytest.approx(112 / largest(measured[tag]), rel=1e-5)
    names = linear_names(model)
    differ = [name for name in names if inverse_scale(alone, name) != inverse_scale(both, name)]
    assert (tag, bool(differ)) == (tag, True)
    assert all(inverse_scale(alone, name) >= inverse_scale(both, name) for name in names)


def test_our_call_and_the_stock_one_give_the_same_model(model, merged):
    found = read_measurement(merged, None)
    before = sorted(path.name for path in merged.prefix.parent.iterdir())
    ours = gaudi_fp8_measure.quantize(model, found, scale_method="maxabs_arbitrary")
    assert sorted(path.name for path in merged.prefix.parent.iterdir()) == before  # no scales beside measurements
    theirs = stock_quantize(model, merged.prefix.parent, recalc_scales=True)
    assert torch.equal(logits(ours), logits(theirs))
    scales = gaudi_fp8_measure.input_scales(ours)
    assert scales.keys() == set(linear_names(model))
    assert scales[NAME] == pytest.approx(1 / inverse_scale(theirs))


def test_fp8_weights_and_inputs_are_what_is_computed(model, measured):
    """A layer of the quantized model, against torch's own cast."""
    quantized = gaudi_fp8_measure.quantize(model, measured["sw"], scale_method="maxabs_pow2")
    layer, original = quantized.get_submodule(NAME), model.get_submodule(NAME)
    x = torch.randn(3, original.in_features, generator=torch.Generator().manual_seed(0))
    scale = gaudi_fp8_measure.input_scales(quantized)[NAME]
    weight_scale = Fp8Target(device="cpu", method="maxabs_pow2").scale(float(original.weight.abs().max()), backoff=0.5)

    def rounded(values, by):
        return (values / by).clamp(-448, 448).to(torch.float8_e4m3fn).float() * by

    with torch.no_grad():
        expected = rounded(x, scale) @ rounded(original.weight, weight_scale).T
        assert torch.allclose(layer(x), expected, atol=1e-5)


@pytest.mark.parametrize("method", ["maxabs_hw", "unit_scale"])
def test_scale_methods_that_need_a_gaudi_are_refused(method, model, measured):
    with pytest.raises(SpecError, match=f"scale_method='{method}' does not run on a CPU"):
        gaudi_fp8_measure.quantize(model, measured["en"], scale_method=method)


def test_layers_without_a_measurement_are_refused(model, measured):
    found = measured["en"]
    lacking = Measurement(nodes={name: node for name, node in found.nodes.items() if name != NAME})
    with pytest.raises(BackendError, match=f"no range was measured for {NAME}"):
        gaudi_fp8_measure.quantize(model, lacking)


def test_a_model_in_an_odd_type_is_refused(model, measured):
    with pytest.raises(SpecError, match=r"the model is in torch\.float64"):
        gaudi_fp8_measure.quantize(copy.deepcopy(model).double(), measured["en"])


@pytest.mark.parametrize("device", ["gaudi2", "gaudi3"])
def test_rounding_of_scales_is_that_of_neural_compressor(device):
    kind = INCAcceleratorType[device.upper()]
    exact = torch.exp2(torch.linspace(-70, 20, 181, dtype=torch.float64)) * 1.1
    target = {method: Fp8Target(device=device, method=method) for method in ("maxabs_pow2", "maxabs_hw")}
    full = target["maxabs_hw"].largest * 0.25
    theirs = {
        "maxabs_pow2": rounding.ScaleToPow2().calc(exact),
        "maxabs_hw": rounding.ScaleToHwAligned(kind).calc(exact),
    }
    for method, expected in theirs.items():
        assert [target[method].scale(float(scale) * full) for scale in exact] == expected.tolist()


# Faults of Neural Compressor 3.10 that are worked around


def test_inc_reads_only_the_npz(model, measured, tmp_path):
    name = put(measured["en"], tmp_path)
    text = name.file(None, ".json")
    content = json.loads(text.read_text())
    content["Nodes"][NAME]["inputs"] = [[[100 * largest(measured["en"])]]]
    text.write_text(json.dumps(content))
    assert inverse_scale(stock_quantize(model, tmp_path)) == pytest.approx(112 / largest(measured["en"]), rel=1e-5)


def test_inc_prefers_scales_that_it_kept_to_a_newer_measurement(model, measured, tmp_path):
    put(measured["en"], tmp_path)
    first = inverse_scale(stock_quantize(model, tmp_path))
    name = put(measured["sw"], tmp_path)
    assert [path.suffix for path in name.caches()] == [".json", ".npz"]
    assert inverse_scale(stock_quantize(model, tmp_path)) == first
    for path in name.caches():
        path.unlink()
    assert inverse_scale(stock_quantize(model, tmp_path)) == pytest.approx(112 / largest(measured["sw"]), rel=1e-5)


def test_inc_makes_a_scale_of_zero_that_leaves_nothing_of_an_input(model, measured, tmp_path):
    nodes = dict(measured["en"].nodes)
    nodes[NAME] = Node(inputs=(np.zeros((1, 1), np.float32),), params=nodes[NAME].params)
    put(Measurement(nodes=nodes), tmp_path)
    layer = stock_quantize(model, tmp_path).get_submodule(NAME)
    assert layer.quant_input.scale == 0
    found = layer.quant_input(torch.tensor([[3.0, -3.0, 0.0]]))
    assert found[0, :2].tolist() == [0, 0]
    assert bool(found[0, 2].isnan())


def test_inc_lists_modules_of_earlier_models_too(model, loader, tmp_path):
    for folder in ("first", "second"):
        stock_measure(model, loader.batches["en"][:1], tmp_path / folder)
    listed = json.loads((tmp_path / "second/measure_hooks_maxabs_mod_list.json").read_text())
    assert len(listed) > len(set(listed))
    assert read_measurement(find_dump(tmp_path / "second"), None).modules == tuple(dict.fromkeys(listed))


def test_inc_moves_measurements_aside_whose_names_begin_alike(model, loader, tmp_path):
    """Why each language has a folder of its own, and not a prefix."""
    (tmp_path / "measure_sw_hooks_maxabs.npz").write_bytes(b"of another language")
    stock_measure(model, loader.batches["en"][:1], tmp_path)
    assert not (tmp_path / "measure_sw_hooks_maxabs.npz").exists()
    assert list(tmp_path.glob("backup_measure_*/measure_sw_hooks_maxabs.npz"))


def test_inc_cannot_take_a_name_without_a_folder(model, measured, tmp_path, monkeypatch):
    """Why `merge-measurements` shows the whole path."""
    put(measured["en"], tmp_path)
    monkeypatch.chdir(tmp_path)
    settings = {"mode": "QUANTIZE", "observer": "maxabs", "hp_dtype": "fp32", "use_qdq": True}
    with pytest.raises(FileNotFoundError, match="No such file or directory: ''"):
        convert(copy.deepcopy(model), FP8Config(dump_stats_path="measure", **settings))


def test_inc_leaves_its_configuration_in_the_temporary_folder(model, loader, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    stock_measure(model, loader.batches["en"][:1], tmp_path / "dump")
    assert list(tmp_path.glob("tmp*.json"))


def test_inc_has_no_hardware_scales_on_a_cpu(model, measured, tmp_path):
    put(measured["en"], tmp_path)
    with pytest.raises(KeyError, match="None"):
        stock_quantize(model, tmp_path, "maxabs_hw")

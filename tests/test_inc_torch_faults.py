"""Faults of Neural Compressor's torch API that this package works around or refuses; a repair is noticed here."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
import warnings

import pytest
import torch
from packed_models import VOCABULARY, grown, logits, qwen2

with warnings.catch_warnings():  # Neural Compressor and what it imports warn while they are imported
    warnings.simplefilter("ignore")
    pytest.importorskip("neural_compressor.torch.quantization", exc_type=ImportError)
    from neural_compressor.torch.algorithms.weight_only.modules import INCWeightOnlyLinear
    from neural_compressor.torch.quantization import GPTQConfig, RTNConfig, load, quantize

from inc_laaciq import LAACIQConfig

pytestmark = [pytest.mark.inc, pytest.mark.filterwarnings("ignore")]

PLAIN = {"use_layer_wise": False}


def packed_layers(model):
    return [name for name, module in model.named_modules() if isinstance(module, INCWeightOnlyLinear)]


@pytest.fixture
def model():
    return grown(qwen2)


def test_packing_changes_what_it_is_given():
    layer = INCWeightOnlyLinear(16, 8, bits=4, group_size=16, zp=True, use_optimum_format=True)
    zero_point = torch.full((8, 1), 3, dtype=torch.uint8)
    layer.pack(torch.zeros(8, 16, dtype=torch.int32), torch.ones(8, 1), zero_point, None)
    assert set(zero_point.flatten().tolist()) == {2}
    codes = torch.zeros(8, 16, dtype=torch.int32)
    INCWeightOnlyLinear(16, 8, bits=4, group_size=16, zp=True).pack(codes, torch.ones(8, 1), None, None)
    assert codes.any()


def test_asymmetric_8_bits_come_back_wrong():
    layer = INCWeightOnlyLinear(16, 8, bits=8, group_size=16, zp=True, use_optimum_format=True)
    codes = torch.full((8, 16), 255, dtype=torch.int32)
    layer.pack(codes, torch.ones(8, 1), torch.full((8, 1), 10, dtype=torch.uint8), None)
    assert layer.recover()[0, 0] == 245 - 256


def test_a_configuration_cannot_be_read_from_its_file(tmp_path):
    RTNConfig().to_json_file(tmp_path / "config.json")
    with pytest.raises(TypeError, match="from_dict"):
        RTNConfig.from_json_file(tmp_path / "config.json")


def test_a_sum_of_configurations_quantizes_nothing(model):
    summed = RTNConfig(**PLAIN) + GPTQConfig()
    assert not packed_layers(quantize(model, summed))


def test_of_two_algorithms_in_a_dictionary_the_second_is_dropped(model):
    """Not noticed by us: `LAACIQConfig` is given its own settings and nothing else."""
    both = {"laaciq": {"mode": "fast", "white_list": [".*up_proj"]}, "rtn": {"white_list": [".*k_proj"]}}
    assert all("up_proj" in name for name in packed_layers(quantize(model, both)))


def test_using_a_configuration_changes_it(model):
    config = RTNConfig(**PLAIN)
    quantize(model, config)
    assert config != RTNConfig(**PLAIN)


def test_load_restores_packed_layers_only(model, tmp_path):
    """Why norms that took a scale are entered as by AWQ, after which it restores everything."""
    before = copy.deepcopy(model)
    quantized = quantize(model, RTNConfig(**PLAIN))
    with torch.no_grad():
        quantized.model.norm.weight.mul_(2)
    quantized.save(str(tmp_path))
    loaded = load(str(tmp_path), before)
    assert not torch.allclose(logits(loaded), logits(quantized))


class Alike(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = torch.nn.Embedding(VOCABULARY, 64)
        self.fc, self.fc1 = torch.nn.Linear(64, 64), torch.nn.Linear(64, 64)

    def forward(self, input_ids):
        return self.fc1(self.fc(self.embed(input_ids)))


def test_load_takes_the_settings_of_another_layer_whose_name_contains_the_name(tmp_path):
    """Why layers with longer names come first in what we save: the last match counts."""
    config = RTNConfig(bits=4, **PLAIN)
    config.set_local("fc1$", RTNConfig(bits=8, **PLAIN))
    quantize(Alike(), config).save(str(tmp_path))
    with pytest.raises(RuntimeError, match="size mismatch"):
        load(str(tmp_path), Alike())


def test_a_huggingface_checkpoint_is_written_wrong_and_only_once(model, tmp_path):
    quantized = quantize(model, RTNConfig(**PLAIN))
    quantized.save(str(tmp_path), format="huggingface")
    written = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))["quantization_config"]
    assert written["damp_percent"] == 0  # transformers: "damp_percent must between 0 and 1"
    with pytest.raises(UnboundLocalError, match="quantization_config"):
        quantized.save(str(tmp_path), format="huggingface")


def test_mixed_bits_have_no_huggingface_form(model, tmp_path):
    config = RTNConfig(**PLAIN)
    config.set_local(".*up_proj", RTNConfig(bits=8, **PLAIN))
    with pytest.raises(AssertionError):
        quantize(model, config).save(str(tmp_path), format="huggingface")


def test_on_a_cpu_packed_layers_do_not_run_in_a_model_of_16_bits(model):
    quantized = quantize(model.to(torch.bfloat16), RTNConfig(**PLAIN))
    with pytest.raises(RuntimeError, match="same dtype"):
        logits(quantized)


def test_what_was_saved_needs_the_package_to_be_imported(model, tmp_path):
    """Neural Compressor looks the algorithm up by its name, and declares no entry points for plugins."""
    quantize(model, LAACIQConfig(mode="fast")).save(str(tmp_path))
    entries = json.loads((tmp_path / "qconfig.json").read_text(encoding="utf-8"))
    assert {name for entry in entries.values() for name in entry} == {"laaciq"}
    for name in list(entries):
        entries[name] = {"stranger": entries[name]["laaciq"]}
    (tmp_path / "qconfig.json").write_text(json.dumps(entries), encoding="utf-8")
    with pytest.raises(KeyError, match="stranger"):
        load(str(tmp_path), grown(qwen2))


def test_configurations_that_are_loaded_have_their_defaults_again(tmp_path):
    """So what was done to each layer is written to a record of this package's own."""
    from neural_compressor.common.base_config import config_registry
    from neural_compressor.common.utils import load_config_mapping

    file = tmp_path / "qconfig.json"
    file.write_text(json.dumps({"('layer', 'Linear')": {"rtn": RTNConfig(bits=3, **PLAIN).to_dict()}}))
    [loaded] = load_config_mapping(file, config_registry.get_all_configs()["torch"]).values()
    assert loaded.bits == RTNConfig().bits == 4


def test_its_front_end_to_transformers_does_not_import():
    """This package registers nothing there."""
    code = "import warnings; warnings.simplefilter('ignore'); import neural_compressor.transformers"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "is_safetensors_available" in done.stderr

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from inc_laaciq.checkpoint import folder_kind
from inc_laaciq.checkpoint.folder import check_kind, check_not_quantized, find_weights, read_config
from inc_laaciq.errors import IntegrityError, ModelError


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).touch()
    return folder


@pytest.mark.parametrize(
    ("names", "kind", "message"),
    [
        (["config.json", "laaciq.json", "best_model.pt"], "laaciq", "already the output of `inc-laaciq quantize`"),
        (["config.json", "openvino_model.xml", "openvino_model.bin", "laaciq.json"], "openvino", "is an OpenVINO IR"),
        (["config.json", "best_model.pt", "qconfig.json"], "inc", "saved by Intel Neural Compressor"),
        (["adapter_config.json", "adapter_model.safetensors"], "adapter", "merge_and_unload"),
        (["config.json", "model.safetensors", "adapter_config.json"], "adapter", "changes or replaces the model"),
        (["config.json", "model-Q4_K_M.gguf"], "gguf", "GGUF files"),
        (["config.json", "decoder_model.onnx"], "onnx", "ONNX files only"),
        (["config.json", "tf_model.h5"], "other-framework", "TensorFlow or Flax weights only"),
        (["config.json", "flax_model.msgpack"], "other-framework", "TensorFlow or Flax weights only"),
        (["README.md"], "unknown", "has no config.json"),
        ([], "unknown", "has no config.json"),
    ],
)
def test_other_kinds_are_named(tmp_path: Path, names: list[str], kind: str, message: str) -> None:
    assert folder_kind(touch(tmp_path, *names)) == kind
    with pytest.raises(ModelError, match=message):
        check_kind(tmp_path)


@pytest.mark.parametrize(
    "names",
    [
        ["config.json"],
        ["config.json", "model.safetensors", "openvino_model.xml", "x.gguf", "tf_model.h5"],
        ["config.json", "model.safetensors.index.json"],
        ["config.json", "pytorch_model.bin", "flax_model.msgpack"],
    ],
)
def test_a_model_with_other_things_beside_it_is_a_model(tmp_path: Path, names: list[str]) -> None:
    assert folder_kind(touch(tmp_path, *names)) == "huggingface"
    check_kind(tmp_path)


# Row 48


@pytest.mark.parametrize(
    ("config", "name"),
    [
        ({"quantization_config": {"quant_method": "gptq", "bits": 4}}, "gptq"),
        ({"quantization_config": {"quant_method": "awq"}}, "awq"),
        ({"quantization_config": {"load_in_4bit": True}}, "without a name"),
        ({"quantization_config": "fp8"}, "fp8"),
        ({"compression_config": {"quant_method": "compressed-tensors"}}, "compressed-tensors"),
        ({"text_config": {"quantization_config": {"quant_method": "bitsandbytes"}}}, "bitsandbytes"),
    ],
)
def test_a_quantized_model_is_refused_by_the_name_of_its_format(tmp_path: Path, config: Any, name: str) -> None:
    with pytest.raises(ModelError, match=f"already quantized, in the format '{name}'"):
        check_not_quantized(config, tmp_path)


@pytest.mark.parametrize("config", [{}, {"quantization_config": None}, {"quantization_config": {}}], ids=repr)
def test_a_float_model(tmp_path: Path, config: Any) -> None:
    check_not_quantized(config, tmp_path)


# Row 29


def test_pickles_are_refused(tmp_path: Path) -> None:
    touch(tmp_path, "config.json", "pytorch_model.bin", "training_args.bin")
    with pytest.raises(ModelError, match=r"in pickles only \(pytorch_model\.bin\), .*--allow-pickle"):
        find_weights(tmp_path)


def test_pickles_of_unknown_names_are_refused_even_when_allowed(tmp_path: Path) -> None:
    touch(tmp_path, "config.json", "weights.pt")
    with pytest.raises(ModelError, match=r"has no pytorch_model\.bin; weights\.pt is not what transformers saves"):
        find_weights(tmp_path, allow_pickle=True)


def test_pickled_shards_are_checked_against_their_index(tmp_path: Path) -> None:
    touch(tmp_path, "config.json", "pytorch_model-00001-of-00002.bin", "pytorch_model-00007-of-00007.bin")
    weight_map = {"a": "pytorch_model-00001-of-00002.bin", "b": "pytorch_model-00002-of-00002.bin"}
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": weight_map}))
    with pytest.raises(IntegrityError, match=r"pytorch_model-00002-of-00002.bin is missing") as caught:
        find_weights(tmp_path, allow_pickle=True)
    assert "pytorch_model-00007-of-00007.bin is a shard that the index does not list" in str(caught.value)


def test_no_weights_at_all(tmp_path: Path) -> None:
    touch(tmp_path, "config.json", "training_args.bin")
    with pytest.raises(ModelError, match=r"has no weights: model\.safetensors"):
        find_weights(tmp_path)


def test_a_config_as_transformers_reads_it(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"time_step_limit": [0.0, Infinity], "a": 1, "a": 2}')
    assert read_config(tmp_path)["a"] == 2


@pytest.mark.parametrize("raw", [b"", b"[]", b"\xff\xfe{}", b"{", b"[" * 100_000], ids=lambda raw: repr(raw[:8]))
def test_a_damaged_config(tmp_path: Path, raw: bytes) -> None:
    (tmp_path / "config.json").write_bytes(raw)
    with pytest.raises(IntegrityError, match=r"config\.json: (is not JSON|must be a JSON object)"):
        read_config(tmp_path)


def test_a_huge_config_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "config.json").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(IntegrityError, match="at most 10000000 are read"):
        read_config(tmp_path)

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from inc_laaciq.checkpoint import LoadedModel, load_model
from inc_laaciq.errors import IntegrityError, ModelError, ResourceError, SpecError

Copy = Callable[[Path], Path]


@pytest.fixture
def no_build(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail if a weight would be read: a check that comes later than that comes too late."""

    def fail(*_: Any, **__: Any) -> None:
        pytest.fail("the weights were read")

    monkeypatch.setattr("transformers.AutoModelForCausalLM.from_pretrained", fail)
    monkeypatch.setattr("torch.load", fail)


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def read_state(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a file, in memory of their own: load_file maps it, and a test may write it again."""
    return {name: value.clone() for name, value in load_file(path).items()}


def sha256(*paths: Path) -> str:
    return hashlib.sha256(b"".join(path.read_bytes() for path in sorted(paths))).hexdigest()


def logits(loaded: LoadedModel) -> torch.Tensor:
    ids = loaded.tokenizer("The cat sat on the mat.", return_tensors="pt")["input_ids"]
    with torch.no_grad():
        return torch.as_tensor(loaded.model(ids).logits)


def test_a_single_file(bloom_folder: Path) -> None:
    loaded = load_model(bloom_folder)
    assert not loaded.model.training
    assert {parameter.dtype for parameter in loaded.model.parameters()} == {torch.float32}
    assert loaded.source == str(bloom_folder)
    assert loaded.folder == bloom_folder
    assert loaded.weights_sha256 == sha256(bloom_folder / "model.safetensors")
    assert loaded.notes == ()
    stored = read_state(bloom_folder / "model.safetensors")
    state = loaded.model.state_dict()
    assert all(torch.equal(state[name], value) for name, value in stored.items())
    assert torch.isfinite(logits(loaded)).all()


def test_shards(llama_folder: Path) -> None:
    loaded = load_model(str(llama_folder))
    assert loaded.weights_sha256 == sha256(*llama_folder.glob("*.safetensors"))
    stored = {name: value for path in llama_folder.glob("*.safetensors") for name, value in read_state(path).items()}
    assert set(stored) == set(loaded.model.state_dict())


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_other_dtypes(bloom_folder: Path, dtype: str) -> None:
    loaded = load_model(bloom_folder, dtype=dtype)
    assert {parameter.dtype for parameter in loaded.model.parameters()} == {getattr(torch, dtype)}


def test_half_on_disk_is_float32_in_memory(bloom_folder: Path, copied: Copy) -> None:
    folder = copied(bloom_folder)
    halves = {name: value.half() for name, value in read_state(folder / "model.safetensors").items()}
    save_file(halves, folder / "model.safetensors", metadata={"format": "pt"})
    edit(folder / "config.json", dtype="float16", torch_dtype="float16")
    loaded = load_model(folder)
    assert {parameter.dtype for parameter in loaded.model.parameters()} == {torch.float32}
    assert len(halves) > 0


def test_a_model_that_does_not_fit_is_refused_before_it_is_read(
    bloom_folder: Path, no_build: None, monkeypatch: pytest.MonkeyPatch
) -> None:  # faults row 59
    needed = 4 * sum(value.numel() for value in read_state(bloom_folder / "model.safetensors").values())
    monkeypatch.setattr("inc_laaciq.checkpoint.load.available_memory", lambda: needed - 1)
    with pytest.raises(ResourceError, match=r"takes \d+\.\d GB in float32, and \d+\.\d GB of memory are free"):
        load_model(bloom_folder)
    monkeypatch.setattr("inc_laaciq.checkpoint.load.available_memory", lambda: None)
    with pytest.raises(pytest.fail.Exception, match="weights were read"):  # where nothing is known, it is tried
        load_model(bloom_folder)


def test_ties_survive(bloom_folder: Path) -> None:
    model = load_model(bloom_folder).model
    assert model.get_input_embeddings().weight is model.get_output_embeddings().weight


def test_importing_is_cheap() -> None:
    code = (
        "import sys, inc_laaciq.checkpoint;"
        "print([name for name in ('torch', 'transformers', 'huggingface_hub', 'safetensors') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("dtype", ["int8", "float64", "auto", ""])
def test_an_unknown_dtype(bloom_folder: Path, dtype: str) -> None:
    with pytest.raises(SpecError, match="Use one of float32, bfloat16, float16"):
        load_model(bloom_folder, dtype=dtype)


def test_a_revision_is_not_for_folders(bloom_folder: Path) -> None:
    with pytest.raises(SpecError, match="revision='main' was given with the folder"):
        load_model(bloom_folder, revision="main")


@pytest.mark.parametrize("name", ["no/such/folder/here", "./none", "../none", "/none", "", "a//b", "ünïcode", "a\0b"])
def test_a_folder_that_is_not_there(name: str) -> None:
    with pytest.raises(ModelError, match="does not exist, and is not the id of a model on the hub"):
        load_model(name)


def test_a_path_is_never_an_id(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="does not exist"):
        load_model(Path("bigscience/bloom-560m"))
    (tmp_path / "x.gguf").touch()
    with pytest.raises(ModelError, match=r"is a file. Give the folder"):
        load_model(tmp_path / "x.gguf")


# Row 22


def test_a_missing_tokenizer(bloom_folder: Path, copied: Copy, no_build: None) -> None:
    folder = copied(bloom_folder)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ModelError, match="has no tokenizer"):
        load_model(folder)


def test_a_tokenizer_of_another_model(
    bloom_folder: Path, copied: Copy, tokenizer_writer: Callable[[Path, int], None], no_build: None
) -> None:
    folder = copied(bloom_folder)
    tokenizer_writer(folder, 340)
    with pytest.raises(ModelError, match=r"the tokenizer does not fit the model: .* 300 embeddings"):
        load_model(folder)


@pytest.mark.parametrize("size", [None, 0, -5, "300"], ids=repr)
def test_a_config_without_a_vocabulary(bloom_folder: Path, copied: Copy, size: Any, no_build: None) -> None:
    folder = copied(bloom_folder)
    edit(folder / "config.json", vocab_size=size)
    with pytest.raises(ModelError, match="vocab_size"):
        load_model(folder)


# Rows 28, 48


def test_kinds_are_checked_first(bloom_folder: Path, copied: Copy, no_build: None) -> None:
    folder = copied(bloom_folder)
    edit(folder / "config.json", quantization_config={"quant_method": "gptq", "bits": 4})
    with pytest.raises(ModelError, match="already quantized, in the format 'gptq'"):
        load_model(folder)
    (folder / "laaciq.json").write_text("{}")
    with pytest.raises(ModelError, match="already the output of `inc-laaciq quantize`"):
        load_model(folder)


OWN_CODE = """
from pathlib import Path
from transformers import BloomConfig, BloomForCausalLM
Path({canary!r}).touch()

class OwnConfig(BloomConfig):
    model_type = "own"

class OwnModel(BloomForCausalLM):
    config_class = OwnConfig
"""


@pytest.fixture
def own_code(bloom_folder: Path, copied: Copy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setattr(sys, "path", list(sys.path))
    folder = copied(bloom_folder)
    (folder / "own.py").write_text(textwrap.dedent(OWN_CODE.format(canary=str(tmp_path / "canary"))))
    auto_map = {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnModel"}
    edit(folder / "config.json", model_type="own", architectures=["OwnModel"], auto_map=auto_map)
    return folder


def test_own_code_is_not_run(own_code: Path, tmp_path: Path, no_build: None) -> None:
    with pytest.raises(ModelError, match="needs code that comes with the model"):
        load_model(own_code)
    assert not (tmp_path / "canary").exists()


def test_own_code_of_a_folder_is_run_when_allowed(own_code: Path, tmp_path: Path) -> None:
    loaded = load_model(own_code, trust_remote_code=True)
    assert (tmp_path / "canary").exists()
    assert type(loaded.model).__name__ == "OwnModel"
    assert loaded.notes == (
        "Code of the model itself was run: own.OwnConfig, own.OwnModel.",
        f"own.py sha256 {sha256(own_code / 'own.py')}",
    )


def test_own_code_of_a_known_model_is_left_alone(bloom_folder: Path, copied: Copy, tmp_path: Path) -> None:
    folder = copied(bloom_folder)
    (folder / "own.py").write_text(f"open({str(tmp_path / 'canary')!r}, 'w')")
    edit(folder / "config.json", auto_map={"AutoModelForCausalLM": "own.OwnModel"})
    assert load_model(folder).notes == ("The model comes with code of its own, which was not run.",)
    assert not (tmp_path / "canary").exists()


def test_not_a_causal_model(bloom_folder: Path, copied: Copy, no_build: None) -> None:
    folder = copied(bloom_folder)
    edit(folder / "config.json", model_type="t5")
    with pytest.raises(ModelError, match="a t5 model is not a causal language model"):
        load_model(folder)


@pytest.mark.parametrize("value", [{"hidden_size": "wide"}, {"n_head": 0}, {"n_head": 5}], ids=repr)
def test_a_config_that_makes_no_sense(bloom_folder: Path, copied: Copy, value: dict[str, Any]) -> None:
    folder = copied(bloom_folder)
    edit(folder / "config.json", **value)
    with pytest.raises((ModelError, IntegrityError), match=r"transformers cannot|no value for"):
        load_model(folder)


# Rows 29, 30


@pytest.fixture
def pickled(bloom_folder: Path, copied: Copy) -> Path:
    folder = copied(bloom_folder)
    torch.save(read_state(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    return folder


def test_pickles_are_refused_by_default(pickled: Path, no_build: None) -> None:
    with pytest.raises(ModelError, match=r"in pickles only \(pytorch_model\.bin\)"):
        load_model(pickled)


def test_pickles_are_read_when_allowed(pickled: Path, bloom_folder: Path) -> None:
    loaded = load_model(pickled, allow_pickle=True)
    assert torch.equal(logits(loaded), logits(load_model(bloom_folder)))
    assert loaded.weights_sha256 == sha256(pickled / "pytorch_model.bin")
    assert loaded.notes == ("The weights were read from pickles, with weights_only=True.",)


def test_pickled_shards(llama_folder: Path, copied: Copy) -> None:
    folder = copied(llama_folder)
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    for path in list(folder.glob("*.safetensors")):
        name = path.name.replace("model-", "pytorch_model-").replace(".safetensors", ".bin")
        torch.save(read_state(path), folder / name)
        path.unlink()
        for tensor, shard in index["weight_map"].items():
            if shard == path.name:
                index["weight_map"][tensor] = name
    (folder / "model.safetensors.index.json").unlink()
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    loaded = load_model(folder, allow_pickle=True)
    assert torch.equal(logits(loaded), logits(load_model(llama_folder)))


class Canary:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("allow", [False, True])
def test_a_malicious_pickle_runs_nothing(pickled: Path, tmp_path: Path, allow: bool) -> None:
    torch.save({"a": torch.ones(1), "b": Canary(tmp_path / "canary")}, pickled / "pytorch_model.bin")
    with pytest.raises(IntegrityError if allow else ModelError, match=r"plain pickle of tensors|pickles only"):
        load_model(pickled, allow_pickle=allow)
    assert not (tmp_path / "canary").exists()


# Rows 31 to 36


def test_a_truncated_file(bloom_folder: Path, copied: Copy, no_build: None) -> None:
    folder = copied(bloom_folder)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(IntegrityError, match=r"model\.safetensors: truncated: the header describes \d+ bytes"):
        load_model(folder)


def test_a_missing_shard(llama_folder: Path, copied: Copy, no_build: None) -> None:
    folder = copied(llama_folder)
    lost = min(folder.glob("model-*.safetensors"))
    lost.unlink()
    with pytest.raises(IntegrityError, match=f"shard {lost.name} is missing"):
        load_model(folder)


def test_a_manifest(bloom_folder: Path, no_build: None) -> None:
    with pytest.raises(IntegrityError, match=r"model\.safetensors is not in the manifest"):
        load_model(bloom_folder, manifest={})
    with pytest.raises(IntegrityError, match=r"model\.safetensors has SHA-256 .* 0{64} expected"):
        load_model(bloom_folder, manifest={"model.safetensors": "0" * 64})


def test_a_manifest_that_holds(bloom_folder: Path) -> None:
    load_model(bloom_folder, manifest={"model.safetensors": sha256(bloom_folder / "model.safetensors")})


def test_a_link_that_leaves_the_folder(bloom_folder: Path, copied: Copy, tmp_path: Path, no_build: None) -> None:
    folder = copied(bloom_folder)
    (folder / "model.safetensors").rename(tmp_path / "elsewhere")
    (folder / "model.safetensors").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(IntegrityError, match=r"model\.safetensors is a link that leaves it"):
        load_model(folder)


def test_a_link_is_found_before_its_target_is_opened(bloom_folder: Path, copied: Copy, no_build: None) -> None:
    folder = copied(bloom_folder)
    (folder / "config.json").unlink()
    (folder / "config.json").symlink_to("/dev/zero")
    with pytest.raises(IntegrityError, match=r"config\.json is a link that leaves it"):
        load_model(folder)


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "config.json"])
def test_a_change_during_the_load(bloom_folder: Path, copied: Copy, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import AutoModelForCausalLM

    folder = copied(bloom_folder)
    load = AutoModelForCausalLM.from_pretrained

    def load_and_change(*args: Any, **kwargs: Any) -> Any:
        loaded = load(*args, **kwargs)
        (folder / name).write_bytes((folder / name).read_bytes() + b" ")
        return loaded

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", load_and_change)
    with pytest.raises(IntegrityError, match=f"{name} changed while the model was being loaded"):
        load_model(folder)


def test_a_file_cut_short_during_the_load(bloom_folder: Path, copied: Copy, monkeypatch: Any) -> None:
    from transformers import AutoModelForCausalLM

    folder = copied(bloom_folder)
    load = AutoModelForCausalLM.from_pretrained

    def load_and_cut(*args: Any, **kwargs: Any) -> Any:
        loaded = load(*args, **kwargs)
        os.truncate(folder / "model.safetensors", 0)
        return loaded

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", load_and_cut)
    with pytest.raises(IntegrityError, match=r"model\.safetensors changed while the model was being loaded"):
        load_model(folder)


def test_a_change_during_the_copy(bloom_folder: Path, copied: Copy, monkeypatch: Any) -> None:
    from inc_laaciq.checkpoint import load

    folder = copied(bloom_folder)

    def copy_and_touch(model: Any) -> None:
        os.utime(folder / "model.safetensors")

    monkeypatch.setattr(load, "own_memory", copy_and_touch)
    with pytest.raises(IntegrityError, match=r"model\.safetensors changed while the model was being loaded"):
        load_model(folder)


def test_a_change_of_another_file_is_no_matter(bloom_folder: Path, copied: Copy, monkeypatch: Any) -> None:
    from transformers import AutoModelForCausalLM

    folder = copied(bloom_folder)
    (folder / "README.md").write_text("a")
    load = AutoModelForCausalLM.from_pretrained

    def load_and_change(*args: Any, **kwargs: Any) -> Any:
        (folder / "README.md").write_text("abc")
        return load(*args, **kwargs)

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", load_and_change)
    load_model(folder)


def test_a_change_after_the_load_does_not_reach_the_model(bloom_folder: Path, copied: Copy) -> None:
    folder = copied(bloom_folder)
    loaded = load_model(folder)
    before = logits(loaded)
    size = (folder / "model.safetensors").stat().st_size
    with (folder / "model.safetensors").open("r+b") as file:
        file.seek(size // 2)
        file.write(b"\xff" * (size // 2))
    assert torch.equal(logits(loaded), before)
    with (folder / "model.safetensors").open("r+b") as file:
        file.truncate(0)
    assert torch.equal(logits(loaded), before)


# What transformers would pass over with a warning


def test_missing_weights_are_not_made_up(bloom_folder: Path, copied: Copy) -> None:
    folder = copied(bloom_folder)
    state = read_state(folder / "model.safetensors")
    lost = next(name for name in state if "dense_h_to_4h.weight" in name)
    del state[lost]
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(IntegrityError, match=r"no value for 1 of the model's parameters: .*h\.0\.mlp\.dense_h_to_4h"):
        load_model(folder)


def test_names_without_the_prefix(bloom_folder: Path, copied: Copy) -> None:
    # As BLOOM's own checkpoints have them.
    folder = copied(bloom_folder)
    state = read_state(folder / "model.safetensors")
    bare = {name.removeprefix("transformer."): value for name, value in state.items()}
    assert set(bare).isdisjoint(state)
    save_file(bare, folder / "model.safetensors", metadata={"format": "pt"})
    assert torch.equal(logits(load_model(folder)), logits(load_model(bloom_folder)))
    del bare["h.1.input_layernorm.weight"]
    save_file(bare, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(IntegrityError, match=r"no value for 1 of .*: .*h\.1\.input_layernorm\.weight"):
        load_model(folder)


def test_weights_of_another_shape(bloom_folder: Path, copied: Copy) -> None:
    folder = copied(bloom_folder)
    state = read_state(folder / "model.safetensors")
    name = next(name for name in state if "dense_h_to_4h.weight" in name)
    state[name] = state[name][:-1].contiguous()
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"transformers cannot load the model|do not fit"):
        load_model(folder)


def test_weights_to_spare_are_noted(bloom_folder: Path, copied: Copy) -> None:
    folder = copied(bloom_folder)
    state = read_state(folder / "model.safetensors") | {f"extra.{number}": torch.ones(2) for number in range(7)}
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    (note,) = load_model(folder).notes
    assert note.startswith("7 tensors of the checkpoint are not part of the model, and were not used: extra.0,")
    assert note.endswith("extra.4, ....")


def test_a_folder_that_may_not_be_read() -> None:
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o311)
        is_root = os.geteuid() == 0
        if is_root:
            os.seteuid(65534)
        try:
            with pytest.raises(ModelError, match="cannot be read: Permission denied"):
                load_model(name)
        finally:
            if is_root:
                os.seteuid(0)


def test_names_of_many_lost_weights_are_cut(bloom_folder: Path, copied: Copy) -> None:
    folder = copied(bloom_folder)
    save_file({"a": torch.ones(1)}, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(IntegrityError, match=r"no value for \d\d of the model's parameters: .*, \.\.\.\.$"):
        load_model(folder)


# Row 35


@pytest.mark.parametrize(
    "key", [{"transformers_weights": "../other/model.safetensors"}, {"configuration_files": ["config.4.0.0.json"]}]
)
def test_a_config_that_leads_to_other_files(
    bloom_folder: Path, copied: Copy, key: dict[str, Any], no_build: None
) -> None:
    folder = copied(bloom_folder)
    edit(folder / "config.json", **key)
    with pytest.raises(IntegrityError, match=rf"config\.json: {next(iter(key))}=.* would make transformers read other"):
        load_model(folder)


def test_no_temporary_folder_is_needed_for_safetensors(bloom_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.setattr("tempfile.TemporaryDirectory", fail)
    assert load_model(bloom_folder).notes == ()


def test_pickles_without_a_temporary_folder(pickled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.setattr("tempfile.TemporaryDirectory", fail)
    with pytest.raises(ResourceError, match="no temporary folder can be made; set TMPDIR"):
        load_model(pickled, allow_pickle=True)

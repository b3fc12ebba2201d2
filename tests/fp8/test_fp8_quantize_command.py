"""`inc-laaciq quantize` for FP8: with the shipped model, on a CPU."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel

from inc_laaciq.artifacts import REPORTS
from inc_laaciq.backends import gaudi_fp8_measure
from inc_laaciq.backends.gaudi_fp8_files import read_measurement
from inc_laaciq.backends.gaudi_fp8_names import find_dump

pytestmark = [pytest.mark.inc, pytest.mark.filterwarnings("ignore")]

RECIPE = Path(__file__).parents[2] / "recipes/small_bloom"
LANGUAGES = ("en", "tr")


@pytest.fixture
def conf(tmp_path):
    """The preset, with less text, two languages and a gate; one layer stays in float."""
    text = (RECIPE.parents[1] / "yaml/fp8_gaudi.yaml").read_text(encoding="utf-8")
    path = tmp_path / "conf.yaml"
    short = ", ".join(LANGUAGES)
    settings = f"la_aciq:\n  languages: [{short}]\n  gate: {{max_degradation: 20%, min_sentences: 5}}\n"
    text = text.replace("la_aciq:\n", settings).replace("../recipes", str(RECIPE.parent))
    text = text.replace("text/calibration\n", "text/calibration\n    tokens_per_language: 512\n")
    text = text.replace("text/evaluation\n", "text/evaluation\n    tokens_per_language: 1024\n")
    rule = "  op_wise: {'transformer\\.h\\.3\\..*': {weight: {dtype: fp32}}}\n  fp8:\n"
    path.write_text(text.replace("  fp8:\n", rule), encoding="utf-8")
    return path


def test_without_fp8_in_neural_compressor_the_error_says_what_to_install(conf, main, tmp_path):
    if gaudi_fp8_measure.missing() is None:
        pytest.skip("this Neural Compressor has FP8")
    done = main("quantize", conf, "--output", tmp_path / "out")
    assert done.returncode == 1
    assert "FP8 needs the torch API of neural-compressor 3.8 or later, with torchao" in done.stderr
    assert "pip install 'inc-laaciq[torch-api]'" in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.fixture
def output(conf, main, tmp_path):
    if reason := gaudi_fp8_measure.missing():
        pytest.skip(f"no FP8 here: {reason}")
    done = main("quantize", conf, "--output", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    return tmp_path / "out", done


def test_a_run_measures_merges_evaluates_judges_and_writes_what_a_gaudi_takes(output, main, tmp_path):
    folder, done = output
    assert "12 ranges merged by max; FP8 E4M3 on gaudi2, maxabs_pow2" in done.stdout
    assert "17 layers: 12 fp8_e4m3, one scale per tensor; 5 float" in done.stdout
    record = json.loads((folder / "laaciq.json").read_text(encoding="utf-8"))
    assert (record["verdict"], record["mode"], record["reconcile"]) == ("PASS", "fp8", "max")
    assert set(record["languages"]) == set(LANGUAGES)
    assert all(entry["degradation"] != 0 for entry in record["languages"].values())  # something was rounded
    assert record["fp8"]["n_tensors"] == 12
    assert any("no Gaudi took part" in note for note in record["notes"])
    merged = read_measurement(find_dump(folder / "measure"), None)
    dumps = {tag: read_measurement(find_dump(folder / "languages" / tag), None) for tag in LANGUAGES}
    for module, node in merged.nodes.items():
        assert "h.3." not in module
        assert float(node.inputs[0][0, 0]) == max(
            float(found.nodes[module].inputs[0][0, 0]) for found in dumps.values()
        )
    assert not find_dump(folder / "measure").caches()
    written = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    assert any(name.startswith("languages/tr/") for name in written)
    hashes = {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in written.items()}
    assert record["files"] == {name: sha256 for name, sha256 in hashes.items() if name not in REPORTS}

    # Its parts go on to the other commands.
    assert main("gate", folder, "--max-degradation", "20%").returncode == 0
    again = main("merge-measurements", folder / "languages", "-o", tmp_path / "again")
    assert again.returncode == 0, again.stderr
    assert (tmp_path / "again_hooks_maxabs.npz").read_bytes() == (folder / "measure_hooks_maxabs.npz").read_bytes()
    refused = main("evaluate", folder, "-o", tmp_path / "results.json")
    assert (refused.returncode, "holds ranges for FP8, and no weights" in refused.stderr) == (2, True)
    refused = main("pack", folder, "--model", RECIPE / "model", "-o", tmp_path / "packed")
    assert (refused.returncode, "no codes that could be packed" in refused.stderr) == (2, True)


def test_the_plan_speaks_of_fp8(conf, main):
    done = main("plan", conf)
    assert done.returncode == 0, done.stderr
    assert "12 layers" in done.stdout
    assert "FP8 (E4M3), one scale per tensor" in done.stdout


def test_layers_that_neural_compressor_leaves_in_float_are_refused(conf, main, tmp_path):
    """It would measure them in a model whose `Conv1D` are made linear; the model on the Gaudi would have no FP8."""
    tokenizer = AutoTokenizer.from_pretrained(RECIPE / "model")
    settings = GPT2Config(vocab_size=len(tokenizer), n_embd=16, n_layer=1, n_head=2, n_positions=64)
    for part in (GPT2LMHeadModel(settings), tokenizer):
        part.save_pretrained(tmp_path / "gpt2")
    text = conf.read_text(encoding="utf-8").replace(str(RECIPE / "model"), str(tmp_path / "gpt2"))
    conf.write_text(text.replace("transformer\\.h\\.3\\..*", "lm_head"), encoding="utf-8")
    done = main("plan", conf)
    assert done.returncode == 2
    assert (
        "layer 'transformer.h.0.attn.c_attn' is a Conv1D, which Neural Compressor's FP8 leaves as it is" in done.stderr
    )


def test_other_ways_in_refuse_fp8(conf):
    import inc_laaciq
    from inc_laaciq.openvino import export

    with pytest.raises(inc_laaciq.SpecError, match="post_training_fp8_quant"):
        inc_laaciq.load_config(conf)
    with pytest.raises(inc_laaciq.SpecError, match="is for Gaudi, and not for OpenVINO"):
        export(str(RECIPE / "model"), conf.parent / "ov", config=conf)

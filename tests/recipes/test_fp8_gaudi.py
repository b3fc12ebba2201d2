"""The recipe for FP8 on Gaudi, on a CPU: measure, merge, quantize."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from inc_laaciq.backends import gaudi_fp8_measure
from inc_laaciq.backends.gaudi_fp8_files import read_measurement
from inc_laaciq.backends.gaudi_fp8_names import find_dump

pytestmark = [pytest.mark.inc, pytest.mark.filterwarnings("ignore")]

ROOT = Path(__file__).parents[2]
MODEL = ROOT / "recipes/small_bloom/model"


def script(name):
    spec = importlib.util.spec_from_file_location(f"fp8_gaudi_{name}", ROOT / f"recipes/fp8_gaudi/{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("dtype", ["bf16", "fp32"])
def test_measured_merged_and_quantized(dtype, tmp_path, main, capsys, monkeypatch):
    if reason := gaudi_fp8_measure.missing():
        pytest.skip(f"no FP8 here: {reason}")
    texts = tmp_path / "texts"
    texts.mkdir()
    for tag in ("en", "fi", "zh"):
        whole = (ROOT / f"recipes/small_bloom/text/calibration/{tag}.txt").read_text(encoding="utf-8")
        (texts / f"{tag}.txt").write_text(whole[:4000], encoding="utf-8")
    cpu = ("--device", "cpu", "--dtype", dtype)
    script("measure").main([str(MODEL), str(texts), str(tmp_path / "dumps"), *cpu, "--tokens-per-language", "256"])
    assert capsys.readouterr().out == "3 languages measured: en, fi, zh\n"
    done = main("merge-measurements", tmp_path / "dumps", "-o", tmp_path / "measure", "--reconcile", "error")
    assert done.returncode == 0, done.stderr
    assert "16 ranges merged by error" in done.stdout
    monkeypatch.chdir(tmp_path)
    quantized = script("quantize").main(
        [str(MODEL), "measure", *cpu, "--scale-method", "maxabs_arbitrary", "--prompt", "The house"]
    )
    assert capsys.readouterr().out.startswith("The house")
    merged = read_measurement(find_dump(tmp_path / "measure"), None)
    scales = gaudi_fp8_measure.input_scales(quantized)
    assert scales.keys() == merged.nodes.keys()
    tolerance = {"bf16": 2**-7, "fp32": 1e-5}[dtype]  # Neural Compressor computes scales in the model's type
    for name, scale in scales.items():
        assert scale == pytest.approx(merged.nodes[name].inputs[0].item() / 112, rel=tolerance)

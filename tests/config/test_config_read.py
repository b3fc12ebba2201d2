"""Whole configurations, from a file and from Python."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from conftest import Read

import inc_laaciq.config
from inc_laaciq.config import RunSpec, TextSpec, TuningSpec, WeightSpec, read_config, run_spec
from inc_laaciq.errors import SpecError

BRIEF = (
    "{model: {name: x, framework: pytorch}, quantization: {approach: post_training_weight_only, "
    "model_wise: {weight: {bits: 4, group_size: 64, scheme: sym}}}, tuning: {strategy: {name: la_aciq}}, "
    "la_aciq: {mode: balanced, calibration: {texts: DIR, tokens_per_language: 4096, seed: 0}, "
    "evaluation: {texts: DIR}}}"
)


def test_short_configuration_loads_as_it_is(read: Read, tmp_path: Path) -> None:
    spec = read(BRIEF)
    assert spec.name == "x"
    assert spec.weight == WeightSpec(bits=4, group_size=64, scheme="sym")
    assert spec.la_aciq.calibration == TextSpec(texts=str(tmp_path / "DIR"), tokens_per_language=4096, seed=0)
    assert spec.la_aciq.evaluation == TextSpec(texts=str(tmp_path / "DIR"))
    assert spec.notes == ()
    assert (spec.source, spec.folder, spec.text) == (tmp_path / "conf.yaml", tmp_path, BRIEF)
    assert spec.lines["quantization.model_wise.weight.bits"] == 1


def test_python_and_file_give_the_same(read: Read, tmp_path: Path) -> None:
    settings = yaml.safe_load(BRIEF)
    from_file, from_python = read(BRIEF), run_spec(settings, folder=tmp_path)
    assert from_python == from_file
    assert from_python.digest == from_file.digest
    assert (from_python.source, from_python.lines) == (None, {})
    assert json.loads(from_python.text) == settings
    assert settings == yaml.safe_load(BRIEF)


def test_sections_replace_those_of_the_mapping(tmp_path: Path) -> None:
    spec = run_spec({"strategy": "la_aciq", "la_aciq": {"mode": "fast"}}, la_aciq={"damping": 0.5}, folder=tmp_path)
    assert (spec.la_aciq.mode, spec.la_aciq.damping) == ("balanced", 0.5)
    assert run_spec() == RunSpec()


def test_python_paths_are_relative_to_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    spec = run_spec(la_aciq={"calibration": {"texts": Path("cal")}, "languages": ("en", "sw")})
    assert spec.la_aciq.calibration == TextSpec(texts=str(tmp_path / "cal"))
    assert spec.la_aciq.languages == ("en", "sw")


def _cycle() -> dict[str, object]:
    settings: dict[str, object] = {}
    settings["la_aciq"] = settings
    return settings


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"la_aciq": {"langauges": []}}, "^la_aciq.langauges is not a known key in la_aciq. Did you mean 'languages'"),
        ({"la_aciq": {"mode": "quick"}}, "^la_aciq.mode='quick' is not known"),
        ({"la_aciq": {False: 1}}, "^configuration: key False at la_aciq is not text"),
        ({False: 1}, "^configuration: key False at the top is not text"),
        ({"la_aciq": {"languages": [False]}}, r"la_aciq.languages\[0\] is the boolean false, not a language"),
        ({"la_aciq": {"damping": {1, 2}}}, "^configuration: la_aciq.damping is of type set"),
        ({"la_aciq": {"damping": 1 + 0j}}, "is of type complex"),
        ({"la_aciq": {"model": b"x"}}, "is of type bytes"),
        ({"la_aciq": {"model": "\ud800"}}, "la_aciq.model holds a lone surrogate"),
        ({"la_aciq": {"model": "a\0b"}}, "is empty or holds a NUL character"),
        ({"la_aciq": {"damping": 10**100}}, "^configuration: la_aciq.damping is a number of more than 100 digits"),
        (
            {"la_aciq": {"gate": {"max_degradation": -(10**5000)}}},
            "max_degradation is a number of more than 100 digits",
        ),
        (_cycle(), "^configuration: has nested deeper than 50"),
        ({"la_aciq": {"languages": ["en"] * 20_000}}, "^configuration: has more than 10000 values"),
        (["la_aciq"], "^configuration: must be a mapping of keys to values, not list"),
        (
            {"la_aciq": {"weights": {"en": 1}, "reconcile": {"weights": {"en": 1}}}},
            "^la_aciq.reconcile.weights contradicts la_aciq.weights: keep one of them",
        ),
    ],
)
def test_wrong_settings_from_python_are_refused(settings: object, reason: str) -> None:
    with pytest.raises(SpecError, match=reason):
        run_spec(settings)  # type: ignore[arg-type]


def test_plain_data_is_the_same_in_every_folder(tmp_path: Path) -> None:
    text = """
quantization: {op_wise: {/abs/pattern: {weight: {dtype: fp32}}}}
la_aciq:
  model: ./model
  weights: {sw: 2, en: 1}
  calibration: {texts: ../text}
  evaluation: {texts: {path: ./data, split: test}}
  gate: {max_degradation: 2.50%, max_disparity: 0.02npb}
"""
    found = []
    for name in ("one", "two/deeper"):
        folder = tmp_path / name
        folder.mkdir(parents=True)
        (folder / "conf.yaml").write_text(text)
        found.append(read_config(folder / "conf.yaml"))
    first, second = found
    assert first != second
    assert json.dumps(first.as_dict()) == json.dumps(second.as_dict())
    assert first.digest == second.digest
    plain = first.as_dict()
    assert plain["model"] == "model"
    assert plain["rules"] == [{"pattern": "/abs/pattern", "weight": None}]
    assert plain["la_aciq"]["calibration"]["texts"] == "../text"
    assert plain["la_aciq"]["evaluation"]["texts"] == {"path": "data", "split": "test"}
    assert plain["la_aciq"]["gate"] == {
        "max_degradation": "2.5%",
        "max_disparity": "0.02npb",
        "confidence": 0.95,
        "min_sentences": 30,
        "inconclusive": "warn",
        "not_run": "fail",
    }
    assert list(plain["la_aciq"]["weights"]) == ["en", "sw"]
    assert str(tmp_path) not in json.dumps(plain)


def test_digest_tells_settings_apart_and_nothing_else() -> None:
    base = run_spec(la_aciq={"mode": "fast"})
    assert base.digest == run_spec(la_aciq={"mode": "fast"}, device="cpu").digest
    assert base.digest != run_spec(la_aciq={"mode": "balanced"}).digest
    assert base.digest != run_spec(la_aciq={"mode": "fast"}, model={"name": "other"}).digest
    # Pinned: a digest that changes between versions would make a resumed run look like another one.
    assert RunSpec().digest == "a616bb71e2df9245d2c0a8d5b6cb97be91ac551635394a323d727535f22ef9bd"


def test_spec_can_be_copied_as_inc_does(read: Read) -> None:
    spec = read(BRIEF)
    assert copy.deepcopy(spec) == spec


def test_wrong_run_cannot_be_made() -> None:
    with pytest.raises(SpecError, match=r"RunSpec\.approach='dynamic' is not known"):
        RunSpec(approach="dynamic")  # type: ignore[arg-type]
    with pytest.raises(SpecError, match=r"TuningSpec\.max_trials=0 is out of range"):
        TuningSpec(max_trials=0)


def test_behind_an_alias_the_line_of_the_alias_is_named(read: Read) -> None:
    text = "quantization:\n  model_wise: &a {weight: {bits: 4}}\n  op_wise:\n    h: *a\n    k: &b {weight: {bits: 9}}\n"
    with pytest.raises(SpecError, match=r"conf\.yaml:5: quantization\.op_wise\.k\.weight\.bits=9"):
        read(text)
    text = "tuning:\n  workspace: &a {texts: x, seed: -1}\nla_aciq:\n  calibration: *a\n"
    with pytest.raises(SpecError, match=r"conf\.yaml:4: la_aciq\.calibration\.seed=-1"):
        read(text)


def test_public_names() -> None:
    assert sorted(inc_laaciq.config.__all__) == inc_laaciq.config.__all__
    assert all(hasattr(inc_laaciq.config, name) for name in inc_laaciq.config.__all__)


def test_nothing_heavy_is_imported() -> None:
    code = (
        "import sys, inc_laaciq.config;"
        "print(sorted({'torch', 'transformers', 'scipy', 'numpy', 'datasets', 'langcodes'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"

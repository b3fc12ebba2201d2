"""Every file in yaml/ loads, does what its name says, and annotated.yaml names every key."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from inc_laaciq.config import fp8, inc, laaciq, leaves, policy_file, quantization, read_config, read_policy, texts
from inc_laaciq.config.section import Keys
from inc_laaciq.config.specs import Fp8Spec

FOLDER = Path(__file__).parents[2] / "yaml"
RECIPE = FOLDER.parent / "recipes" / "small_bloom"


@pytest.mark.parametrize(
    ("name", "bits", "group_size", "scheme", "mode"),
    [
        ("w3g64_gate.yaml", 3, 64, "sym", "balanced"),
        ("w4g64_asym.yaml", 4, 64, "asym", "balanced"),
        ("w4g64_fair.yaml", 4, 64, "sym", "fair"),
        ("w4g64_fast.yaml", 4, 64, "sym", "fast"),
        ("w4g64_sym.yaml", 4, 64, "sym", "balanced"),
        ("w8_sym.yaml", 8, -1, "sym", "balanced"),
        ("w8a8_static.yaml", 8, -1, "sym", "balanced"),
    ],
)
def test_preset_does_what_its_name_says(name: str, bits: int, group_size: int, scheme: str, mode: str) -> None:
    spec = read_config(FOLDER / name)
    assert (spec.weight.bits, spec.weight.group_size, spec.weight.scheme) == (bits, group_size, scheme)
    assert spec.la_aciq.mode == mode
    assert (spec.approach == "post_training_static_quant") == ("a8" in name)
    assert (spec.la_aciq.gate is not None) == ("gate" in name)
    assert spec.notes == ()
    assert spec.model == str(RECIPE / "model")
    assert spec.la_aciq.calibration is not None
    assert spec.la_aciq.evaluation is not None
    assert spec.la_aciq.calibration.texts == str(RECIPE / "text" / "calibration")
    assert spec.la_aciq.evaluation.texts == str(RECIPE / "text" / "evaluation")


def test_fp8_preset_has_ranges_and_no_codes() -> None:
    spec = read_config(FOLDER / "fp8_gaudi.yaml")
    assert (spec.approach, spec.fp8) == ("post_training_fp8_quant", Fp8Spec())
    assert (spec.weight.dtype, spec.rules, spec.notes) == ("fp8_e4m3", (), ())
    assert spec.model == str(RECIPE / "model")


def test_annotated_loads() -> None:
    spec = read_config(FOLDER / "annotated.yaml")
    assert [rule.weight and rule.weight.bits for rule in spec.rules] == [8, None]
    assert spec.la_aciq.languages == ("en", "sw", "no", "zh-Hant")


def test_policy_preset_names_every_key_and_loads() -> None:
    path = FOLDER / "gate_policy.yaml"
    policy = read_policy(path)
    assert policy.notes == ()
    assert [group.name for group in policy.groups] == ["right-to-left", "low-resource"]
    assert str(policy.languages["no"].max_degradation) == "6%"
    text = path.read_text(encoding="utf-8")
    sections = [value for value in vars(policy_file).values() if isinstance(value, Keys)]
    assert {key for section in sections for key in section.used if not re.search(rf"\b{key}:", text)} == set()


def test_annotated_names_every_key() -> None:
    text = (FOLDER / "annotated.yaml").read_text(encoding="utf-8")
    modules = (fp8, inc, laaciq, leaves, policy_file, quantization, texts)
    sections = [value for module in modules for value in vars(module).values() if isinstance(value, Keys)]
    assert len(sections) > 15
    used = {key for section in sections for key in section.used}
    missing = {key for key in used if not re.search(rf"\b{key}\b", text)}
    assert missing == set()


def test_annotated_shows_the_defaults() -> None:
    spec, default = read_config(FOLDER / "annotated.yaml"), read_config(FOLDER / "w4g64_sym.yaml")
    assert spec.tuning == default.tuning
    for field in ("mode", "signed", "scaling", "damping", "refine", "lm_head", "nan", "strict_lid", "calibration"):
        assert getattr(spec.la_aciq, field) == getattr(default.la_aciq, field)

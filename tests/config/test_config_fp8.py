"""The approach `post_training_fp8_quant` in a configuration."""

from __future__ import annotations

import pytest

from inc_laaciq.config import OpRule, read_config, run_spec
from inc_laaciq.config.specs import Fp8Spec
from inc_laaciq.errors import SpecError

FP8 = """\
quantization:
  approach: post_training_fp8_quant
{quantization}
la_aciq:
  calibration: {{texts: calibration}}
{la_aciq}
"""


def read(tmp_path, quantization="", la_aciq="", text=FP8):
    path = tmp_path / "fp8.yaml"
    path.write_text("strategy: la_aciq\n" + text.format(quantization=quantization, la_aciq=la_aciq), encoding="utf-8")
    return read_config(path)


def test_defaults(tmp_path):
    spec = read(tmp_path)
    assert spec.fp8 == Fp8Spec(scale_method="maxabs_pow2", reconcile="max", device="gaudi2")
    assert (spec.weight.dtype, spec.weight.bits, spec.weight.group_size) == ("fp8_e4m3", 8, -1)
    assert (spec.la_aciq.scaling, spec.la_aciq.signed, spec.rules) == (False, False, ())


def test_every_key_and_layers_in_float(tmp_path):
    quantization = (
        "  fp8: {scale_method: maxabs_arbitrary, reconcile: error, device: gaudi3}\n"
        "  op_wise: {'.*down_proj': {weight: {dtype: fp32}, activation: {dtype: fp32}}}"
    )
    spec = read(tmp_path, quantization)
    assert spec.fp8 == Fp8Spec(scale_method="maxabs_arbitrary", reconcile="error", device="gaudi3")
    assert spec.rules == (OpRule(pattern=".*down_proj", weight=None),)
    plain = spec.as_dict()
    assert plain["fp8"] == {"scale_method": "maxabs_arbitrary", "reconcile": "error", "device": "gaudi3"}
    assert plain["activation"] is None


def test_other_approaches_keep_their_digest():
    """What they hold says nothing of FP8, so it is the same as before there was any."""
    assert "fp8" not in run_spec().as_dict()
    assert run_spec(quantization={"approach": "weight_only"}).digest == run_spec().digest


def test_the_short_name(tmp_path):
    assert run_spec(quantization={"approach": "fp8"}, la_aciq={"calibration": {"texts": "t"}}).fp8 == Fp8Spec()


@pytest.mark.parametrize(
    ("quantization", "la_aciq", "why"),
    [
        ("  fp8: {scale_method: maxabs_hw}", "", r"fp8\.yaml:4: .*maxabs_hw.* it does not run on a CPU"),
        ("  fp8: {scale_method: maxabs}", "", "Allowed|one of"),
        ("  fp8: {reconcile: natural}", "", "natural"),
        ("  fp8: {backoff: 0.5}", "", r"fp8\.yaml:4: quantization\.fp8\.backoff is not a known key"),
        ("  model_wise: {weight: {bits: 8}}", "", "model_wise is not possible with post_training_fp8_quant"),
        ("  op_wise: {'.*': {weight: {bits: 8}}}", "", r"can only leave layers in float .* weight: \{dtype: fp32\}"),
        ("", "  mode: fair", r"fp8\.yaml:7: la_aciq\.mode has no meaning with post_training_fp8_quant"),
        ("", "  reconcile: minimax", "la_aciq.reconcile has no meaning .* see quantization.fp8"),
        ("", "  weights: {sw: 2.0}", "la_aciq.weights has no meaning"),
        ("", "  range_reconcile: mean", "la_aciq.range_reconcile has no meaning .* see quantization.fp8"),
    ],
)
def test_what_says_nothing_about_fp8_is_refused(quantization, la_aciq, why, tmp_path):
    with pytest.raises(SpecError, match=why):
        read(tmp_path, quantization, la_aciq)


def test_text_is_needed(tmp_path):
    text = "quantization:\n  approach: post_training_fp8_quant\nla_aciq: {{lm_head: false}}\n"
    with pytest.raises(SpecError, match=r"la_aciq\.calibration is needed: FP8 ranges are measured on it"):
        read(tmp_path, text=text)


def test_fp8_settings_belong_to_fp8(tmp_path):
    text = "quantization:\n  fp8: {{reconcile: max}}\n"
    with pytest.raises(SpecError, match=r"quantization\.fp8 belongs to approach: post_training_fp8_quant"):
        read(tmp_path, text=text)

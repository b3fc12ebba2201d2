"""Rows 8 and 9 of the table of faults: how finely weights and activations are quantized."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from conftest import Read, Refused

from inc_laaciq.config import ActivationSpec, OpRule, WeightSpec, run_spec
from inc_laaciq.errors import SpecError


def _weight(leaf: str, approach: str = "post_training_weight_only") -> str:
    return f"quantization:\n  approach: {approach}\n  model_wise:\n    weight:\n" + "".join(
        f"      {line}\n" for line in leaf.split("; ")
    )


@pytest.mark.parametrize(
    ("leaf", "expected"),
    [
        ("{}", WeightSpec(bits=4, group_size=32, scheme="sym")),
        ("bits: 3", WeightSpec(bits=3)),
        ("bit: [4]; group_size: [64]; scheme: [asym]; dtype: [int]", WeightSpec(group_size=64, scheme="asym")),
        ("bits: [8]; granularity: [per_channel]", WeightSpec(bits=8, group_size=-1)),
        ("granularity: per_channel; group_size: -1", WeightSpec(group_size=-1)),
        ("dtype: int3", WeightSpec(bits=3)),
        ("dtype: int8; bits: 8", WeightSpec(bits=8)),
        ("scheme: asym; zero_point: true", WeightSpec(scheme="asym")),
        ("zero_point: false", WeightSpec()),
        ("algorithm: la_aciq; group_size: 8", WeightSpec(group_size=8)),
        ("group_size: 100", WeightSpec(group_size=100)),
    ],
)
def test_old_and_new_spellings_of_weights(read: Read, leaf: str, expected: WeightSpec) -> None:
    assert read(_weight(leaf)).weight == expected


@pytest.mark.parametrize(
    ("leaf", "reason"),
    [
        ("bits: 0", "bits=0 is out of range. Allowed: 2..8."),
        ("bits: 1", "bits=1 is out of range. Allowed: 2..8."),
        ("bits: 9", "bits=9 is out of range. Allowed: 2..8."),
        ("bits: -4", "bits=-4 is out of range. Allowed: 2..8."),
        ("bits: '4'", "bits='4' is text, not a whole number. Write one of 2..8, without quotes."),
        ("bits: 4.0", "bits=4.0 is a decimal number, not a whole number. Write one of 2..8, without quotes."),
        ("bits: true", "bits=True is a boolean, not a whole number. Write one of 2..8, without quotes."),
        ("bits:", "bits=None is empty, not a whole number. Write one of 2..8, without quotes."),
        ("bits: {a: 1}", "bits is a mapping, not a whole number. Write one of 2..8, without quotes."),
        ("bits: [4, 8]", "bits=[4, 8] gives several choices or none."),
        ("bits: []", "bits=[] gives several choices or none."),
        ("dtype: int8, fp32", "dtype='int8, fp32' gives several choices or none."),
        ("bit: [7.0]", "bit=[7.0] is a decimal number, not a whole number."),
        ("group_size: 0", "group_size=0 is out of range. Allowed: -1 for one scale per channel, or 8 or more"),
        ("group_size: 7", "group_size=7 is out of range."),
        ("group_size: -4", "group_size=-4 is out of range."),
        ("group_size: '64'", "group_size='64' is text, not a whole number. Write -1 or a number of 8 or more"),
        ("group_size: true", "group_size=True is a boolean, not a whole number."),
        ("scheme: symm", "scheme='symm' is not known. Did you mean 'sym'? Allowed: sym, asym."),
        ("dtype: nf4", "dtype='nf4' is not possible here: only integer grids are solved."),
        ("dtype: uint8", "dtype='uint8' is not possible here: write the int type, and scheme: asym."),
        ("dtype: int9", "dtype='int9' is not known."),
        ("granularity: per_tensor", "granularity='per_tensor' is not possible here: one scale for a whole matrix"),
        ("algorithm: GPTQ", "algorithm='GPTQ' is not possible here: it is another algorithm; la_aciq solves"),
        ("enable_mse_search: true", "enable_mse_search is refused: it is another algorithm"),
        ("dtype: fp32", "dtype='fp32' leaves every layer in float. To leave some layers out, write op_wise rules."),
    ],
)
def test_row_08_impossible_width_or_group_is_refused(refused: Refused, leaf: str, reason: str) -> None:
    assert refused(_weight(leaf)).startswith(f"conf.yaml:5: quantization.model_wise.weight.{reason}")


@pytest.mark.parametrize(
    ("leaf", "lines"),
    [
        ("scheme: sym; zero_point: true", ("zero_point=True", "scheme='sym'")),
        ("scheme: asym; zero_point: false", ("zero_point=False", "scheme='asym'")),
        ("bits: 4; dtype: int8", ("dtype='int8'", "bits=4")),
        ("group_size: 64; granularity: per_channel", ("granularity='per_channel'", "group_size=64")),
        ("bits: 4; bit: [8]", ("bit=[8]", "bits=4")),
        ("dtype: fp32; bits: 4", ("bits=4", "dtype='fp32'")),
    ],
)
def test_row_09_contradiction_names_both_lines(refused: Refused, leaf: str, lines: tuple[str, str]) -> None:
    path = "quantization.model_wise.weight."
    message = refused(_weight(leaf))
    one, other = (5, 6) if leaf.split("; ")[0].startswith(lines[0].split("=")[0] + ":") else (6, 5)
    assert message.startswith(f"conf.yaml:{one}: {path}{lines[0]} contradicts line {other}: {path}{lines[1]}: ")


def test_row_09_zero_point_against_the_default_scheme(refused: Refused) -> None:
    assert "zero_point=True contradicts the scheme, which is sym here" in refused(_weight("zero_point: true"))


def test_weights_of_all_linear_layers_by_type(read: Read) -> None:
    text = "quantization:\n  optype_wise: {Linear: {weight: {bits: 8}}, Conv2d: {weight: {dtype: [fp32]}}}\n"
    spec = read(text)
    assert spec.weight.bits == 8
    assert "optype_wise.Conv2d has no effect here: only Linear layers are quantized." in spec.notes[-1]
    assert read("quantization: {optype_wise: {'.*': {weight: {bits: 2}}}}").weight.bits == 2


def test_row_09_weights_by_type_and_for_the_model(refused: Refused) -> None:
    text = "quantization:\n  model_wise: {weight: {bits: 4}}\n  optype_wise:\n    Linear: {weight: {bits: 8}}\n"
    message = refused(text)
    assert message.startswith(
        "conf.yaml:4: quantization.optype_wise.Linear contradicts line 2: quantization.model_wise"
    )


def test_other_type_is_refused(refused: Refused) -> None:
    text = "quantization: {optype_wise: {Embedding: {weight: {bits: 8}}}}"
    assert "optype_wise.Embedding is a type that la_aciq does not quantize. Allowed: 'Linear' or '.*'" in refused(text)


def test_rules_for_single_layers(read: Read) -> None:
    text = r"""
quantization:
  model_wise: {weight: {bits: 4, group_size: 64, scheme: asym}}
  op_wise:
    'h\.0\..*': {weight: {bits: 8}}
    lm_head: {weight: {dtype: [fp32]}, activation: {dtype: [fp32]}}
"""
    first, second = read(text).rules
    assert first == OpRule(pattern=r"h\.0\..*", weight=WeightSpec(bits=8, group_size=64, scheme="asym"))
    assert second == OpRule(pattern="lm_head", weight=None)


@pytest.mark.parametrize(
    ("rule", "reason"),
    [
        ("'h[': {weight: {bits: 8}}", "op_wise['h['] is not a regular expression: unterminated character set"),
        ("'[[a]]': {weight: {bits: 8}}", "op_wise['[[a]]'] is not a regular expression: Possible nested set"),
        ("'a{9999999999999}': {weight: {bits: 8}}", "is not a regular expression"),
        ("'': {weight: {bits: 8}}", "op_wise[''] is empty or holds a NUL character"),
        ("h: {}", "op_wise.h says nothing"),
        ("h:", "op_wise.h says nothing"),
        ("h: 8", "op_wise.h=8 must be a mapping"),
        ("h: {bits: 8}", "op_wise.h.bits is not a known key in quantization.op_wise.h"),
        ("h: {weight: {bits: 9}}", "op_wise.h.weight.bits=9 is out of range"),
        ("h: {activation: {dtype: int8}}", "activation.dtype='int8' is not possible with post_training_weight_only"),
        ("default_qconfig: {weight: {dtype: fp32}}", "op_wise.default_qconfig is refused"),
    ],
)
def test_wrong_rule_is_refused_with_its_line(refused: Refused, rule: str, reason: str) -> None:
    message = refused(f"quantization:\n  op_wise:\n    {rule}\n")
    assert message.startswith("conf.yaml:3: quantization.op_wise")
    assert reason in message


def test_rule_nested_too_deep_for_python_is_refused() -> None:
    with pytest.raises(SpecError, match="is not a regular expression: maximum recursion depth"):
        OpRule(pattern="(" * 5000 + ")" * 5000, weight=None)


def test_plain_rounding_is_noted(read: Read) -> None:
    notes = read(_weight("algorithm: [RTN]")).notes
    assert notes[-1].endswith("algorithm has no effect here: la_aciq solves the weights itself, as la_aciq.mode says.")


def test_activations_stay_in_float_with_weights_only(read: Read, refused: Refused) -> None:
    text = "quantization:\n  model_wise:\n    activation: {%s}\n"
    assert read(text % "dtype: [fp32]").as_dict()["activation"] is None
    assert "activation.dtype='int8' is not possible with post_training_weight_only" in refused(text % "dtype: int8")
    assert "activation.scheme='sym' is not possible with" in refused(text % "scheme: sym")


def _static(leaf: str, part: str = "activation") -> str:
    return f"quantization:\n  approach: post_training_static_quant\n  model_wise:\n    {part}: {{{leaf}}}\n"


def test_static_defaults(read: Read) -> None:
    spec = read("quantization: {approach: post_training_static_quant}")
    assert spec.weight == WeightSpec(bits=8, group_size=-1, scheme="sym")
    assert spec.activation == ActivationSpec(bits=8, scheme="asym", algorithm="la_aciq")
    assert spec.as_dict()["activation"] == {"bits": 8, "scheme": "asym", "algorithm": "la_aciq", "reconcile": "error"}
    assert not spec.la_aciq.signed
    assert run_spec(quantization={"approach": "static"}) == spec


def test_static_activation_is_read(read: Read) -> None:
    leaf = "dtype: [uint8], scheme: [sym], granularity: [per_tensor], algorithm: [kl], bits: 8"
    assert read(_static(leaf)).activation == ActivationSpec(scheme="sym", algorithm="kl")


@pytest.mark.parametrize(
    ("part", "leaf", "reason"),
    [
        ("activation", "bits: 4", "activation.bits=4 is out of range. Allowed: 8..8."),
        ("activation", "dtype: fp32", "activation.dtype='fp32' leaves activations in float"),
        ("activation", "granularity: per_channel", "'per_channel' is not possible here: a static range holds for"),
        ("activation", "algorithm: percentile", "algorithm='percentile' is not known. Allowed: la_aciq, minmax, kl."),
        ("weight", "bits: 4", "weight.bits=4 is not possible with post_training_static_quant, which has 8 bits"),
        ("weight", "dtype: int4", "weight.dtype='int4' is not possible with post_training_static_quant"),
        ("weight", "group_size: 64", "group_size=64 is not possible with post_training_static_quant: its scales are"),
        (
            "weight",
            "scheme: asym",
            "scheme='asym' is not possible with post_training_static_quant: its weights are sym",
        ),
    ],
)
def test_static_limits(refused: Refused, part: str, leaf: str, reason: str) -> None:
    message = refused(_static(leaf, part))
    assert message.startswith("conf.yaml:4: ")
    assert reason in message


def test_static_rules(read: Read, refused: Refused) -> None:
    head = "quantization:\n  approach: post_training_static_quant\n  op_wise:\n"
    spec = read(
        head + "    a: {activation: {dtype: fp32}}\n    b: {weight: {dtype: fp32}}\n    c: {weight: {bits: 8}}\n"
    )
    assert [rule.weight is None for rule in spec.rules] == [True, True, False]
    mixed = refused(head + "    a: {weight: {dtype: fp32}, activation: {dtype: int8}}\n")
    assert "activation.dtype='int8' contradicts line 4: quantization.op_wise.a.weight.dtype='fp32'" in mixed
    mixed = refused(head + "    a: {weight: {bits: 8}, activation: {dtype: fp32}}\n")
    assert "activation.dtype='fp32' contradicts line 4: quantization.op_wise.a.weight: a static layer" in mixed
    single = refused(head + "    a: {activation: {scheme: sym}}\n")
    assert "activation.scheme='sym' is not possible for single layers" in single


@pytest.mark.parametrize(
    ("make", "settings", "reason"),
    [
        (WeightSpec, {"bits": 9}, r"^WeightSpec.bits=9 is out of range. Allowed: 2..8."),
        (WeightSpec, {"bits": True}, r"WeightSpec.bits=True is a boolean"),
        (WeightSpec, {"group_size": 7}, r"WeightSpec.group_size=7 is out of range"),
        (WeightSpec, {"scheme": "both"}, r"WeightSpec.scheme='both' is not known"),
        (WeightSpec, {"dtype": "fp32"}, r"WeightSpec.dtype='fp32' is not possible here: .*OpRule\(weight=None\)"),
        (ActivationSpec, {"bits": 4}, r"ActivationSpec.bits=4 is out of range"),
        (OpRule, {"pattern": "(", "weight": None}, r"OpRule.pattern='\(' is not a regular expression"),
    ],
)
def test_row_08_wrong_spec_cannot_be_made(make: Callable[..., object], settings: dict[str, Any], reason: str) -> None:
    with pytest.raises(SpecError, match=reason):
        make(**settings)

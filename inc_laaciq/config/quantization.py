"""The `quantization:` section: what is quantized, and which layers are exceptions."""

from __future__ import annotations

from dataclasses import dataclass

from inc_laaciq.config import checks
from inc_laaciq.config.fp8 import FP8_WEIGHT, read_float_rules, read_fp8
from inc_laaciq.config.leaves import (
    ACTIVATION_KEYS,
    LEAF_KEYS,
    OTHER_ALGORITHM,
    WEIGHT_KEYS,
    is_float,
    read_activation,
    read_activation_dtype,
    read_static_weight,
    read_weight,
)
from inc_laaciq.config.section import Keys, Section
from inc_laaciq.config.specs import APPROACHES, ActivationSpec, Approach, Fp8Spec, OpRule, WeightSpec
from inc_laaciq.errors import SpecError

_OTHER_CALIBRATION = "the text comes from la_aciq.calibration"
_KEYS = Keys(
    used=("approach", "model_wise", "optype_wise", "op_wise", "recipes", "calibration", "fp8"),
    ignored={
        "advance": "the solver decides about bias correction",
        "quant_level": "la_aciq always runs at level 1, because INC replaces the strategy at any other",
    },
    refused={
        "train": "la_aciq quantizes after training; remove the key",
        "dtype": "write it under model_wise.weight",
    },
)
_CALIBRATION_KEYS = Keys(used=(), ignored={"sampling_size": _OTHER_CALIBRATION, "dataloader": _OTHER_CALIBRATION})
_GRAPH = "it concerns graphs of other frameworks than PyTorch, or operators other than Linear"
_RECIPE_KEYS = Keys(
    used=("smooth_quant", "layer_wise_quant"),
    ignored={
        **dict.fromkeys(
            (
                "scale_propagation_max_pooling",
                "scale_propagation_concat",
                "first_conv_or_matmul_quantization",
                "last_conv_or_matmul_quantization",
                "pre_post_process_quantization",
                "ffn_matmul_quantization",
                "gemm_to_matmul",
                "graph_optimization_level",
                "add_qdq_pair_to_weight",
                "optypes_to_exclude_output_quant",
                "dedicated_qdq_pair",
            ),
            _GRAPH,
        ),
        "fast_bias_correction": "the solver decides about bias correction",
        "weight_correction": "the solver decides about weight correction",
        "rtn_args": "la_aciq solves the weights itself",
    },
    refused=dict.fromkeys(
        ("smooth_quant_args", "layer_wise_quant_args", "awq_args", "gptq_args", "teq_args", "autoround_args"),
        OTHER_ALGORITHM,
    ),
)

_SHORT_APPROACHES = {"weight_only": APPROACHES[0], "static": APPROACHES[1], "fp8": APPROACHES[2]}
_DYNAMIC = "ranges of dynamic activations are not solved ahead; use post_training_static_quant"
_OTHER_APPROACHES = {
    "post_training_dynamic_quant": _DYNAMIC,
    "dynamic": _DYNAMIC,
    "quant_aware_training": "la_aciq quantizes after training; use post_training_weight_only",
    "post_training_auto_quant": "the approach must be chosen; use post_training_weight_only",
}
ALL_LINEAR = ("Linear", ".*")
_WHOLE_LAYER = "a static layer is quantized as a whole or not at all"


@dataclass(frozen=True, kw_only=True)
class Quantization:
    """What the section says."""

    approach: Approach
    weight: WeightSpec
    activation: ActivationSpec
    rules: tuple[OpRule, ...]
    fp8: Fp8Spec | None = None


def read_quantization(root: Section) -> Quantization:
    """Read the `quantization:` section.

    Raises
    ------
    SpecError
        With file and line, about the first thing that is wrong.
    """
    section = root.child("quantization", _KEYS)
    approach = _read_approach(section)
    section.child("calibration", _CALIBRATION_KEYS)
    _read_recipes(section)
    fp8 = read_fp8(section, approach)
    if fp8 is not None:
        rules = read_float_rules(section)
        return Quantization(approach=approach, weight=FP8_WEIGHT, activation=ActivationSpec(), rules=rules, fp8=fp8)

    static = approach == "post_training_static_quant"
    leaf = _leaf_of_all(section)
    weights = leaf.child("weight", WEIGHT_KEYS)
    if static:
        weight = read_static_weight(weights, WeightSpec(bits=8, group_size=-1))
    else:
        weight = read_weight(weights, WeightSpec())
    if weight is None:
        raise weights.error("dtype", "leaves every layer in float. To leave some layers out, write op_wise rules.")
    activations = leaf.child("activation", ACTIVATION_KEYS)
    return Quantization(
        approach=approach,
        weight=weight,
        activation=read_activation(activations) if static else _no_activation(activations),
        rules=_read_rules(section, weight, static),
    )


def _read_approach(section: Section) -> Approach:
    if "approach" not in section:
        section.note("approach", f"is not given: {APPROACHES[0]} is taken (INC's own default is {APPROACHES[1]}).")
        return APPROACHES[0]
    if short := _SHORT_APPROACHES.get(str(section.data["approach"])):
        return short
    return section.take("approach", checks.word(APPROACHES, refused=_OTHER_APPROACHES), APPROACHES[0])


def _read_recipes(section: Section) -> None:
    recipes = section.child("recipes", _RECIPE_KEYS)
    for key in ("smooth_quant", "layer_wise_quant"):
        if recipes.take(key, checks.boolean, False):
            raise recipes.error(key, f"is not possible here: {OTHER_ALGORITHM}.")


def _leaf_of_all(section: Section) -> Section:
    """Leaf that holds for every Linear layer: `model_wise`, or the entry of `optype_wise` that means the same."""
    found = section.child("model_wise", LEAF_KEYS)
    owner, key = section, "model_wise"
    types = section.child("optype_wise", None)
    for name in types.data:
        leaf = types.child(name, LEAF_KEYS)
        if name in ALL_LINEAR:
            if found.data:
                raise types.conflict(name, owner, key, "both set all Linear layers; keep one")
            found, owner, key = leaf, types, name
        elif is_float(leaf):
            types.note(name, "has no effect here: only Linear layers are quantized.")
        else:
            allowed = " or ".join(repr(known) for known in ALL_LINEAR)
            reason = f"is a type that la_aciq does not quantize. Allowed: {allowed}."
            raise types.error(name, reason, with_value=False)
    return found


def _no_activation(leaf: Section) -> ActivationSpec:
    """Refuse an `activation:` leaf that says more than what is so with weights alone: activations stay in float."""
    for key in leaf.data:
        if key != "dtype" or read_activation_dtype(leaf) != "fp32":
            raise leaf.error(key, "is not possible with post_training_weight_only: activations stay in fp32.")
    return ActivationSpec()


def _read_rules(section: Section, base: WeightSpec, static: bool) -> tuple[OpRule, ...]:
    """Read `op_wise`: one rule per pattern, in the order of the file."""
    patterns = section.child("op_wise", None)
    rules: list[OpRule] = []
    for name in patterns.data:
        leaf = patterns.child(name, LEAF_KEYS)
        if name == "default_qconfig":
            reason = "is refused: write a pattern for the layers that stay in float."
            raise patterns.error(name, reason, with_value=False)
        if not leaf.data:
            raise patterns.error(name, "says nothing. Write weight: {...}, or remove it.", with_value=False)
        try:
            checks.pattern(checks.text(name))
        except SpecError as error:
            raise patterns.error(name, str(error), with_value=False) from None
        weight = _read_static_rule(leaf, base) if static else _read_weight_only_rule(leaf, base)
        rules.append(OpRule(pattern=name, weight=weight))
    return tuple(rules)


def _read_weight_only_rule(leaf: Section, base: WeightSpec) -> WeightSpec | None:
    _no_activation(leaf.child("activation", ACTIVATION_KEYS))
    return read_weight(leaf.child("weight", WEIGHT_KEYS), base)


def _read_static_rule(leaf: Section, base: WeightSpec) -> WeightSpec | None:
    weights = leaf.child("weight", WEIGHT_KEYS)
    activations = leaf.child("activation", ACTIVATION_KEYS)
    weight = read_static_weight(weights, base)
    dtype = read_activation_dtype(activations)
    for key in activations.data:
        if key != "dtype":
            raise activations.error(key, "is not possible for single layers: activations have one setting for all.")
    if weight is None and dtype not in (None, "fp32"):
        raise activations.conflict("dtype", weights, "dtype", _WHOLE_LAYER)
    if dtype == "fp32" and weight is not None and weights.data:
        raise activations.conflict("dtype", leaf, "weight", _WHOLE_LAYER)
    return None if dtype == "fp32" else weight

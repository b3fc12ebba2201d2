"""INC's `weight:` and `activation:` leaves: how finely something is quantized.

INC writes a setting as a value or as a list of choices for its search, in old and new spellings (`bit` and `bits`,
`dtype: int4`, `granularity`).  All of them are read into one spec; two that disagree are an error with both lines.
"""

from __future__ import annotations

from dataclasses import replace

from inc_laaciq.config import checks
from inc_laaciq.config.section import Keys, Section
from inc_laaciq.config.specs import ACTIVATION_ALGORITHMS, SCHEMES, ActivationSpec, WeightSpec, check_bits

OTHER_ALGORITHM = "it is another algorithm; la_aciq solves the weights itself, as la_aciq.mode says"

LEAF_KEYS = Keys(used=("weight", "activation"))
WEIGHT_KEYS = Keys(
    used=("bits", "bit", "group_size", "scheme", "dtype", "granularity", "algorithm", "zero_point"),
    refused={"enable_mse_search": OTHER_ALGORITHM, "enable_full_range": "write la_aciq.signed instead"},
)
ACTIVATION_KEYS = Keys(used=("bits", "scheme", "dtype", "granularity", "algorithm"))

_ACTIVATION_TYPES = ("int8", "uint8", "fp32")
_INTEGERS = tuple(f"int{bits}" for bits in range(2, 9))
_OTHER_TYPES = {
    **dict.fromkeys(("uint4", "uint8"), "write the int type, and scheme: asym"),
    **dict.fromkeys(("bf16", "fp16"), "quantized weights are integers; fp32 leaves a layer as it is"),
    **dict.fromkeys(("nf4", "fp4", "fp4_e2m1", "fp4_e2m1_bnb", "fp8"), "only integer grids are solved"),
}
# INC's plain rounding is the default that la_aciq stands in for; the others are algorithms that a user chose.
_PLAIN_ALGORITHMS = ("RTN", "rtn", "minmax")
_OTHER_ALGORITHMS = dict.fromkeys(
    ("GPTQ", "AWQ", "TEQ", "AUTOROUND", "HQQ", "gptq", "awq", "teq", "kl"), OTHER_ALGORITHM
)

_check_scheme = checks.one(checks.word(SCHEMES))


def read_weight(leaf: Section, base: WeightSpec) -> WeightSpec | None:
    """Read a `weight:` leaf on top of what holds without it; None if its layers stay in float."""
    if "bit" in leaf and "bits" in leaf:
        raise leaf.conflict("bit", leaf, "bits", "they are two spellings of one setting; keep bits")
    dtype = leaf.take("dtype", _check_weight_dtype, "int")
    if dtype == "fp32":
        for key in leaf.data:
            if key != "dtype":
                raise leaf.conflict(key, leaf, "dtype", "a layer in float has no integer grid")
        return None
    weight = replace(
        base,
        bits=_read_bits(leaf, dtype, base.bits),
        group_size=_read_group_size(leaf, base.group_size),
        scheme=leaf.take("scheme", _check_scheme, base.scheme),
    )
    if "zero_point" in leaf and leaf.take("zero_point", checks.boolean, False) != (weight.scheme == "asym"):
        reason = "asym is the scheme with a zero point, sym the one without"
        if "scheme" in leaf:
            raise leaf.conflict("zero_point", leaf, "scheme", reason)
        raise leaf.error(
            "zero_point", f"contradicts the scheme, which is {weight.scheme} here: {reason}. Write scheme."
        )
    check_algorithm = checks.one(checks.word(("la_aciq", *_PLAIN_ALGORITHMS), refused=_OTHER_ALGORITHMS))
    if leaf.take("algorithm", check_algorithm, "la_aciq") != "la_aciq":
        leaf.note("algorithm", "has no effect here: la_aciq solves the weights itself, as la_aciq.mode says.")
    return weight


def read_static_weight(leaf: Section, base: WeightSpec) -> WeightSpec | None:
    """Read a `weight:` leaf, and refuse what INC's static INT8 modules cannot carry."""
    weight = read_weight(leaf, base)
    if weight is None:
        return None
    if weight.bits != 8:
        key = next(key for key in ("bits", "bit", "dtype") if key in leaf)
        raise leaf.error(key, "is not possible with post_training_static_quant, which has 8 bits.")
    if weight.group_size != -1:
        raise leaf.error("group_size", "is not possible with post_training_static_quant: its scales are per channel.")
    if weight.scheme != "sym":
        raise leaf.error("scheme", "is not possible with post_training_static_quant: its weights are sym.")
    return weight


def read_activation(leaf: Section) -> ActivationSpec:
    """Read the `activation:` leaf of a static run."""
    if read_activation_dtype(leaf) == "fp32":
        raise leaf.error("dtype", "leaves activations in float. Write approach: post_training_weight_only instead.")
    refused = {"per_channel": "a static range holds for a whole tensor; write per_tensor"}
    leaf.take("granularity", checks.one(checks.word(("per_tensor",), refused=refused)), "per_tensor")
    return ActivationSpec(
        bits=leaf.take("bits", checks.one(checks.integer(8, 8)), ActivationSpec.bits),
        scheme=leaf.take("scheme", _check_scheme, ActivationSpec.scheme),
        algorithm=leaf.take("algorithm", checks.one(checks.word(ACTIVATION_ALGORITHMS)), ActivationSpec.algorithm),
    )


def read_activation_dtype(leaf: Section) -> str | None:
    """Type that an `activation:` leaf names, if any."""
    return leaf.take("dtype", checks.one(checks.word(_ACTIVATION_TYPES)), None)


def is_float(leaf: Section) -> bool:
    """Whether all that a leaf says is that its layers stay in float."""
    return bool(leaf.data) and all(leaf.data[part] in ({"dtype": "fp32"}, {"dtype": ["fp32"]}) for part in leaf.data)


def _check_weight_dtype(value: object) -> str:
    return checks.one(checks.word(("int", *_INTEGERS, "fp32"), refused=_OTHER_TYPES))(value)


def _read_bits(leaf: Section, dtype: str, default: int) -> int:
    """Bits by `bits`, by the old `bit`, or by the number in `dtype`."""
    key = "bit" if "bit" in leaf else "bits"
    bits = leaf.take(key, checks.one(check_bits), default)
    if dtype == "int":
        return bits
    named = int(dtype.removeprefix("int"))
    if key in leaf and named != bits:
        raise leaf.conflict("dtype", leaf, key, "write dtype: int, or make them agree")
    return named


def _read_group_size(leaf: Section, default: int) -> int:
    """Group size by `group_size`, or by the old `granularity: per_channel`."""
    group_size = leaf.take("group_size", checks.one(checks.group_size), default)
    refused = {"per_tensor": "one scale for a whole matrix is too coarse; write per_channel or a group_size"}
    if "granularity" not in leaf:
        return group_size
    leaf.take("granularity", checks.one(checks.word(("per_channel",), refused=refused)), "per_channel")
    if "group_size" in leaf and group_size != -1:
        raise leaf.conflict("granularity", leaf, "group_size", "per_channel is group_size -1; keep one of them")
    return -1

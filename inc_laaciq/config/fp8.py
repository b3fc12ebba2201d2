"""The approach `post_training_fp8_quant`: the `fp8:` section, and what the other sections cannot say beside it."""

from __future__ import annotations

from inc_laaciq.config import checks
from inc_laaciq.config.leaves import LEAF_KEYS, WEIGHT_KEYS, is_float
from inc_laaciq.config.section import Keys, Section
from inc_laaciq.config.specs import FP8_DEVICES, FP8_RECONCILE, FP8_SCALE_METHODS, Fp8Spec, OpRule, WeightSpec

FP8 = "post_training_fp8_quant"
FP8_WEIGHT = WeightSpec(bits=8, group_size=-1, dtype="fp8_e4m3")

_FP8_KEYS = Keys(used=("scale_method", "reconcile", "device"))
_ON_GAUDI = "it does not run on a CPU, where the result is evaluated; the measurement can be used with it on a Gaudi"
_OTHER_METHODS = dict.fromkeys(
    ("maxabs_hw", "maxabs_hw_opt_weight", "maxabs_pow2_opt_weight", "hw_aligned_single_scale"), _ON_GAUDI
)
# Keys of the solver of integer codes; FP8 has none.
_SOLVER = (
    *("mode", "reconcile", "range_reconcile", "weights", "shares"),
    *("signed", "scaling", "damping", "refine", "fair"),
)


def read_fp8(section: Section, approach: str) -> Fp8Spec | None:
    """Read `quantization.fp8`; None for another approach.

    Raises
    ------
    SpecError
        With file and line, about the first thing that is wrong.
    """
    if approach != FP8:
        if "fp8" in section:
            raise section.error("fp8", f"belongs to approach: {FP8}.", with_value=False)
        return None
    for key in ("model_wise", "optype_wise"):
        if key in section:
            reason = f"is not possible with {FP8}: every Linear layer is FP8, but for those in op_wise."
            raise section.error(key, reason, with_value=False)
    leaf = section.child("fp8", _FP8_KEYS)
    return Fp8Spec(
        scale_method=leaf.take(
            "scale_method", checks.word(FP8_SCALE_METHODS, refused=_OTHER_METHODS), Fp8Spec.scale_method
        ),
        reconcile=leaf.take("reconcile", checks.word(FP8_RECONCILE), Fp8Spec.reconcile),
        device=leaf.take("device", checks.word(FP8_DEVICES), Fp8Spec.device),
    )


def read_float_rules(section: Section) -> tuple[OpRule, ...]:
    """Read `op_wise`, which can only leave layers in float."""
    patterns = section.child("op_wise", None)
    for name in patterns.data:
        leaf = patterns.child(name, LEAF_KEYS)
        if not is_float(leaf):
            reason = f"can only leave layers in float with {FP8}. Write weight: {{dtype: fp32}}."
            raise patterns.error(name, reason, with_value=False)
        leaf.child("weight", WEIGHT_KEYS)
    return tuple(OpRule(pattern=name, weight=None) for name in patterns.data)


def refuse_solver_keys(section: Section) -> None:
    """Refuse keys of `la_aciq:` that say how integer codes are solved."""
    for key in _SOLVER:
        if key in section:
            reason = f"has no meaning with {FP8}, which has no codes to solve; see quantization.fp8."
            raise section.error(key, reason, with_value=False)

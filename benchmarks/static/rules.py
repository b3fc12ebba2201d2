"""The rules that make one input range from those of all languages, as methods of the studies."""

from __future__ import annotations

from collections.abc import Mapping

from inc_laaciq.config import ActivationSpec
from inc_laaciq.config.specs import RangeReconcile

RULES: Mapping[RangeReconcile, str] = {
    "error": "la_aciq, least error",
    "max": "la_aciq, union of ranges",
    "mean": "la_aciq, mean of ranges",
    "pooled": "la_aciq, pooled ranges",
}

OTHERS: Mapping[RangeReconcile, str] = {rule: name for rule, name in RULES.items() if rule != ActivationSpec.reconcile}
"""Without the default rule, whose method is called "la_aciq"."""

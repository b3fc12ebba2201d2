"""The yaml front end: Intel Neural Compressor's keys plus a `la_aciq:` section -> frozen specs.

`read_config` reads a file, `run_spec` takes the same keys from Python; both give a `RunSpec` or raise SpecError.
Unknown keys are refused with a suggestion, and every message starts with file and line.
"""

from __future__ import annotations

from inc_laaciq.config.bounds import Bound, format_bound, parse_bound
from inc_laaciq.config.policy import Group, Policy, Rule, TaskRule, Waiver
from inc_laaciq.config.policy_file import explain, read_policy
from inc_laaciq.config.policy_rules import resolve
from inc_laaciq.config.read import read_config, run_spec
from inc_laaciq.config.run import RunSpec
from inc_laaciq.config.specs import (
    ActivationSpec,
    FairSpec,
    LaaciqSpec,
    OpRule,
    TextSpec,
    TuningSpec,
    WeightSpec,
)

__all__ = [
    "ActivationSpec",
    "Bound",
    "FairSpec",
    "Group",
    "LaaciqSpec",
    "OpRule",
    "Policy",
    "Rule",
    "RunSpec",
    "TaskRule",
    "TextSpec",
    "TuningSpec",
    "Waiver",
    "WeightSpec",
    "explain",
    "format_bound",
    "parse_bound",
    "read_config",
    "read_policy",
    "resolve",
    "run_spec",
]

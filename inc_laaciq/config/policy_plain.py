"""A policy as plain data, with the keys of a policy file."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from inc_laaciq.config.policy import Group, Policy, Rule, TaskRule, Waiver

VERSION = 1


def plain_policy(policy: Policy) -> dict[str, Any]:
    """Policy with the keys that a `la_aciq.gate:` section has.

    Reading it again gives an equal policy.  Numbers and consequences are always there, so that a later change of the
    defaults does not change its meaning; what is not demanded is left out.  Nothing tells where the policy came from.

    Examples
    --------
    >>> from inc_laaciq.config.bounds import parse_bound
    >>> plain_policy(Policy(default=Rule(max_degradation=parse_bound("10%"))))
    {'max_degradation': '10%', 'confidence': 0.95, 'min_sentences': 30, 'inconclusive': 'warn', 'not_run': 'fail'}
    """
    return _without_empty(
        {
            **_rule(policy.default),
            "max_disparity": _text(policy.max_disparity),
            "relative_to": policy.relative_to,
            "max_regression": _text(policy.max_regression),
            "confidence": policy.confidence,
            "min_sentences": policy.min_sentences,
            "inconclusive": policy.inconclusive,
            "not_run": policy.not_run,
            "baseline_id": policy.baseline_id,
            "required_languages": list(policy.required_languages),
            "groups": [_group(group) for group in policy.groups],
            "languages": {tag: _without_empty(_rule(rule)) for tag, rule in sorted(policy.languages.items())},
            "waivers": [_waiver(waiver) for waiver in policy.waivers],
            "tasks": {task.pattern: _task(task) for task in policy.tasks},
        }
    )


def policy_digest(policy: Policy) -> str:
    """SHA-256, in hexadecimal, of `plain_policy` as JSON: equal for policies that demand the same."""
    canonical_json = json.dumps(plain_policy(policy), sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(canonical_json.encode()).hexdigest()


def _rule(rule: Rule) -> dict[str, Any]:
    return {"max_degradation": _text(rule.max_degradation), "severity": rule.severity}


def _group(group: Group) -> dict[str, Any]:
    return _without_empty(
        {
            "name": group.name,
            "languages": list(group.languages),
            "scripts": list(group.scripts),
            "families": list(group.families),
            **_rule(group.rule),
            "max_disparity": _text(group.max_disparity),
        }
    )


def _waiver(waiver: Waiver) -> dict[str, Any]:
    return {
        "language": waiver.language,
        "max_degradation": str(waiver.max_degradation),
        "owner": waiver.owner,
        "reason": waiver.reason,
        "ticket": waiver.ticket,
        "expires": waiver.expires.isoformat(),
    }


def _task(task: TaskRule) -> dict[str, Any]:
    return _without_empty(
        {
            "metric": task.metric,
            "higher_is_better": task.higher_is_better,
            "max_degradation": _text(task.max_degradation),
            "max_disparity": _text(task.max_disparity),
            "severity": task.severity,
        }
    )


def _text(bound: object) -> str | None:
    return None if bound is None else str(bound)


def _without_empty(settings: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in settings.items() if value is not None and value not in ([], {})}

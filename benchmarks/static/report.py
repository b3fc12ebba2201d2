"""The result of the study for people."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from static.study import MEASURES


def table(content: Mapping[str, Any]) -> str:
    """The result for people, in thousandths of a nat per byte."""
    lines = [f"{'':6}{'method':36}{'loss: mean':>11}{'worst':>9}{'':4}{'KL: mean':>9}{'worst':>9}  seconds"]
    for entry in content["summary"]:
        loss, kl = entry["degradation"], entry["kl"]
        lines.append(
            f"{entry['study']:6}{entry['method']:36}{1000 * loss['mean']:11.3f}{1000 * loss['worst']:9.3f}"
            f" {loss['worst_language']:3}{1000 * kl['mean']:9.3f}{1000 * kl['worst']:9.3f} {kl['worst_language']:3}"
            f"{entry['seconds']:6.1f}"
        )
    lines.append("la_aciq divided by the other (95 % interval), worst language:")
    for entry in content["ratios"]:
        parts = ", ".join(f"{name} {_interval(entry[name]['worst'])}" for name in MEASURES)
        goal = f"; target {entry['target']}: {entry['verdict']}" if "target" in entry else ""
        lines.append(f"  {entry['study']} {entry['baseline']}: {parts}{goal}")
    for baseline, by_measure in content["verdicts"]["W8A8"].items():
        for measure, each in by_measure.items():
            worse, joint = ", ".join(each["worse"]) or "none", ", ".join(each["joint_worse"]) or "none"
            lines.append(
                f"W8A8 against {baseline}, {measure}: {each['verdict']}; worse beyond noise: {worse}; "
                f"with all languages at once: {joint}"
            )
    lines += [f"not run: {entry['study']} {entry['method']}: {entry['why']}" for entry in content["not_run"]]
    return "\n".join(lines)


def _interval(found: Mapping[str, Any]) -> str:
    median, low, high = (math.nan if found[name] is None else found[name] for name in ("median", "low", "high"))
    return f"{median:.3f} [{low:.3f}, {high:.3f}]"

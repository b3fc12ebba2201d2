"""What was promised: the worst language's degradation, ours over a baseline's, at most."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Target:
    """The largest ratio by bits."""

    ours: str
    baseline: str
    calibration: str
    by_bits: dict[int, float]


_FAIR = ("la_aciq-fair", "la_aciq-fair-labels-0")

TARGETS = (
    *(
        Target(ours=ours, baseline=baseline, calibration=calibration, by_bits=by_bits)
        for baseline, calibration, by_bits in (
            ("inc-rtn", "none", {3: 0.28, 4: 0.35}),
            ("inc-awq", "english", {3: 0.45, 4: 0.38}),
            ("inc-adaptor-awq", "english", {3: 0.45, 4: 0.38}),
            ("inc-gptq", "english", {3: 0.30, 4: 0.30}),
            ("inc-awq", "multilingual", {3: 0.48, 4: 0.50}),
            ("inc-adaptor-awq", "multilingual", {3: 0.48, 4: 0.50}),
            ("la_aciq-balanced-pooled", "multilingual", {3: 0.60, 4: 0.60}),
        )
        for ours in _FAIR
    ),
    Target(
        ours="la_aciq-balanced",
        baseline="la_aciq-balanced-pooled",
        calibration="multilingual",
        by_bits={3: 0.60, 4: 0.60},
    ),
)

OURS = (*_FAIR, "la_aciq-balanced")
"""Methods that are compared with every other one, whether there is a target or not."""


def target_of(ours: str, baseline: str, calibration: str, bits: int) -> float | None:
    """The target of a comparison; None where there is none."""
    for target in TARGETS:
        if (target.ours, target.baseline, target.calibration) == (ours, baseline, calibration):
            return target.by_bits.get(bits)
    return None

"""The gate: bounds on what quantization may cost a language, and the verdict on a run.

It fails closed.  A language that was asked for and has no usable figures cannot have kept a bound, so under a gate it
fails the run, named, with the reason.  If no language at all could be measured there is nothing to fail either: the
verdict is NOT-RUN, and still not a pass, so `Verdict.exit_code` is that of a failed gate.  Without a gate nothing is
judged: NOT-RUN, exit code 0.

A bound is held against the measured value itself, and every reason says so and gives the standard error: a verdict
near the bound can be chance.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, Any, Literal

from inc_laaciq.errors import SpecError

if TYPE_CHECKING:
    from inc_laaciq.config import Bound, GateSpec

EXIT_PASSED = 0
EXIT_FAILED = 3

_MEASURES = {"%": "relative_perplexity", "npb": "degradation"}
_JUDGED = "judged by point estimate"


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What the gate says.

    Parameters
    ----------
    verdict : "PASS", "FAIL" or "NOT-RUN"
    reasons : tuple of str
        At least one; each begins with FAIL, PASS or NOT-RUN.
    exit_code : int
        What the command line returns for it: 0, or 3 where there was a gate and it did not pass.
    """

    verdict: Literal["PASS", "FAIL", "NOT-RUN"]
    reasons: tuple[str, ...]
    exit_code: int


def judge(
    languages: Mapping[str, Mapping[str, Any]], gate: GateSpec | None, missing: Mapping[str, str] | None = None
) -> Verdict:
    """Hold every language, and their disparity, against the bounds of a gate.

    Parameters
    ----------
    languages : mapping of language -> mapping
        Per language `degradation` and `standard_error` in nats per UTF-8 byte and `relative_perplexity` (0.03 for
        +3 %), as in `laaciq.json`; other keys are ignored.  `{"missing": reason}` marks a language without figures.
    gate : GateSpec or None
        Bounds; `%` bounds the relative perplexity, `npb` the degradation.  A measured value equal to its bound passes.
    missing : mapping of language -> str, optional
        Further languages that were asked for and not measured, with the reason.  A language that is named here
        counts as missing even if it has figures.

    Returns
    -------
    Verdict
        The same for the same input, whatever the order of the mappings.

    Raises
    ------
    SpecError
        If the gate has no bound, or one of an unknown unit.

    Notes
    -----
    Making any language worse never turns a `max_degradation` that failed into one that passes.  Of `max_disparity`
    that holds for the worst language only: making the best one worse narrows the difference.

    Examples
    --------
    >>> judge({"sw": {"degradation": 0.02, "standard_error": 0.001, "relative_perplexity": 0.06}}, gate=None).reasons
    ('NOT-RUN: no gate was configured',)
    """
    if gate is None:
        return Verdict(verdict="NOT-RUN", reasons=("NOT-RUN: no gate was configured",), exit_code=EXIT_PASSED)
    bounds = {
        name: bound
        for name, bound in (("max_degradation", gate.max_degradation), ("max_disparity", gate.max_disparity))
        if bound is not None
    }
    _check(bounds)
    absent = {tag: str(entry["missing"] or "") for tag, entry in languages.items() if "missing" in entry}
    absent.update(missing or {})
    measured = {tag: entry for tag, entry in sorted(languages.items()) if tag not in absent}
    if not measured:
        reasons = [f"NOT-RUN {tag}: {_reason(absent[tag])}" for tag in sorted(absent)]
        reasons.insert(0, "NOT-RUN: no language could be evaluated, so no bound was checked")
        return Verdict(verdict="NOT-RUN", reasons=tuple(reasons), exit_code=EXIT_FAILED)

    failures = [f"FAIL {tag}: not evaluated, {_reason(absent[tag])}" for tag in sorted(absent)]
    units = sorted({bound.unit for bound in bounds.values()})
    unusable = {tag: fault for tag, entry in measured.items() if (fault := _fault(entry, units))}
    failures += [f"FAIL {tag}: {fault}, so no bound can be kept" for tag, fault in unusable.items()]
    usable = {tag: entry for tag, entry in measured.items() if tag not in unusable}
    passes = []
    if usable:
        checks = {"max_degradation": _check_degradation, "max_disparity": _check_disparity}
        for name, bound in bounds.items():
            failed, passed = checks[name](usable, bound)
            failures += failed
            passes += passed
    if failures:
        return Verdict(verdict="FAIL", reasons=tuple(failures), exit_code=EXIT_FAILED)
    return Verdict(verdict="PASS", reasons=tuple(passes), exit_code=EXIT_PASSED)


def _check(bounds: Mapping[str, Bound]) -> None:
    if not bounds:
        raise SpecError("the gate has no bound. Give max_degradation or max_disparity, such as '10%' or '0.02npb'.")
    for name, bound in bounds.items():
        if bound.unit not in _MEASURES:
            raise SpecError(f"{name}: unit {bound.unit!r} is not known. Allowed: {', '.join(map(repr, _MEASURES))}.")


def _reason(given: str) -> str:
    return given or "no reason was recorded"


def _fault(entry: Mapping[str, Any], units: Iterable[str]) -> str:
    """Say what is wrong with a language's figures; empty if they can be judged."""
    if not entry:
        return "there are no figures"
    for name in dict.fromkeys(["degradation", "standard_error", *(_MEASURES[unit] for unit in units)]):
        value = entry.get(name)
        if value is None:
            return f"{name} is missing"
        if isinstance(value, bool) or not isinstance(value, Real):
            return f"{name} is {type(value).__name__} instead of a number"
        if not math.isfinite(value):
            return f"{name} is {float(value)}"
    return "standard_error is negative" if entry["standard_error"] < 0 else ""


def _check_degradation(languages: Mapping[str, Mapping[str, Any]], bound: Bound) -> tuple[list[str], list[str]]:
    """Failures, worst first, and one line for a bound that all languages keep."""
    measure = _MEASURES[bound.unit]
    worst_first = sorted(languages, key=lambda tag: (-languages[tag][measure], tag))
    # "Not at most" instead of "above": a bound that is not a number is kept by nobody.
    failed = [tag for tag in worst_first if not languages[tag][measure] <= bound.value]
    limit = f"max_degradation {_number(bound.value, bound.unit)}"
    if failed:
        return [
            f"FAIL {tag}: {_value(languages[tag], bound.unit)} is above {limit} "
            f"({_evidence(languages[tag], bound.unit)}; {_JUDGED})"
            for tag in failed
        ], []
    worst = worst_first[0]
    return [], [
        f"PASS: all {len(languages)} languages keep {limit}; the worst is {worst} with "
        f"{_value(languages[worst], bound.unit)} ({_evidence(languages[worst], bound.unit)}; {_JUDGED})"
    ]


def _check_disparity(languages: Mapping[str, Mapping[str, Any]], bound: Bound) -> tuple[list[str], list[str]]:
    measure = _MEASURES[bound.unit]
    ordered = sorted(languages, key=lambda tag: (-languages[tag][measure], tag))
    worst, best = ordered[0], ordered[-1]
    disparity = languages[worst][measure] - languages[best][measure]
    unit = "percentage points" if bound.unit == "%" else "nats per byte"
    size = f"{100 * disparity:.6g}" if bound.unit == "%" else f"{disparity:.6g}"
    sides = " and ".join(
        f"{tag} with {_value(languages[tag], bound.unit)} ({_evidence(languages[tag], bound.unit)})"
        for tag in (worst, best)
    )
    limit = f"max_disparity {_number(bound.value, bound.unit)}"
    if disparity <= bound.value:
        return [], [f"PASS: disparity of {size} {unit} keeps {limit}, between {sides}; {_JUDGED}"]
    return [f"FAIL: disparity of {size} {unit} is above {limit}, between {sides}; {_JUDGED}"], []


def _value(entry: Mapping[str, Any], unit: str) -> str:
    if unit == "%":
        return f"relative perplexity {_number(entry['relative_perplexity'], unit, signed=True)}"
    return f"degradation {_number(entry['degradation'], unit, signed=True)}"


def _evidence(entry: Mapping[str, Any], unit: str) -> str:
    """Write what the value rests on."""
    error = f"standard error {entry['standard_error']:.2g}"
    return f"{error} npb" if unit == "npb" else f"degradation {entry['degradation']:+.6g}, {error} npb"


def _number(value: float, unit: str, *, signed: bool = False) -> str:
    """Write with six digits, so that a value that is hardly above its bound does not look equal to it."""
    sign = "+" if signed else ""
    return f"{100 * value:{sign}.6g}%" if unit == "%" else f"{value:{sign}.6g}npb"

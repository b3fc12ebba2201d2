"""The checks of a gate as SARIF 2.1.0, for code scanning.

Every rule is declared even if it found nothing, so that an alert closes when its check passes.  A result is a check
that did not pass, at the line of the policy that asked for it; one that passes by a waiver is a note with an accepted
suppression, and one whose waiver expired has a rejected one.  The standard knows no expiry, so that is a property.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import quote

from inc_laaciq.report import numbers
from inc_laaciq.report.characters import visible
from inc_laaciq.report.checks import CheckRow, Level, WaiverRow
from inc_laaciq.report.document import Document, section, sections
from inc_laaciq.report.view import View, view

_SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"

#: Rule of the whole gate; only where no single check tells that it failed.
GATE = "gate"

# Id -> name, what it demands.
_RULES = {
    "max_degradation": ("MaxDegradation", "No language loses more than its limit."),
    "max_disparity": ("MaxDisparity", "The loss of the worst and of the best language differ by no more than a limit."),
    "max_regression": ("MaxRegression", "No language loses more than its limit against the previous release."),
    "task_degradation": ("TaskDegradation", "No language loses more accuracy on a task than its limit."),
    "task_disparity": ("TaskDisparity", "The losses of accuracy on a task differ by no more than a limit."),
    "presence": ("Presence", "Every language that is asked for has figures."),
    "waiver": ("Waiver", "Every waiver is still in force and is needed."),
    GATE: ("Gate", "The gate passes."),
}
_OF_TASKS = {"max_degradation": "task_degradation", "max_disparity": "task_disparity"}
_FIGURES = ("value", "lower", "upper", "limit_value", "unit", "p_value", "detectable")


def to_sarif(document: Mapping[str, Any]) -> dict[str, Any]:
    """Render the checks as a SARIF log.

    Parameters
    ----------
    document : mapping
        Schema `inc-laaciq/gate/1` or `inc-laaciq/run/1`.

    Returns
    -------
    dict
        Plain JSON, the same for the same input but for `meta`.

    Raises
    ------
    IntegrityError
        If the schema is another one, or a section has the wrong type.
    """
    shown = view(document)
    rules = list(dict.fromkeys([*_RULES, *(_rule(row) for row in shown.checks)]))
    place = _place(document)
    results = [
        _result(row, entry, rules, place)
        for row, entry in zip(shown.checks, sections(document, "checks"), strict=True)
        if row.level != "none"
    ]
    if _is_untold(shown, [result["level"] for result in results]):
        results.append(_gate(shown, rules, place))
    driver: dict[str, Any] = {"name": "inc-laaciq", "rules": [_declared(rule) for rule in rules]}
    run: dict[str, Any] = {
        "tool": {"driver": driver},
        "columnKind": "unicodeCodePoints",
        "automationDetails": {"id": "inc-laaciq/gate/"},
        "results": results,
        "properties": {"verdict": shown.verdict, "signature": shown.signature, "candidate": shown.title},
    }
    return {"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}


def _declared(rule: str) -> dict[str, Any]:
    name, demand = _RULES.get(rule, ("Check", f"The check {rule} passes."))
    return {
        "id": rule,
        "name": name,
        "shortDescription": {"text": demand},
        "fullDescription": {
            "text": f"{demand} Measured on the same text with the model before and after quantization."
        },
        "help": {"text": "Raise the bits of the layers that hurt the language, add its text to the calibration, "
                 "or waive the bound in the policy with an owner, a reason, a ticket and a last day."},
        "defaultConfiguration": {"level": "error"},
    }  # fmt: skip


def _rule(row: CheckRow) -> str:
    return _OF_TASKS.get(row.kind, row.kind) if row.task else row.kind or GATE


def _is_untold(shown: View, levels: Sequence[Level]) -> bool:
    """Whether the gate did not pass, and no result tells so."""
    if shown.verdict == "PASS":
        return False
    return "error" not in levels if shown.is_failed else not levels


def _gate(shown: View, rules: Sequence[str], place: str) -> dict[str, Any]:
    reason = shown.reasons[0] if shown.reasons else f"{shown.verdict}: no reason was recorded"
    return {
        "ruleId": GATE,
        "ruleIndex": rules.index(GATE),
        "level": "error" if shown.is_failed else "warning",
        "message": {"text": reason},
        "locations": [_location(place, None)],
        "partialFingerprints": {"check/v1": _fingerprint((GATE,))},
        "properties": {"verdict": shown.verdict},
    }


def _result(row: CheckRow, entry: Document, rules: Sequence[str], place: str) -> dict[str, Any]:
    rule = _rule(row)
    figures = {name: entry[name] for name in _FIGURES if _is_plain(entry.get(name))}
    result: dict[str, Any] = {
        "ruleId": rule,
        "ruleIndex": rules.index(rule),
        "level": row.level,
        "message": {"text": f"{row.reason} ({row.words})" if row.words else row.reason},
        "locations": [_location(place, row)],
        # What was checked, not what was found: the alert stays the same when its numbers change.
        "partialFingerprints": {"check/v1": _fingerprint((row.kind, row.task, row.tag, row.subject))},
        "properties": {
            "verdict": row.verdict,
            "severity": row.severity,
            "language": row.tag,
            "shown": row.words,
            **figures,
        },
    }
    if row.waiver is not None:
        result["suppressions"] = [_suppression(row.waiver, row)]
    return result


def _suppression(waiver: WaiverRow, row: CheckRow) -> dict[str, Any]:
    status = "accepted" if row.is_waived and not waiver.is_expired else "rejected"
    return {
        "kind": "external",
        "status": status,
        "justification": waiver.words,
        "properties": {
            "owner": waiver.owner,
            "reason": waiver.reason,
            "ticket": waiver.ticket,
            "expires": waiver.expires,
        },
    }


def _location(place: str, row: CheckRow | None) -> dict[str, Any]:
    line = row.line if row is not None and row.line is not None else 1
    physical = {"artifactLocation": {"uri": place}, "region": {"startLine": line}}
    location: dict[str, Any] = {"physicalLocation": physical}
    if row is not None and row.subject:
        location["logicalLocations"] = [{"name": row.subject, "kind": "module"}]
    return location


def _place(document: Document) -> str:
    """The policy, or what was judged where the bounds are in no file; as a URI."""
    candidate = section(document, "candidate") or section(document, "model")
    named = (section(document, "policy").get("source"), candidate.get("source"), candidate.get("name"))
    path = next((text for given in named if (text := visible(given))), "results.json")
    return f"file://{quote(path)}" if PurePosixPath(path).is_absolute() else quote(path)


def _fingerprint(identity: Sequence[str]) -> str:
    return hashlib.sha256("\0".join(identity).encode("utf-8")).hexdigest()


def _is_plain(value: object) -> bool:
    number = numbers.as_float(value)
    return value in ("%", "npb", "nps", "pp") if number is None else abs(number) < float("inf")

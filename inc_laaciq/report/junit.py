"""The checks of a gate as JUnit XML, which every CI server reads.

A testsuite for each kind of check, a testcase for each language, group, or all languages.  The outcome follows the
exit code: a check that fails the gate is a `failure`, and so is one that could not be made and should have been.
What is INCONCLUSIVE or only warns is `skipped` with its message, so that it is seen and does not break a build that
the gate passes.  The last testcase is the verdict of the whole gate: if doubt fails the gate, that one fails.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any
from xml.etree import ElementTree

from inc_laaciq.report.checks import CheckRow
from inc_laaciq.report.view import View, view

#: Name of the testsuite of the whole gate.
GATE = "gate"


def to_junit(document: Mapping[str, Any]) -> str:
    """Render the checks as JUnit XML.

    Parameters
    ----------
    document : mapping
        Schema `inc-laaciq/gate/1` or `inc-laaciq/run/1`.

    Returns
    -------
    str
        A whole XML document, the same for the same input but for `meta`; encode it as UTF-8.

    Raises
    ------
    IntegrityError
        If the schema is another one, or a section has the wrong type.
    """
    shown = view(document)
    suites: defaultdict[str, list[ElementTree.Element]] = defaultdict(list)
    for row in shown.checks:
        kind = f"{row.kind}:{row.task}" if row.task else row.kind
        suites[kind].append(_case(kind, row))
    suites[GATE].append(_gate(shown))
    root = ElementTree.Element("testsuites", {"name": f"inc-laaciq: {shown.title}", **_counts(suites.values())})
    for kind, cases in suites.items():
        suite = ElementTree.SubElement(root, "testsuite", {"name": kind, **_counts([cases]), "time": "0"})
        if kind == GATE and shown.signature:
            _properties(suite, {"signature": shown.signature})
        suite.extend(cases)
    ElementTree.indent(root)
    # Hidden characters, among them all that XML cannot hold, are escapes by now; noncharacters are none of them.
    text = ElementTree.tostring(root, encoding="unicode", short_empty_elements=True)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + _writable(text) + "\n"


def _case(kind: str, row: CheckRow) -> ElementTree.Element:
    case = ElementTree.Element("testcase", {"classname": kind, "name": row.subject, "time": "0"})
    _properties(case, _facts(row))
    message = f"{row.reason} ({row.words})" if row.words else row.reason
    if row.level == "error":
        found = ElementTree.SubElement(case, "failure", {"message": message, "type": row.verdict})
        found.text = f"{message}\n{_source(row)}".strip()
    elif row.verdict != "PASS":
        ElementTree.SubElement(case, "skipped", {"message": f"{row.outcome}: {message}"})
    if row.waiver is not None:
        state = "waived" if row.is_waived else f"waiver {row.waiver.state}"
        ElementTree.SubElement(case, "system-out").text = f"{state}: {row.waiver.words}"
    return case


def _gate(shown: View) -> ElementTree.Element:
    case = ElementTree.Element("testcase", {"classname": GATE, "name": GATE, "time": "0"})
    reasons = shown.reasons or (f"{shown.verdict}: no reason was recorded",)
    lacks_language = any(row.missing for row in shown.languages)
    is_open = shown.verdict == "INCONCLUSIVE" or (shown.verdict == "NOT-RUN" and not lacks_language)
    if shown.fails is not None:
        is_open = not shown.fails
    if shown.verdict == "PASS":
        return case
    found = ElementTree.SubElement(case, "skipped" if is_open else "failure", {"message": reasons[0]})
    if not is_open:
        found.set("type", shown.verdict)
        found.text = "\n".join(reasons)
    return case


def _facts(row: CheckRow) -> dict[str, str]:
    facts = {
        "verdict": row.outcome,
        "value": row.value,
        "interval": row.interval,
        "limit": row.limit,
        "p_value": row.p_value,
        "detectable": row.detectable,
        "source": _source(row),
    }
    if row.waiver is not None:
        waiver = row.waiver
        facts |= {
            f"waiver.{name}": text
            for name, text in (
                ("state", waiver.state),
                ("owner", waiver.owner),
                ("reason", waiver.reason),
                ("ticket", waiver.ticket),
                ("expires", waiver.expires),
            )
        }
    return {name: text for name, text in facts.items() if text}


def _source(row: CheckRow) -> str:
    return f"{row.source}, line {row.line} of the policy" if row.line else row.source


def _properties(parent: ElementTree.Element, facts: Mapping[str, str]) -> None:
    properties = ElementTree.SubElement(parent, "properties")
    for name, text in facts.items():
        ElementTree.SubElement(properties, "property", {"name": name, "value": text})


def _counts(suites: Any) -> dict[str, str]:
    cases = [case for suite in suites for case in suite]
    failures, skipped = (sum(case.find(outcome) is not None for case in cases) for outcome in ("failure", "skipped"))
    return {"tests": str(len(cases)), "failures": str(failures), "errors": "0", "skipped": str(skipped)}


def _writable(text: str) -> str:
    """XML without U+FFFE and U+FFFF, which Unicode calls unassigned rather than hidden and XML forbids."""
    return text.replace("\ufffe", "\\ufffe").replace("\uffff", "\\uffff")

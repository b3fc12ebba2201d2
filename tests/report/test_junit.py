from __future__ import annotations

from xml.etree import ElementTree

import pytest
from gate_documents import EXPIRED, MISSING, OPEN, TASK, WAIVED, gate_document, hostile_gate
from hypothesis import given
from report_runs import HOSTILE, hidden_characters, hostile_texts, sample_run, shuffled

from inc_laaciq.errors import IntegrityError
from inc_laaciq.report.characters import visible
from inc_laaciq.report.junit import to_junit

CHILDREN = {
    "testsuites": {"testsuite"},
    "testsuite": {"properties", "testcase"},
    "testcase": {"properties", "failure", "skipped", "system-out"},
    "properties": {"property"},
}
NEEDED = {
    "testsuites": {"name", "tests", "failures", "errors", "skipped"},
    "testsuite": {"name", "tests", "failures", "errors", "skipped"},
    "testcase": {"name", "classname"},
    "property": {"name", "value"},
    "failure": {"message", "type"},
    "skipped": {"message"},
    "system-out": set(),
    "properties": set(),
}


def parsed(text: str) -> ElementTree.Element:
    """The XML, after a check against the shape that CI servers agree on."""
    root = ElementTree.fromstring(text.encode("utf-8"))
    assert root.tag == "testsuites"
    for element in root.iter():
        assert NEEDED[element.tag] <= set(element.keys())
        assert {child.tag for child in element} <= CHILDREN.get(element.tag, set())
    for suite in (root, *root.iter("testsuite")):
        cases = list(suite.iter("testcase"))
        assert int(suite.get("tests", "")) == len(cases)
        for outcome, counter in (("failure", "failures"), ("skipped", "skipped")):
            assert int(suite.get(counter, "")) == sum(case.find(outcome) is not None for case in cases)
    for case in root.iter("testcase"):
        assert sum(child.tag in ("failure", "skipped") for child in case) <= 1
    return root


def case_of(root: ElementTree.Element, kind: str, name: str) -> ElementTree.Element:
    return next(case for case in root.iter("testcase") if (case.get("classname"), case.get("name")) == (kind, name))


def facts(case: ElementTree.Element) -> dict[str, str]:
    return {entry.get("name", ""): entry.get("value", "") for entry in case.iter("property")}


def test_a_suite_for_each_kind_and_a_case_for_each_language() -> None:
    root = parsed(to_junit(gate_document()))
    assert [suite.get("name") for suite in root] == [
        "max_degradation",
        "presence",
        "max_disparity",
        "waiver",
        f"max_degradation:{TASK}",
        "gate",
    ]
    assert len(root[0].findall("testcase")) == 19


def test_a_failure_tells_value_interval_and_limit() -> None:
    failure = case_of(parsed(to_junit(gate_document())), "max_degradation", "Turkish (tr)").find("failure")
    assert failure is not None
    assert failure.get("type") == "FAIL"
    message = failure.get("message", "")
    assert message.startswith("FAIL tr: ")
    assert message.endswith("(+9.31% [+8.15%, +10.48%], limit 5%, smallest detectable 1.40%)")
    assert "line 3 of the policy" in (failure.text or "")


@pytest.mark.parametrize(
    ("kind", "name", "outcome"),
    [
        ("presence", "Yoruba (yo)", "failure"),
        ("max_degradation", "Hebrew (he)", "skipped"),
        ("max_degradation", "Swahili (sw)", None),
        ("max_degradation", "Arabic (ar)", None),
        ("waiver", "Turkish (tr)", "failure"),
        ("max_disparity", "all languages", "failure"),
        ("max_disparity", "group low-resource", None),
        (f"max_degradation:{TASK}", "Persian (fa)", "skipped"),  # it fails, but only warns
        (f"max_degradation:{TASK}", "Urdu (ur)", "skipped"),
        ("gate", "gate", "failure"),
    ],
)
def test_the_outcome_follows_verdict_and_severity(kind: str, name: str, outcome: str | None) -> None:
    case = case_of(parsed(to_junit(gate_document())), kind, name)
    assert [child.tag for child in case if child.tag in ("failure", "skipped")] == ([outcome] if outcome else [])


def test_a_waiver_stays_visible() -> None:
    root = parsed(to_junit(gate_document()))
    waived = case_of(root, "max_degradation", "Swahili (sw)")
    assert facts(waived)["verdict"] == "PASS (waived)"
    assert facts(waived)["waiver.owner"] == "mt-team"
    assert "waived: the next release" in waived.findtext("system-out", "")
    expired = case_of(root, "max_degradation", "Turkish (tr)")
    assert facts(expired)["waiver.state"] == "expired"
    assert {WAIVED, EXPIRED, OPEN, MISSING} == {"sw", "tr", "he", "yo"}


def test_a_gate_that_doubt_fails_is_a_failure_although_no_check_failed() -> None:
    document = gate_document(verdict="FAIL", reasons=["FAIL he: INCONCLUSIVE"])
    document["checks"] = [check for check in document["checks"] if check["verdict"] == "INCONCLUSIVE"]
    root = parsed(to_junit(document))
    assert root.get("failures") == "1"
    failure = case_of(root, "gate", "gate").find("failure")
    assert failure is not None
    assert failure.text == "FAIL he: INCONCLUSIVE"


@pytest.mark.parametrize(
    ("verdict", "outcome"), [("PASS", None), ("FAIL", "failure"), ("INCONCLUSIVE", "skipped"), ("??", "failure")]
)
def test_a_run_without_checks_still_has_its_verdict(verdict: str, outcome: str | None) -> None:
    root = parsed(to_junit(sample_run(verdict=verdict)))
    gate = case_of(root, "gate", "gate")
    assert [child.tag for child in gate] == ([outcome] if outcome else [])


def test_not_run_is_open_without_a_gate_and_a_failure_where_a_language_is_missing() -> None:
    run = sample_run(verdict="NOT-RUN", reasons=["NOT-RUN: no gate was configured"])
    assert parsed(to_junit(run)).get("failures") == "1"
    del run["languages"]["he"]
    assert parsed(to_junit(run)).get("skipped") == "1"


@given(hostile_texts())
def test_no_text_of_others_breaks_the_xml(text: str) -> None:
    for hostile in (text, f"{text}]]>\ufffe\uffff&#0;"):
        written = to_junit(hostile_gate(hostile))
        assert hidden_characters(written) == set()
        root = parsed(written)
        messages = [element.get("message", "") for element in root.iter("failure")]
        shown = visible(hostile).replace("\ufffe", "\\ufffe").replace("\uffff", "\\uffff")
        assert not shown or any(shown in message for message in messages)


@pytest.mark.parametrize("text", HOSTILE)
def test_the_same_content_gives_the_same_bytes(text: str) -> None:
    document = hostile_gate(text)
    other = shuffled(document) | {"meta": {"time": "another"}}
    assert to_junit(other) == to_junit(document)


def test_another_schema_is_refused() -> None:
    with pytest.raises(IntegrityError, match="schema"):
        to_junit({"schema": "other"})

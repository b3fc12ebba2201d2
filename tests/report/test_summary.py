from __future__ import annotations

import re

import pytest
from gate_documents import LANGUAGES, check, gate_document, gate_language, hostile_gate
from hypothesis import assume, given
from markdown_it import MarkdownIt
from report_runs import HOSTILE, hidden_characters, hostile_texts, sample_run, shuffled
from test_markdown import Rendered

from inc_laaciq.errors import IntegrityError
from inc_laaciq.report.characters import visible
from inc_laaciq.report.summary import LIMIT, N_ANNOTATIONS, annotations, to_summary

COMMAND = re.compile(r"::(error|warning|notice) ((?:[a-z]+=[^:,\r\n]*,?)+)::([^\r\n]*)")
COLUMNS = 8


def many(n: int, text: str = "") -> dict:
    """A document with n languages, all failing."""
    document = gate_document(reasons=[f"FAIL l{number}: {text}" for number in range(n)])
    document["languages"] = {
        f"l{number}": gate_language(f"L{number} {text}", number / 1e6, verdict="FAIL") for number in range(n)
    }
    document["checks"] = [
        check("max_degradation", f"l{number}", "FAIL", value=0.1, reason=f"FAIL l{number}: {text}")
        for number in range(n)
    ]
    return document


def test_the_ten_worst_languages_come_first_and_the_rest_is_folded() -> None:
    summary = to_summary(gate_document())
    before, after = summary.split("<details>", 1)
    shown = [row[0] for row in Rendered(before).rows if len(row) == COLUMNS]
    assert shown[1:11] == [
        "Turkish (tr)", "Persian (fa)", "Swahili (sw)", "Hebrew (he)", "Arabic (ar)", "Khmer (km)", "Urdu (ur)",
        "Thai (th)", "Bengali (bn)", "Korean (ko)",
    ]  # fmt: skip
    assert "10 more languages" in after
    for _, name, *_ in LANGUAGES:
        assert summary.count(f"| {name} (") >= 1
    assert summary.startswith("## FAIL: tiny-bloom-w4\n")
    assert "left out" not in summary


@pytest.mark.parametrize("n", [0, 1, 10, 11, 3000])
def test_no_number_of_languages_makes_it_too_large(n: int) -> None:
    summary = to_summary(many(n, "x" * 500))
    assert len(summary.encode("utf-8")) <= LIMIT < 1024 * 1024
    assert ("were left out" in summary) == (n == 3000)
    assert "l2999" in summary or n != 3000  # the worst is there


@pytest.mark.parametrize("limit", [0, 100, 500, 2000, 10_000])
def test_the_limit_holds_however_small(limit: int) -> None:
    size = len(to_summary(many(50, "&|" * 100), limit=limit).encode("utf-8"))
    assert size <= max(limit, 150)


@given(hostile_texts())
def test_no_text_of_others_adds_or_changes_markup(text: str) -> None:
    assume(visible(text))
    found, harmless = to_summary(hostile_gate(text)), to_summary(hostile_gate("harmless"))
    assert hidden_characters(found) == set()
    tags, expected = Rendered(found).tags, Rendered(harmless).tags
    assert [tag for tag in tags if tag != "code"] == [tag for tag in expected if tag != "code"]


def test_annotations_name_the_language_and_the_line_of_the_policy() -> None:
    assert annotations(gate_document())[:2] == [
        "::error file=ci/policy.yaml,line=3,title=FAIL Persian (fa)%3A max_degradation"
        "::FAIL fa: relative perplexity +8.131%25 against 5%25",
        "::error file=ci/policy.yaml,line=3,title=FAIL Turkish (tr)%3A max_degradation"
        "::FAIL tr: relative perplexity +9.313%25 against 5%25",
    ]
    levels = [COMMAND.fullmatch(line)[1] for line in annotations(gate_document())]  # type: ignore[index]
    assert levels == ["error"] * 5 + ["warning"] * 3


@pytest.mark.parametrize(("n", "n_lines"), [(1, 1), (10, 10), (11, 10), (500, 10)])
def test_there_are_at_most_ten_and_the_last_counts_the_rest(n: int, n_lines: int) -> None:
    lines = annotations(many(n))
    assert len(lines) == n_lines <= N_ANNOTATIONS
    assert ("more findings" in lines[-1]) == (n > 10)
    if n > 10:
        assert f"title={n - 9} more findings::" in lines[-1]


def test_a_gate_that_passes_annotates_nothing_and_one_that_fails_always_something() -> None:
    assert annotations(gate_document(verdict="PASS", checks=[])) == []
    assert annotations(sample_run()) == ["::error title=FAIL%3A tiny-bloom::FAIL he: not evaluated, no text was found"]


@pytest.mark.parametrize("text", ["a\n::error::b", "%0A::error::x", "a,file=x:y", "100%", "\r\n::stop-commands::t"])
@pytest.mark.parametrize("where", ["reason", "id", "name"])
def test_no_text_of_others_becomes_a_command_or_a_property(text: str, where: str) -> None:
    document = gate_document(checks=[check("max_degradation", "tr", "FAIL", reason=text)])
    document["languages"]["tr"]["name"] = text
    document["policy"]["source"] = text
    (line,) = annotations(document)
    found = COMMAND.fullmatch(line)
    assert found is not None
    assert [pair.split("=")[0] for pair in found[2].split(",")] == ["file", "line", "title"]
    decoded = found[3].replace("%0A", "\n").replace("%0D", "\r").replace("%25", "%")
    assert decoded == visible(text)
    assert where


@given(hostile_texts())
def test_every_annotation_is_one_line(text: str) -> None:
    for line in annotations(hostile_gate(text)):
        assert COMMAND.fullmatch(line)
        assert hidden_characters(line) == set()


@pytest.mark.parametrize("text", HOSTILE)
def test_the_same_content_gives_the_same_bytes(text: str) -> None:
    document = hostile_gate(text)
    assert to_summary(shuffled(document) | {"meta": {}}) == to_summary(document)
    assert annotations(shuffled(document)) == annotations(document)


def test_it_is_markdown_that_github_reads() -> None:
    assert "<table>" in MarkdownIt("commonmark").enable("table").render(to_summary(gate_document()))


def test_another_schema_is_refused() -> None:
    for render in (to_summary, annotations):
        with pytest.raises(IntegrityError, match="schema"):
            render({"schema": "other"})

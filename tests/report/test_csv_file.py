from __future__ import annotations

import csv
import io

import pytest
from gate_documents import LANGUAGES, TASK, gate_document, hostile_gate
from hypothesis import given
from report_runs import HOSTILE, hidden_characters, hostile_texts, sample_run, shuffled

from inc_laaciq.errors import IntegrityError
from inc_laaciq.report.csv_file import to_csv


def rows(text: str) -> list[dict[str, str]]:
    assert text.endswith("\r\n")
    read = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    assert {len(row) for row in read} == {len(read[0])}
    return [dict(zip(read[0], row, strict=True)) for row in read[1:]]


def test_a_row_for_each_language_with_all_digits() -> None:
    document = gate_document()
    found = {row["tag"]: row for row in rows(to_csv(document))}
    assert sorted(found) == sorted(tag for tag, *_ in LANGUAGES)
    for tag, entry in document["languages"].items():
        for key, value in entry.items():
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                assert float(found[tag][key]) == value
    turkish = found["tr"]
    assert (turkish["verdict"], turkish["waived"], turkish["limit"], turkish["limit_value"]) == (
        "FAIL",
        "false",
        "5%",
        "0.05",
    )
    assert (found["sw"]["waived"], found["sw"]["limit"]) == ("true", "10%")
    assert found["ur"][f"max_degradation:{TASK}"] == "0.031"
    assert found["yo"]["missing"] == "no text was found"
    assert found["yo"]["degradation"] == ""


def test_a_run_without_a_gate_has_the_same_columns() -> None:
    swahili = next(row for row in rows(to_csv(sample_run())) if row["tag"] == "sw")
    assert (swahili["degradation"], swahili["verdict"], swahili["limit"]) == ("0.0124", "", "")
    assert swahili["calibration_tokens"] == "2048"


@pytest.mark.parametrize(
    "text", ["=cmd|' /C calc'!A0", "+1+1", "-2+3", "@SUM(1)", "\t=1", "\r=1", "\n=1", "  =1", "＝1", "＋1"]
)
def test_a_formula_is_a_text(text: str) -> None:
    document = gate_document()
    document["languages"]["tr"] |= {"name": text, "script": text, "groups": [text]}
    document["languages"][text] = {"missing": text, "verdict": "NOT-RUN"}
    content = to_csv(document)
    turkish = next(row for row in rows(content) if row["tag"] == "tr")
    assert turkish["name"].startswith("'")
    cells = [cell for row in csv.reader(io.StringIO(content, newline="")) for cell in row]
    assert not [cell for cell in cells if cell[:1] in "=+@\t\r＝＋" and cell]
    assert all(float(cell) <= 0 for cell in cells if cell.startswith("-"))


def test_a_negative_number_stays_a_number() -> None:
    assert next(row for row in rows(to_csv(gate_document())) if row["tag"] == "fi")["degradation"] == "-0.0004"


@given(hostile_texts())
def test_no_text_of_others_adds_a_row_a_column_or_a_formula(text: str) -> None:
    content = to_csv(hostile_gate(text))
    assert len(rows(content)) == len(hostile_gate(text)["languages"])
    assert hidden_characters(content.replace("\r\n", "\n")) == set()
    for row in csv.reader(io.StringIO(content, newline="")):
        assert not [cell for cell in row if cell.startswith(("=", "+", "@"))]


@pytest.mark.parametrize("text", HOSTILE)
def test_the_same_content_gives_the_same_bytes(text: str) -> None:
    document = hostile_gate(text)
    assert to_csv(shuffled(document) | {"meta": {}}) == to_csv(document)


def test_another_schema_is_refused() -> None:
    with pytest.raises(IntegrityError, match="schema"):
        to_csv({"schema": "other"})

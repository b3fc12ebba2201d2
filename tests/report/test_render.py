from __future__ import annotations

import json
from pathlib import Path

import pytest
from gate_documents import gate_document

from inc_laaciq.errors import IntegrityError, NumericError, ResourceError, SpecError
from inc_laaciq.report.csv_file import to_csv
from inc_laaciq.report.html import to_html
from inc_laaciq.report.junit import to_junit
from inc_laaciq.report.markdown import to_markdown
from inc_laaciq.report.model_card import to_model_card
from inc_laaciq.report.render import FORMATS, write_reports
from inc_laaciq.report.sarif import to_sarif
from inc_laaciq.report.summary import LIMIT, to_summary

TEXTS = {
    "junit": to_junit,
    "summary": to_summary,
    "markdown": to_markdown,
    "csv": to_csv,
    "html": to_html,
    "model_card": to_model_card,
}


@pytest.fixture(autouse=True)
def _no_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)


def test_every_format_is_written_as_its_own_renderer_writes_it(tmp_path: Path) -> None:
    document = gate_document()
    write_reports(document, {kind: tmp_path / kind for kind in FORMATS})
    for kind, render in TEXTS.items():
        assert (tmp_path / kind).read_bytes() == render(document).encode("utf-8")
    assert json.loads((tmp_path / "json").read_text(encoding="utf-8")) == document
    assert json.loads((tmp_path / "sarif").read_text(encoding="utf-8")) == to_sarif(document)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(FORMATS)


def test_only_what_is_asked_for_is_written(tmp_path: Path) -> None:
    write_reports(gate_document(), {"csv": tmp_path / "a.csv"})
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]


def test_a_document_that_was_written_and_read_again_gives_the_same_reports(tmp_path: Path) -> None:
    write_reports(gate_document(), {kind: tmp_path / f"1{kind}" for kind in FORMATS})
    again = json.loads((tmp_path / "1json").read_text(encoding="utf-8"))
    write_reports(again, {kind: tmp_path / f"2{kind}" for kind in FORMATS})
    for kind in FORMATS:
        assert (tmp_path / f"1{kind}").read_bytes() == (tmp_path / f"2{kind}").read_bytes()


def test_the_summary_of_a_step_is_added_to_what_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "step"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(path))
    summary = to_summary(gate_document())
    write_reports(gate_document(), {"summary": tmp_path / "." / "step", "csv": tmp_path / "a.csv"})
    assert path.read_text(encoding="utf-8") == summary
    path.write_text("earlier", encoding="utf-8")
    write_reports(gate_document(), {"summary": path})
    assert path.read_text(encoding="utf-8") == f"earlier\n\n{summary}"
    write_reports(gate_document(), {"summary": tmp_path / "other"})
    write_reports(gate_document(), {"summary": tmp_path / "other"})
    assert (tmp_path / "other").read_text(encoding="utf-8") == summary


def test_the_limit_is_that_of_the_step_whoever_wrote_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "step"
    path.write_bytes(b"x" * (LIMIT - 1000) + b"\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(path))
    write_reports(gate_document(), {"summary": path})
    assert LIMIT - 1000 < path.stat().st_size <= LIMIT
    assert "## FAIL: tiny-bloom-w4" in path.read_text(encoding="utf-8")


def test_a_damaged_document_leaves_nothing_half_written(tmp_path: Path) -> None:
    with pytest.raises(IntegrityError, match="'checks' should be a list"):
        write_reports(gate_document(checks={}), {"csv": tmp_path / "a.csv", "json": tmp_path / "a.json"})
    with pytest.raises(NumericError, match="NaN"):
        write_reports(gate_document(disparity=float("nan")), {"json": tmp_path / "a.json", "csv": tmp_path / "a.csv"})
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_format_is_named(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"format 'pdf' is not known\. Allowed: json, sarif, junit"):
        write_reports(gate_document(), {"pdf": tmp_path / "a"})


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match="none"):
        write_reports(gate_document(), {"csv": tmp_path / "none" / "a.csv"})

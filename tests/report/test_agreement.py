"""The same figure is the same in every format: each is read back by a reader of its own and compared."""

from __future__ import annotations

import csv
import importlib.resources
import io
import json
import math
import re
from html.parser import HTMLParser
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml
from gate_documents import LANGUAGES, MISSING, gate_document, gate_language
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator, ValidationError
from rich.console import Console
from test_markdown import Rendered

from inc_laaciq.report.csv_file import to_csv
from inc_laaciq.report.html import to_html
from inc_laaciq.report.junit import to_junit
from inc_laaciq.report.markdown import to_markdown
from inc_laaciq.report.model_card import to_model_card
from inc_laaciq.report.sarif import to_sarif
from inc_laaciq.report.summary import to_summary
from inc_laaciq.report.terminal import print_run

SCHEMA = json.loads((importlib.resources.files("inc_laaciq") / "schemas" / "gate.schema.json").read_text("utf-8"))
TAGS = [tag for tag, *_ in LANGUAGES if tag != MISSING]


class Cells(HTMLParser):
    """Rows of every table of a page."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.rows: list[list[str]] = []
        self._open = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
            self._open = True

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th"):
            self.rows[-1][-1] = " ".join(self.rows[-1][-1].split())
            self._open = False

    def handle_data(self, data: str) -> None:
        if self._open:
            self.rows[-1][-1] += data


def table_of(rows: list[list[str]], first: str, second: str) -> dict[str, dict[str, str]]:
    """Rows by their first cell, with the names of their columns."""
    header = next(row for row in rows if first in row and second in row)
    start = rows.index(header) + 1
    return {row[0]: dict(zip(header, row, strict=False)) for row in rows[start:] if len(row) == len(header)}


def shown_in(document: dict[str, Any]) -> dict[str, dict[str, tuple[str, str, str, str]]]:
    """Format -> language -> degradation, its interval, relative perplexity, limit."""
    markdown = table_of(Rendered(to_markdown(document)).rows, "language", "verdict")
    summary = Rendered(to_summary(document)).rows
    page = table_of(Cells(to_html(document)).rows, "language", "verdict")
    out = io.StringIO()
    print_run(document, Console(file=out, width=200, highlight=False))
    lines = {line.split()[1]: line for line in out.getvalue().splitlines() if line.split()[:1] and line[0].isupper()}
    found: dict[str, dict[str, tuple[str, str, str, str]]] = {"markdown": {}, "summary": {}, "html": {}, "terminal": {}}
    for tag in TAGS:
        name = document["languages"][tag]["name"]
        row = markdown[f"{name} ({tag})"]
        columns = ("degradation, mnat/B", "95% interval", "perplexity", "limit")
        found["markdown"][tag] = tuple(row[column] for column in columns)  # type: ignore[assignment]
        cells = next(row for row in summary if row and row[0] == f"{name} ({tag})")
        found["summary"][tag] = (cells[3], cells[4], cells[5], cells[6])
        html = page[f"{name} {tag}"]
        found["html"][tag] = (html["degradation"], html["95% interval"], html["perplexity"], html["limit"])
        printed = re.search(r"(\S+) (\[.*?\])\s+(\S+)\s+(\S+)\s*$", lines[tag])
        assert printed is not None, lines[tag]
        value, interval, relative, limit = printed.groups()
        error = found["markdown"][tag][0].split(" ", 1)[1]
        found["terminal"][tag] = (f"{value} {error}", interval, relative, limit)
    return found


def test_texts_are_the_same_in_every_format_for_readers() -> None:
    found = shown_in(gate_document())
    assert found["markdown"]["tr"] == ("+21.3 ± 1.3", "[+18.8, +23.8]", "+9.31%", "5%")
    for kind in ("summary", "html", "terminal"):
        assert found[kind] == found["markdown"], kind


def test_numbers_are_the_same_in_every_format_for_programs() -> None:
    document = json.loads(json.dumps(gate_document()))
    table = {row["tag"]: row for row in csv.DictReader(io.StringIO(to_csv(document), newline=""))}
    card = yaml.safe_load(to_model_card(document).split("---\n")[1])["model-index"][0]["results"]
    metrics = {(r["dataset"]["config"], m["type"]): m for r in card for m in r["metrics"]}
    for tag in TAGS:
        entry = document["languages"][tag]
        for key in ("degradation", "relative_perplexity", "perplexity", "bits_per_byte"):
            assert float(table[tag][key]) == metrics[tag, key]["value"] == entry[key]
        assert metrics[tag, "degradation"]["args"]["low"] == float(table[tag]["low"]) == entry["low"]
    results = to_sarif(document)["runs"][0]["results"]
    values = {(c["kind"], c["language"]): c["value"] for c in document["checks"] if c["group"] is None}
    for result in results:
        properties = result["properties"]
        kinds = {"task_degradation": "max_degradation:belebele_{language}"}
        key = (kinds.get(result["ruleId"], result["ruleId"]), properties["language"] or None)
        assert properties.get("value") == values[key]


def test_junit_and_sarif_say_what_the_tables_say() -> None:
    document = gate_document()
    found = shown_in(document)["markdown"]
    root = ElementTree.fromstring(to_junit(document))
    cases = {case.get("name"): case for case in root.iter("testcase") if case.get("classname") == "max_degradation"}
    messages = {
        result["properties"]["language"]: result["message"]["text"]
        for result in to_sarif(document)["runs"][0]["results"]
        if result["ruleId"] == "max_degradation"
    }
    for tag in TAGS:
        facts = {
            p.get("name"): p.get("value")
            for p in cases[f"{document['languages'][tag]['name']} ({tag})"].iter("property")
        }
        assert (facts["value"], facts["limit"]) == found[tag][2:]
        if tag in messages:
            assert f"({facts['value']} {facts['interval']}, limit {facts['limit']}" in messages[tag]


@given(st.lists(st.floats(-0.5, 0.5), min_size=len(TAGS), max_size=len(TAGS)), st.floats(1e-5, 0.1))
@settings(max_examples=10)
def test_whatever_the_figures_they_agree(degradations: list[float], error: float) -> None:
    document = gate_document()
    for tag, value in zip(TAGS, degradations, strict=True):
        old = document["languages"][tag]
        figures = gate_language(old["name"], value, verdict=old["verdict"])
        document["languages"][tag] = figures | {"standard_error": error, "low": value - error, "high": value + error}
    found = shown_in(document)
    for kind in ("summary", "html", "terminal"):
        assert found[kind] == found["markdown"], kind
    for tag, value in zip(TAGS, degradations, strict=True):
        shown = float(found["html"][tag][0].split(" ")[0])
        assert math.isclose(shown, 1000 * value, abs_tol=0.0501)


def test_the_sample_keeps_the_schema_of_the_document() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    Draft202012Validator(SCHEMA).validate(gate_document())


@pytest.mark.parametrize(
    "damage",
    [
        {"schema": "inc-laaciq/gate/2"},
        {"verdict": "OK"},
        {"reasons": []},
        {"languages": {"tr": {"name": "Turkish", "verdict": "PASS", "missing": "no text"}}},
        {"languages": {"tr": {"name": "Turkish", "verdict": "PASS", "degradation": "0.1"}}},
        {"checks": [{"id": "a", "kind": "b", "verdict": "PASS", "severity": "info", "reason": "c"}]},
        {
            "waivers": [
                {"language": "tr", "owner": "a", "reason": "b", "ticket": "c", "expires": "soon", "is_expired": True}
            ]
        },
        {"baseline": None},
    ],
    ids=["version", "verdict", "reasons", "pass without figures", "text for a number", "severity", "day", "baseline"],
)
def test_the_schema_refuses_what_no_gate_writes(damage: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Draft202012Validator(SCHEMA).validate(gate_document(**damage))

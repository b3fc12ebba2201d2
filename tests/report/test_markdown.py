from __future__ import annotations

from html.parser import HTMLParser

import pytest
from gate_documents import gate_document, hostile_gate
from hypothesis import assume, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from report_runs import HOSTILE, hidden_characters, hostile_run, hostile_texts, sample_run, shuffled

from inc_laaciq.errors import IntegrityError
from inc_laaciq.report.characters import visible
from inc_laaciq.report.markdown import code, escape, to_markdown

# An independent reading of the Markdown, with raw HTML passed through, as GitHub does before it sanitizes.
RENDERER = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
ZERO_WIDTH = "\u200b"


class Rendered(HTMLParser):
    """Tags in order, and the texts of table cells and list items."""

    def __init__(self, markdown: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.rows: list[list[str]] = []
        self.items: list[str] = []
        self._target: list[str] | None = None
        self.feed(RENDERER.render(markdown))
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert all(name in ("style", "class") for name, _ in attrs)
        self.tags.append(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
            self._target = self.rows[-1]
        elif tag == "li":
            self.items.append("")
            self._target = self.items

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th", "li"):
            self._target = None

    def handle_data(self, data: str) -> None:
        if self._target is not None:
            self._target[-1] += data.replace(ZERO_WIDTH, "")


def test_the_figures_are_in_the_tables() -> None:
    shown = Rendered(to_markdown(sample_run()))
    assert shown.rows[:8] == [
        ["language", "float loss", "degradation, mnat/B", "perplexity", "INC RTN", "ratio"],
        ["Swahili (sw)", "800.0", "+12.4 ± 2.1", "+3.72%", "+24.8 ± 2.1", "0.50x"],
        ["English (en)", "800.0", "+2.1 ± 1.3", "+0.63%", "+4.2 ± 1.3", "0.50x"],
        ["Finnish (fi)", "800.0", "-0.4 ± 1.1", "-0.12%", "-0.8 ± 1.1", "n/a"],
        ["Hebrew (he)", "not evaluated: no text was found", "", "", "", ""],
        ["mean", "", "+4.7 ± 0.9", "", "+9.4 ± 0.9", "0.50x [0.41, 0.63]"],
        ["worst: sw", "", "+12.4 ± 2.1", "+3.72%", "+24.8 ± 2.1", "0.50x [0.40, 0.60]"],
        ["disparity", "", "+12.8 ± 2.4", "3.84 pp", "+25.6 ± 3.0", "0.50x [0.38, 0.70]"],
    ]
    assert ["h.0.dense", "int4 sym, groups of 64", "16,384"] in shown.rows
    assert ["model SHA-256", "ab" * 32] in shown.rows
    assert "FAIL he: not evaluated, no text was found" in shown.items
    assert "size: 4.8 MB to 2.3 MB (quantized layers 3.1 MB to 443.4 kB)" in shown.items
    assert to_markdown(sample_run()).startswith("# tiny-bloom\n\n**FAIL** (mode balanced, reconciled by mean)\n")


@given(hostile_texts())
def test_no_text_of_others_adds_or_changes_markup(text: str) -> None:
    assume(visible(text))
    for make in (hostile_run, hostile_gate):
        markdown = to_markdown(make(text))
        assert hidden_characters(markdown) == set()
        harmless = Rendered(to_markdown(make("harmless")))
        found = Rendered(markdown)
        assert [tag for tag in found.tags if tag != "code"] == [tag for tag in harmless.tags if tag != "code"]
        assert [len(row) for row in found.rows] == [len(row) for row in harmless.rows]


@given(hostile_texts() | st.text())
def test_an_escaped_text_is_shown_as_it_is_in_a_cell_and_in_a_list(text: str) -> None:
    shown = visible(text)
    assume(shown)
    assert not set("<>|`") & set(escape(shown))
    for written in (escape(shown), code(shown)):
        found = Rendered(f"| a | b |\n| - | - |\n| {written} | x |\n\n- {written}\n")
        expected = shown.replace(ZERO_WIDTH, "")
        assert found.rows[1:] == [[expected, "x"]]
        assert found.items == [expected]


@pytest.mark.parametrize(
    "text", ["https://evil.example", "www.evil.example", "WWW.evil.example", "@team", "a@b.example"]
)
def test_nobody_is_called_and_nothing_is_linked(text: str) -> None:
    # GitHub turns these into links and mentions after Markdown is rendered, unless a character stands in between.
    written = escape(text)
    assert "&#8203;" in written
    assert text not in written


def test_a_fence_in_the_configuration_does_not_end_its_block() -> None:
    run = sample_run(config={"note": "```\n# heading\n```"})
    assert "h1" not in Rendered(to_markdown(run)).tags[1:]


def test_a_run_without_languages_has_no_table_of_them() -> None:
    markdown = to_markdown({"schema": "inc-laaciq/run/1", "verdict": "NOT-RUN"})
    assert markdown.startswith("# unnamed model\n\n**NOT-RUN**\n")
    assert "degradation" not in markdown


def test_a_gate_shows_verdicts_checks_waivers_groups_and_trials() -> None:
    shown = Rendered(to_markdown(gate_document()))
    assert shown.rows[:4] == [
        ["language", "verdict", "float loss", "degradation, mnat/B", "95% interval", "perplexity", "limit",
         "detectable, mnat/B"],
        ["Turkish (tr)", "FAIL", "870.0", "+21.3 ± 1.3", "[+18.8, +23.8]", "+9.31%", "5%", "3.2"],
        ["Persian (fa)", "FAIL", "870.0", "+18.7 ± 1.3", "[+16.2, +21.2]", "+8.13%", "5%", "3.2"],
        ["Swahili (sw)", "PASS (waived)", "870.0", "+15.1 ± 1.3", "[+12.6, +17.6]", "+6.52%", "10%", "3.2"],
    ]  # fmt: skip
    for row in (
        ["Yoruba (yo)", "NOT-RUN", "not evaluated: no text was found", "", "", "", "", ""],
        ["disparity", "", "", "+21.7", "[+17.4, +25.9]", "", "", ""],
        [
            "max_disparity",
            "all languages",
            "FAIL",
            "+21.7 mnat/B",
            "[+18.1, +25.2] mnat/B",
            "10.0 mnat/B",
            "",
            "default",
        ],
        ["tr", "expired", "10%", "mt-team", "the next release has more calibration text", "LANG-tr", "2020-01-31"],
        ["script Arab", "3", "2 PASS, 1 FAIL", "+10.1", "fa +18.7"],
        ["2", "mode balanced, 4 bits", "FAIL", "tr +21.3", "21.7", "2.3 MB", "FAIL tr"],
        ["policy", "ci/policy.yaml"],
    ):
        assert row in shown.rows, row
    assert "Signature: `inc-laaciq 0.1.0" in to_markdown(gate_document()).replace("<code>", "`")


def test_another_schema_is_refused() -> None:
    with pytest.raises(IntegrityError, match="schema"):
        to_markdown({"schema": "other"})


@pytest.mark.parametrize("text", HOSTILE)
def test_the_same_content_gives_the_same_bytes(text: str) -> None:
    for document in (hostile_run(text), hostile_gate(text)):
        assert to_markdown(shuffled(document)) == to_markdown(document)

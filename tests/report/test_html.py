from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from gate_documents import gate_document, hostile_gate
from hypothesis import assume, given
from hypothesis import strategies as st
from report_runs import HOSTILE, hidden_characters, hostile_run, hostile_texts, sample_run, shuffled

from inc_laaciq.errors import IntegrityError
from inc_laaciq.report.characters import visible
from inc_laaciq.report.html import to_html

VOID = {"meta", "link", "line", "circle", "rect", "br"}


class Page(HTMLParser):
    """Tags with their attributes, in order, and the text between them."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self.declarations: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style" and data.strip():
            self.texts.append(" ".join(data.split()))

    def handle_comment(self, data: str) -> None:
        raise AssertionError(data)

    def handle_decl(self, decl: str) -> None:
        self.declarations.append(decl)

    @property
    def shape(self) -> list[tuple[str, tuple[str, ...]]]:
        return [(tag, tuple(sorted(attributes))) for tag, attributes in self.tags]


def test_it_is_one_well_formed_page_that_needs_no_network() -> None:
    page = Page(to_html(sample_run()))
    assert page.open == []
    assert page.declarations == ["DOCTYPE html"]
    names = {tag for tag, _ in page.tags}
    assert names.isdisjoint({"script", "img", "iframe", "object", "embed", "base", "form", "a", "use", "image"})
    references = [
        attributes[key]
        for _, attributes in page.tags
        for key in ("src", "href", "srcset", "data", "action", "style", "xlink:href")
        if key in attributes
    ]
    assert references == ["data:,"]
    assert "@import" not in to_html(sample_run())
    assert "url(" not in to_html(sample_run())


def test_the_browser_is_told_to_load_nothing() -> None:
    head = [attributes for tag, attributes in Page(to_html(sample_run())).tags if tag == "meta"]
    policy = next(meta["content"] for meta in head if meta.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("default-src 'none'; style-src 'unsafe-inline'; img-src data:")
    assert any(meta.get("name") == "viewport" for meta in head)


def test_the_figures_are_on_the_page() -> None:
    texts = Page(to_html(sample_run())).texts
    for shown in (
        "tiny-bloom",
        "FAIL",
        "FAIL he: not evaluated, no text was found",
        "+12.4 ± 2.1",
        "+3.72%",
        "+24.8 ± 2.1",
        "0.50x [0.41, 0.63] of",
        "3.84 pp",
        "4.8 MB to 2.3 MB",
        "not evaluated: no text was found",
        "h.0.dense",
        "float: output layer",
        "fi: 3 damaged lines were skipped.",
        "ab" * 32,
    ):
        assert shown in texts, shown
    assert any("max_degradation: 10%" in text for text in texts)


def test_each_language_of_the_plot_can_be_read_aloud() -> None:
    page = Page(to_html(sample_run()))
    images = [attributes for tag, attributes in page.tags if tag == "svg" and attributes.get("role") == "img"]
    ids = {attributes["id"] for _, attributes in page.tags if "id" in attributes}
    labelled = [set((image["aria-labelledby"] or "").split()) for image in images if "aria-labelledby" in image]
    assert len(labelled) == 3
    assert all(label <= ids for label in labelled)
    pairs = [image["aria-label"] for image in images if "aria-label" in image]
    assert pairs[0] == "Swahili: 1.154 bits per byte before, 1.172 after"
    assert len(pairs) == 3
    assert len([1 for _, attributes in page.tags if "id" in attributes]) == len(ids)
    assert "Swahili: +12.4 ± 2.1 mnat/B; INC RTN +24.8 ± 2.1" in page.texts


def test_a_gate_shows_every_verdict_in_words() -> None:
    page = Page(to_html(gate_document()))
    for badge in ("PASS (waived)", "INCONCLUSIVE", "NOT-RUN", "FAIL (warning)", "in force", "expired"):
        assert badge in page.texts
    assert "Turkish: +21.3 [+18.8, +23.8] mnat/B, limit 5%, FAIL" in page.texts
    assert page.open == []
    references = [
        attributes[key] for _, attributes in page.tags for key in ("src", "href", "style") if key in attributes
    ]
    assert references == ["data:,"]


def test_names_of_languages_are_isolated_from_the_direction_around_them() -> None:
    run = sample_run()
    run["languages"]["he"] |= {"name": "עברית"}
    page = to_html(run)
    assert page.count("עברית") == page.count('<bdi dir="auto">עברית</bdi>')


@given(hostile_texts())
def test_no_text_of_others_adds_or_changes_a_tag(text: str) -> None:
    assume(visible(text))
    for make in (hostile_run, hostile_gate):
        page = to_html(make(text))
        assert hidden_characters(page) == set()
        assert Page(page).shape == Page(to_html(make("harmless"))).shape


@pytest.mark.parametrize("text", HOSTILE)
def test_a_text_of_others_is_shown_as_it_is(text: str) -> None:
    for make, n in ((hostile_run, 8), (hostile_gate, 20)):
        assert Page(to_html(make(text))).texts.count(visible(text)) >= n


def test_only_a_known_verdict_becomes_a_class() -> None:
    page = Page(to_html(sample_run(verdict='PASS" onclick="x')))
    assert [attributes["class"] for tag, attributes in page.tags if tag == "section" and "class" in attributes] == [
        "verdict UNKNOWN"
    ]


@pytest.mark.parametrize("names", [(), ("a", "b"), ("a", "b", "c", "d", "e")], ids=len)
def test_any_number_of_comparisons(names: tuple[str, ...]) -> None:
    other = sample_run()["comparisons"]["INC RTN"]
    page = Page(to_html(sample_run(comparisons=dict.fromkeys(names, other))))
    marks = [attributes for tag, attributes in page.tags if (attributes.get("class") or "").startswith("mark")]
    assert len(marks) == (3 + 1) * (1 + len(names))
    shapes = [mark["class"] for mark in marks]
    n_shown = 1 + len(names)
    assert shapes[:n_shown] == [f"mark s{0 if number == 0 else 1 + (number - 1) % 3}" for number in range(n_shown)]
    assert shapes == shapes[:n_shown] * 4  # the legend, then each language


def test_a_run_without_languages_is_a_page_too() -> None:
    page = Page(to_html({"schema": "inc-laaciq/run/1", "verdict": "NOT-RUN", "languages": {}}))
    assert "NOT-RUN" in page.texts
    assert page.open == []


def test_another_schema_is_refused() -> None:
    with pytest.raises(IntegrityError, match="schema"):
        to_html({"schema": "other"})


@given(st.sampled_from(HOSTILE))
def test_the_same_content_gives_the_same_bytes(text: str) -> None:
    for document in (hostile_run(text), hostile_gate(text)):
        assert to_html(shuffled(document)) == to_html(document)


def test_bytes_do_not_depend_on_hash_seed_locale_or_time_zone() -> None:
    program = (
        "import hashlib, json, gate_documents, report_runs; from inc_laaciq.report.html import to_html; "
        "from inc_laaciq.report.render import _TEXTS; from inc_laaciq.report.sarif import to_sarif; "
        "runs = report_runs.sample_run(), gate_documents.gate_document(); "
        "texts = [json.dumps(to_sarif(run)) + ''.join(render(run) for render in _TEXTS.values()) for run in runs]; "
        "print(hashlib.sha256(''.join(texts).encode()).hexdigest())"
    )
    digests = set()
    for seed, locale, zone in (("0", "C", "UTC"), ("4711", "C.UTF-8", "Asia/Kathmandu")):
        paths = os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parents[2])])
        environment = os.environ | {"PYTHONHASHSEED": seed, "LC_ALL": locale, "TZ": zone, "PYTHONPATH": paths}
        done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, check=True)
        digests.add(done.stdout)
    assert len(digests) == 1
    assert len(digests.pop().strip()) == len(hashlib.sha256().hexdigest())

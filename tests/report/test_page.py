"""The page in a real browser: it is whole, readable and quiet at any width, in the light and in the dark."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from chromium import Browser, find_chromium, running_browser
from gate_documents import LANGUAGES, RIGHT_TO_LEFT, SENTENCES, gate_document, hostile_gate
from report_runs import HOSTILE, sample_run

from inc_laaciq.report.html import to_html

pytestmark = pytest.mark.chromium

WIDTHS = {"desktop": 1280, "tablet": 768, "phone": 390, "small phone": 320}

# Contrast of every visible text with what is behind it, as WCAG 2 defines it; the five least.
CONTRASTS = """(() => {
  const channels = color => color.match(/[0-9.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map(v => v / 255)
    .map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, n) => sum + v * [0.2126, 0.7152, 0.0722][n], 0);
  const behind = element => {
    for (let e = element; e; e = e.parentElement) {
      const c = channels(getComputedStyle(e).backgroundColor);
      if (c.length < 4 || c[3] === 1) return c;
    }
    return [255, 255, 255];
  };
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const text = walker.currentNode.data.trim(), element = walker.currentNode.parentElement;
    if (!text || ["title", "desc"].includes(element.tagName)) continue;
    const style = getComputedStyle(element);
    const [a, b] = [light(channels(element.tagName === "text" ? style.fill : style.color)), light(behind(element))];
    found.push([(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), text, element.className.toString()]);
  }
  return found.sort((x, y) => x[0] - y[0]).slice(0, 5);
})()"""

# What stands out of the window to the right, but for what scrolls in a box of its own.
OVERFLOW = """[...document.querySelectorAll("body *")].filter(e => !e.closest(".scroll, pre, svg"))
  .filter(e => e.getBoundingClientRect().right > innerWidth + 0.5).map(e => e.outerHTML.slice(0, 120))"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with running_browser() as running:
        yield running


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(to_html(gate_document()), tmp_path_factory.mktemp("page"))


def written(page: str, folder: Path) -> Path:
    path = folder / "report.html"
    path.write_text(page, encoding="utf-8")
    return path


@pytest.mark.parametrize("width", WIDTHS.values(), ids=WIDTHS)
def test_the_page_is_whole_quiet_and_alone_at_any_width(browser: Browser, page: Path, width: int) -> None:
    browser.open(page.as_uri(), width=width, height=900)
    text = browser.evaluate("document.body.innerText")
    for tag, name, *_ in LANGUAGES:
        assert f"{name} {tag}" in text
    for verdict in ("FAIL", "PASS", "PASS (waived)", "INCONCLUSIVE", "NOT-RUN", "FAIL (warning)"):
        assert verdict in text
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    assert browser.evaluate(OVERFLOW) == []
    assert browser.complaints() == []
    assert {url.split(":")[0] for url in browser.requests()} <= {"file", "data"}
    assert [url for url in browser.requests() if url.startswith("file")] == [page.as_uri()]


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_every_text_can_be_told_from_what_is_behind_it(browser: Browser, page: Path, dark: bool) -> None:
    browser.open(page.as_uri(), width=1280, height=900, dark=dark)
    browser.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true })")
    is_dark = browser.evaluate("getComputedStyle(document.body).backgroundColor") != "rgb(255, 255, 255)"
    assert is_dark == dark
    worst = browser.evaluate(CONTRASTS)
    assert len(worst) == 5
    assert worst[0][0] >= 4.5, worst  # WCAG AA


def test_right_to_left_text_runs_from_right_to_left(browser: Browser, page: Path) -> None:
    browser.open(page.as_uri(), width=1280, height=900)
    cells = "[...document.querySelectorAll('td.quote')]"
    for tag, text in SENTENCES.items():
        direction = browser.evaluate(
            f"getComputedStyle({cells}.find(e => e.textContent === {text!r}) || document.head).direction"
        )
        assert direction == ("rtl" if tag in RIGHT_TO_LEFT else "ltr"), tag


def test_marks_limits_and_heat_are_drawn(browser: Browser, page: Path) -> None:
    browser.open(page.as_uri(), width=1280, height=900)
    n_measured = len(LANGUAGES) - 1
    assert browser.evaluate("document.querySelectorAll('.forest.wide li:not(.axis) .mark').length") == n_measured
    assert browser.evaluate("document.querySelectorAll('.forest.wide li:not(.axis) .bound').length") == n_measured
    assert browser.evaluate("document.querySelectorAll('.pairs .dot').length") == 2 * n_measured
    colours = "new Set([...document.querySelectorAll('.heat td')].map(e => getComputedStyle(e).backgroundColor)).size"
    assert browser.evaluate(colours) >= 5
    outside = """[...document.querySelectorAll('.forest svg .mark, .forest svg .dot')].filter(e => {
      const [a, b] = [e.getBoundingClientRect(), e.closest('svg').getBoundingClientRect()];
      return a.left < b.left - 1 || a.right > b.right + 1; }).length"""
    assert browser.evaluate(outside) == 0


def test_it_prints(browser: Browser, page: Path) -> None:
    browser.open(page.as_uri(), width=1280, height=900)
    assert len(browser.call("Page.printToPDF")["data"]) > 10_000


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_texts_run_nothing_load_nothing_and_break_no_layout(
    browser: Browser, tmp_path: Path, text: str
) -> None:
    path = written(to_html(hostile_gate(text * 20)), tmp_path)
    browser.open(path.as_uri(), width=390, height=844)
    assert browser.evaluate("document.querySelectorAll('script, img, a, iframe, form, button').length") == 0
    assert browser.evaluate("document.documentElement.scrollWidth") <= 390
    assert browser.complaints() == []
    assert [url for url in browser.requests() if not url.startswith("data:")] == [path.as_uri()]


def test_no_script_runs_even_if_an_escape_were_missed(browser: Browser, tmp_path: Path) -> None:
    script = '<script>document.title = "broken"</script><img src="x" onerror="document.title = \'broken\'">'
    guarded = to_html(sample_run()).replace("<main>", f"<main>{script}")
    open_page = guarded.replace("default-src 'none'", "default-src *; script-src 'unsafe-inline'")
    titles = []
    for page in (guarded, open_page):
        browser.open(written(page, tmp_path).as_uri(), width=1280, height=900)
        titles.append(browser.evaluate("document.title"))
    assert titles == ["FAIL: tiny-bloom", "broken"]


def test_without_a_browser_the_test_is_skipped_or_fails_as_the_environment_demands(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", os.devnull)
    monkeypatch.delenv("INC_LAACIQ_REQUIRE_CHROMIUM", raising=False)
    with pytest.raises(pytest.skip.Exception, match="no chromium is installed"):
        find_chromium()
    monkeypatch.setenv("INC_LAACIQ_REQUIRE_CHROMIUM", "1")
    with pytest.raises(pytest.fail.Exception, match="INC_LAACIQ_REQUIRE_CHROMIUM is set"):
        find_chromium()

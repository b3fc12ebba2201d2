"""Articles of a page become documents, and their paragraphs lines."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from inc_laaciq.calibration.corpus import read_texts

FILE = Path(__file__).parents[2] / "recipes/udhr/text.py"


@pytest.fixture(scope="module")
def recipe():
    spec = importlib.util.spec_from_file_location("udhr_text", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def page(n):
    article = "<article><h2>Art. {0}</h2><p>First\n of <b>{0}</b> e\u0301</p><p> </p><p>Second</p></article>"
    articles = "".join(article.format(number) for number in range(1, n + 1))
    return f"<body><header><h2>Preamble</h2><p>Whereas</p></header>{articles}<p>after</p></body>"


def test_only_paragraphs_of_articles_are_kept(recipe):
    found = recipe.articles(page(30))
    assert len(found) == 30
    assert found[6] == ["First of 7 \u00e9", "Second"]


def test_a_page_without_all_articles_is_refused(recipe):
    with pytest.raises(ValueError, match="29 articles with text, not 30"):
        recipe.articles(page(29))


def test_what_is_written_is_text_by_language(recipe, tmp_path, monkeypatch):
    monkeypatch.setattr(recipe, "PAGES", {"fi": "fin"})
    (tmp_path / "declaration").mkdir()
    (tmp_path / "declaration" / "fin.html").write_text(page(30), encoding="utf-8")
    recipe.main(["--pages", str(tmp_path), "--output", str(tmp_path / "text")])
    text = read_texts(tmp_path / "text").texts["fi"]
    assert len(text.documents) == 30
    assert text.documents[0] == ("First of 1 \u00e9", "Second")

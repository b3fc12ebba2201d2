"""Build the text of the small Bloom model from Debian's LibreOffice help packages.

The help pages are the same in every language, so the splits are made by page: the hash of a page's path decides its
split in all languages. Training text is written next to the three committed splits (calibration, evaluation, holdout).

Example
-------
``python recipes/small_bloom/corpus.py --output build/corpus``
"""

from __future__ import annotations

import argparse
import hashlib
import html
import json
import re
import subprocess
import unicodedata
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

PACKAGE_VERSION = "4:7.4.7-1+deb12u14"
"""Version of every ``libreoffice-help-*`` package (Debian 12)."""

LANGUAGES = {
    "en": "en-US",
    "de": "de",
    "fr": "fr",
    "es": "es",
    "ru": "ru",
    "zh": "zh-CN",
    "ja": "ja",
    "ko": "ko",
    "tr": "tr",
    "vi": "vi",
    "id": "id",
    "el": "el",
    "fi": "fi",
    "eu": "eu",
    "hi": "hi",
    "km": "km",
}
"""Our language tag -> folder of the language in the packages; English first, as it defines what is untranslated."""

SCRIPTS = {
    "ru": "\u0400-\u04ff",
    "zh": "\u4e00-\u9fff",
    "ja": "\u3040-\u30ff\u4e00-\u9fff",
    "ko": "\uac00-\ud7af",
    "el": "\u0370-\u03ff\u1f00-\u1fff",
    "hi": "\u0900-\u097f",
    "km": "\u1780-\u17ff",
}
"""Character range that at least half of a line's letters must come from."""

HELD_OUT = ("calibration", "evaluation", "holdout")
SPLITS = ("train", *HELD_OUT)
HELD_OUT_PERCENT = 10
"""Share of the pages in each held-out split."""

HELD_OUT_BYTES = 80_000
"""Most bytes of text kept for one language in one held-out split, unless told otherwise."""

MIN_LINE_BYTES = 24
MIN_PAGE_BYTES = 100

Pages = dict[str, list[str]]
Corpus = dict[str, dict[str, Pages]]

_DROPPED = re.compile(r"<(script|style|pre)\b.*?</\1>", re.S)
_PARAGRAPH = re.compile(r"<(p|h[1-6])\b([^>]*)>(.*?)</\1>", re.S)
_CODE = re.compile(r'class="[^"]*code')
_MARKUP = re.compile(r"<[^>]+>")


def fetch(folder: Path) -> Path:
    """Download the Debian packages with apt and unpack them.

    Parameters
    ----------
    folder : Path
        Where the packages go; packages that are already there are not downloaded again.

    Returns
    -------
    Path
        Folder with one sub-folder of help pages per language.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for directory in LANGUAGES.values():
        name = f"libreoffice-help-{directory.lower()}"
        if not list(folder.glob(f"{name}_*.deb")):
            subprocess.run(["apt-get", "download", f"{name}={PACKAGE_VERSION}"], cwd=folder, check=True)
        package = next(folder.glob(f"{name}_*.deb"))
        subprocess.run(["dpkg", "-x", str(package), str(folder / "unpacked")], check=True)
    return folder / "unpacked/usr/share/libreoffice/help"


def paragraphs(page: str) -> list[str]:
    """Return the paragraphs of one help page as clean lines.

    Code listings are left out, and so are paragraphs with text that depends on the platform or application.

    Parameters
    ----------
    page : str
        HTML source.

    Returns
    -------
    list of str
        Unescaped text in NFC with single spaces.
    """
    article = page[page.index('<div id="DisplayArea"') :].partition('<div id="DEBUG"')[0]
    body = _DROPPED.sub("", article)
    lines = []
    for _, attributes, content in _PARAGRAPH.findall(body):
        if _CODE.search(attributes) or 'hidden="true"' in content:
            continue
        text = html.unescape(_MARKUP.sub("", content)).replace("\u200b", "").replace("\ufeff", "")
        lines.append(" ".join(unicodedata.normalize("NFC", text).split()))
    return lines


def read_language(tag: str, root: Path) -> Pages:
    """Read every page of one language.

    Parameters
    ----------
    tag : str
        Language tag, a key of `LANGUAGES`.
    root : Path
        Folder returned by `fetch`.

    Returns
    -------
    dict
        Page path -> lines, in the order of the paths.
    """
    base = root / LANGUAGES[tag] / "text"
    files = sorted(base.rglob("*.html"))
    return {str(file.relative_to(base)): paragraphs(file.read_text(encoding="utf-8")) for file in files}


def _page_hash(path: str) -> int:
    return int.from_bytes(hashlib.sha256(path.encode()).digest()[:8], "big")


def split_of(path: str) -> str:
    """Return the split of a page, which is the same in every language.

    Parameters
    ----------
    path : str
        Path of the page below the language's folder.

    Returns
    -------
    str
        One of `SPLITS`.
    """
    slot = _page_hash(path) % 100 // HELD_OUT_PERCENT
    return HELD_OUT[slot] if slot < len(HELD_OUT) else "train"


def in_script(tag: str, line: str) -> bool:
    """Tell whether at least half of a line's letters are in the script of the language.

    Parameters
    ----------
    tag : str
        Language tag; languages in Latin script always pass.
    line : str
        Text.

    Returns
    -------
    bool
    """
    if tag not in SCRIPTS:
        return True
    letters = [c for c in line if unicodedata.category(c)[0] in "LM"]
    matching = re.findall(f"[{SCRIPTS[tag]}]", "".join(letters))
    return bool(letters) and 2 * len(matching) >= len(letters)


def _size(lines: list[str]) -> int:
    return sum(len(line.encode()) + 1 for line in lines)


def build(raw: dict[str, Pages], held_out_bytes: int = HELD_OUT_BYTES) -> Corpus:
    """Clean and split the pages of all languages.

    A line is kept once in the whole corpus, on the first page (in hash order, held-out splits first) that has it;
    so a line that equals an English line, thus is untranslated, is dropped in the other languages.

    Parameters
    ----------
    raw : dict
        Language tag -> pages, English first.
    held_out_bytes : int
        Most bytes of text kept for one language in one held-out split.

    Returns
    -------
    dict
        Language tag -> split -> pages. The pages are in hash order.
    """
    seen: set[str] = set()
    english = {line for lines in raw["en"].values() for line in lines}
    corpus: Corpus = {}
    for tag, pages in raw.items():
        corpus[tag] = {split: {} for split in SPLITS}
        order = sorted(pages, key=lambda path: (split_of(path) == "train", _page_hash(path)))
        for path in order:
            kept = []
            for line in pages[path]:
                untranslated = tag != "en" and line in english
                if line in seen or untranslated or len(line.encode()) < MIN_LINE_BYTES or not in_script(tag, line):
                    continue
                seen.add(line)
                kept.append(line)
            split = split_of(path)
            if _size(kept) < MIN_PAGE_BYTES:
                continue
            used = sum(_size(lines) + 1 for lines in corpus[tag][split].values()) if split != "train" else 0
            if used + _size(kept) < held_out_bytes or split == "train":
                corpus[tag][split][path] = kept
    return corpus


def check(corpus: Corpus) -> None:
    """Check that the splits are separate and complete.

    Parameters
    ----------
    corpus : dict
        Result of `build`.

    Raises
    ------
    ValueError
        If a page or a line is in two splits (of any languages), or a language has no text in a split.
    """
    owner: dict[tuple[str, str], str] = {}
    for tag, splits in corpus.items():
        for split in SPLITS:
            if not splits[split]:
                raise ValueError(f"no text for {tag} in {split}")
            for path, lines in splits[split].items():
                for kind, item in [("page", path), *(("line", line) for line in lines)]:
                    if owner.setdefault((kind, item), split) != split:
                        raise ValueError(f"{kind} in {owner[kind, item]} and {split}: {item!r}")


def to_text(pages: Pages) -> str:
    """Return pages as text: one line per paragraph, one blank line between pages.

    Parameters
    ----------
    pages : dict
        Page path -> lines.

    Returns
    -------
    str
    """
    return "\n\n".join("\n".join(lines) for lines in pages.values()) + "\n"


def main() -> None:
    """Build the corpus and write it with a manifest (``corpus.json``)."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True, help="folder for the four splits and corpus.json")
    parser.add_argument("--packages", type=Path, help="folder of the Debian packages (default: OUTPUT/packages)")
    parser.add_argument(
        "--held-out-bytes",
        type=int,
        default=HELD_OUT_BYTES,
        help="most text of a language in each held-out split (default: %(default)s, as in text/)",
    )
    arguments = parser.parse_args()
    packages = arguments.packages or arguments.output / "packages"
    root = fetch(packages)
    with ProcessPoolExecutor() as executor:
        raw = dict(zip(LANGUAGES, executor.map(partial(read_language, root=root), LANGUAGES), strict=True))
    corpus = build(raw, arguments.held_out_bytes)
    check(corpus)

    digest = hashlib.sha256()
    table: dict[str, dict[str, dict[str, int]]] = {}
    print("language " + "".join(f"{split:>24}" for split in SPLITS))
    for tag, splits in corpus.items():
        table[tag] = {}
        for split, pages in splits.items():
            data = to_text(pages).encode()
            digest.update(data)
            file = arguments.output / split / f"{tag}.txt"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)
            table[tag][split] = {"pages": len(pages), "lines": sum(map(len, pages.values())), "bytes": len(data)}
        cells = (f"{table[tag][s]['pages']:>6} pages {table[tag][s]['bytes']:>8} B" for s in SPLITS)
        print(f"{tag:<9}" + "".join(f"{cell:>24}" for cell in cells))
    manifest = {
        "package_version": PACKAGE_VERSION,
        "packages": {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(packages.glob("*.deb"))},
        "sha256": digest.hexdigest(),
        "languages": table,
    }
    (arguments.output / "corpus.json").write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

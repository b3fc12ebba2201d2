"""How much of the evaluation text was seen during calibration: a verdict on seen text says too little."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable

from inc_laaciq.calibration.text import Corpus, LanguageText
from inc_laaciq.errors import DataError

MIN_CHARACTERS = 20
"""Shorter lines (headings, "Yes.") recur in unrelated text and do not count; a wide character is as good as three."""
COINCIDENCE = 0.02
"""Sentences of unrelated pages are the same up to this share ("This function is available since version 5.")."""

_SENTENCE = re.compile("(?<=[.!?\u2026\u0589\u061f\u06d4\u0964\u0965\u0f0d\u104b\u1362\u17d4\u3002\uff01\uff1f])")
"""Behind what ends a sentence: Latin, Armenian, Arabic, Urdu, Devanagari, Tibetan, Burmese, Ethiopic, Khmer, CJK."""


def overlap(calibration: Corpus, evaluation: Corpus) -> dict[str, float]:
    """Share of each language's evaluation lines that occur in the calibration text of any language.

    Parameters
    ----------
    calibration, evaluation : Corpus
        Lines are compared with white space folded and characters composed (NFC). Lines of fewer than 20 characters are
        left out, unless a language has no longer ones; one of Chinese, Japanese or Korean counts as three.

    Returns
    -------
    dict of str to float
        In [0, 1], for every language of `evaluation` that has text.
    """
    seen = {_digest(line) for text in calibration.texts.values() for line in map(_folded, text.lines)}
    return {tag: _share(map(_folded, text.lines), seen) for tag, text in evaluation.texts.items()}


def sentence_overlap(calibration: Corpus, evaluation: Corpus) -> dict[str, float]:
    """Share of each language's evaluation sentences that occur in the calibration text of any language.

    The same text is found in lines of another length: sentences against paragraphs, or text that is wrapped. It is not
    where a language does not mark the end of a sentence, such as Thai.

    Parameters
    ----------
    calibration, evaluation : Corpus
        Sentences are compared without white space and with characters composed (NFC). Short ones are left out as in
        `overlap`.

    Returns
    -------
    dict of str to float
        In [0, 1], for every language of `evaluation` that has text.
    """
    seen = {_digest(sentence) for text in calibration.texts.values() for sentence in _sentences(text)}
    return {tag: _share(_sentences(text), seen) for tag, text in evaluation.texts.items()}


def _sentences(text: LanguageText) -> list[str]:
    joined = (unicodedata.normalize("NFC", "".join("".join(document).split())) for document in text.documents)
    return [sentence for each in joined for sentence in _SENTENCE.split(each) if sentence]


def _share(texts: Iterable[str], seen: set[bytes]) -> float:
    every = list(texts)
    counted = [text for text in every if _length(text) >= MIN_CHARACTERS] or every
    return sum(_digest(text) in seen for text in counted) / len(counted)


def _folded(line: str) -> str:
    return " ".join(unicodedata.normalize("NFC", line).split())


def _length(line: str) -> int:
    return sum(3 if unicodedata.east_asian_width(character) in "WF" else 1 for character in line)


def overlap_notes(calibration: Corpus, evaluation: Corpus, *, gated: bool) -> list[str]:
    """What is to be said of evaluation text that was calibrated on: a model judged on it is judged too well.

    Raises
    ------
    DataError
        If there is any, and a gate is to judge on it.
    """
    shares, unit = {tag: share for tag, share in overlap(calibration, evaluation).items() if share > 0}, "lines"
    if not shares:
        found, unit = sentence_overlap(calibration, evaluation), "sentences"
        shares = {tag: share for tag, share in found.items() if share > COINCIDENCE}
    if not shares:
        return []
    worst = max(shares, key=lambda tag: shares[tag])
    text = (
        f"calibration and evaluation text overlap in {len(shares)} languages, most in {worst}: "
        f"{100 * shares[worst]:.1f} % of its evaluation {unit} are calibration {unit}"
    )
    if gated:
        raise DataError(f"{text}. A gate on such text passes too easily: use disjoint text")
    return [text]


def _digest(line: str) -> bytes:
    # 16 bytes a line however long the line is; a built-in hash() would collide sooner and differ from run to run.
    return hashlib.blake2b(line.encode(), digest_size=16).digest()

"""How much of the evaluation text was seen during calibration: a verdict on seen text says too little."""

from __future__ import annotations

import hashlib
import re
import unicodedata

from inc_laaciq.calibration.text import Corpus, LanguageText
from inc_laaciq.errors import DataError

MIN_CHARACTERS = 20
"""Shorter lines (headings, "Yes.") recur in unrelated text and do not count; a wide character is as good as three."""
SENTENCE_CHARACTERS = 40
"""The same for sentences, of which shorter ones are often the same in unrelated text."""
COINCIDENCE = 0.02
FEW = 5
"""Unrelated pages share some sentences ("This function is available since version 5."), in the text that ships with
the project up to 2 of 740.  What may be a coincidence is no overlap: up to 2 %, or fewer than 5 different sentences."""

_SENTENCE = re.compile(
    "(?<=[.!?\u2026\u0589\u061f\u06d4\u0964\u0965\u0f0d\u104b\u1362\u17d4\u3002\uff01\uff0e\uff1f\uff61])"
)
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
    shares = {}
    for tag, text in evaluation.texts.items():
        folded = [_folded(line) for line in text.lines]
        lines = [line for line in folded if _length(line) >= MIN_CHARACTERS] or folded
        shares[tag] = sum(_digest(line) in seen for line in lines) / len(lines)
    return shares


def sentence_overlap(calibration: Corpus, evaluation: Corpus) -> dict[str, float]:
    """Share of each language's evaluation sentences that occur in the calibration text of any language.

    The same text is found in lines of another length: sentences against paragraphs, or text that is wrapped. It is not
    where text does not mark the ends of sentences, such as Thai, verse or transcripts.

    Parameters
    ----------
    calibration, evaluation : Corpus
        Sentences are compared without white space and with characters composed (NFC). Those of fewer than 40 characters
        are left out; one of Chinese, Japanese or Korean counts as three.

    Returns
    -------
    dict of str to float
        In [0, 1], for every language of `evaluation` that has text; 0 where it may be a coincidence: up to 2 % of the
        sentences, or fewer than 5 different ones.
    """
    seen = {_digest(sentence) for text in calibration.texts.values() for sentence in _sentences(text)}
    shares = {}
    for tag, text in evaluation.texts.items():
        digests = [_digest(sentence) for sentence in _sentences(text)]
        found = [digest for digest in digests if digest in seen]
        share = len(found) / len(digests) if digests else 0.0
        shares[tag] = share if share > COINCIDENCE and len(set(found)) >= FEW else 0.0
    return shares


def _sentences(text: LanguageText) -> list[str]:
    joined = (unicodedata.normalize("NFC", "".join("".join(document).split())) for document in text.documents)
    every = (sentence for each in joined for sentence in _SENTENCE.split(each))
    return [sentence for sentence in every if _length(sentence) >= SENTENCE_CHARACTERS]


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
    by_unit = {"lines": overlap(calibration, evaluation), "sentences": sentence_overlap(calibration, evaluation)}
    shares = {
        tag: max(((found[tag], unit) for unit, found in by_unit.items()), key=lambda pair: pair[0])
        for tag in evaluation.texts
        if any(found[tag] > 0 for found in by_unit.values())
    }
    if not shares:
        return []
    worst = max(shares, key=lambda tag: shares[tag])
    share, unit = shares[worst]
    text = (
        f"calibration and evaluation text overlap in {len(shares)} languages, most in {worst}: "
        f"{100 * share:.1f} % of its evaluation {unit} are calibration {unit}"
    )
    if gated:
        raise DataError(f"{text}. A gate on such text passes too easily: use disjoint text")
    return [text]


def _digest(line: str) -> bytes:
    # 16 bytes a line however long the line is; a built-in hash() would collide sooner and differ from run to run.
    return hashlib.blake2b(line.encode(), digest_size=16).digest()

"""How much of the evaluation text was seen during calibration: a verdict on seen text says too little."""

from __future__ import annotations

import hashlib
import unicodedata

from inc_laaciq.calibration.text import Corpus
from inc_laaciq.errors import DataError

MIN_CHARACTERS = 20
"""Shorter lines (headings, "Yes.") recur in unrelated text and do not count; a wide character is as good as three."""


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
    shares = {tag: share for tag, share in overlap(calibration, evaluation).items() if share > 0}
    if not shares:
        return []
    worst = max(shares, key=lambda tag: shares[tag])
    text = (
        f"calibration and evaluation text overlap in {len(shares)} languages, most in {worst}: "
        f"{100 * shares[worst]:.1f} % of its evaluation lines are calibration lines"
    )
    if gated:
        raise DataError(f"{text}. A gate on such text passes too easily: use disjoint text")
    return [text]


def _digest(line: str) -> bytes:
    # 16 bytes a line however long the line is; a built-in hash() would collide sooner and differ from run to run.
    return hashlib.blake2b(line.encode(), digest_size=16).digest()

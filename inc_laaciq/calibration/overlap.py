"""How much of the evaluation text was seen during calibration: a verdict on seen text says too little."""

from __future__ import annotations

import hashlib

from inc_laaciq.calibration.text import Corpus

MIN_CHARACTERS = 20
"""Shorter lines (headings, "Yes.") recur in unrelated text and do not count."""


def overlap(calibration: Corpus, evaluation: Corpus) -> dict[str, float]:
    """Share of each language's evaluation lines that occur in the calibration text of any language.

    Parameters
    ----------
    calibration, evaluation : Corpus
        Lines are compared with white space folded. Lines of fewer than 20 characters are left out, unless a
        language has no longer ones.

    Returns
    -------
    dict of str to float
        In [0, 1], for every language of `evaluation` that has text.
    """
    seen = {_digest(line) for text in calibration.texts.values() for line in map(_folded, text.lines)}
    shares = {}
    for tag, text in evaluation.texts.items():
        folded = [_folded(line) for line in text.lines]
        lines = [line for line in folded if len(line) >= MIN_CHARACTERS] or folded
        shares[tag] = sum(_digest(line) in seen for line in lines) / len(lines)
    return shares


def _folded(line: str) -> str:
    return " ".join(line.split())


def _digest(line: str) -> bytes:
    # 16 bytes a line however long the line is; a built-in hash() would collide sooner and differ from run to run.
    return hashlib.blake2b(line.encode(), digest_size=16).digest()

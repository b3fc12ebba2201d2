"""A check, without any model, that text is in the script of its language.

Counts letters by script and compares them with the script that the language tag implies. It finds Cyrillic text in
a file named `el.txt`; it cannot tell Finnish from Estonian, or any two languages of one script.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable

from inc_laaciq.calibration.text import LanguageText
from inc_laaciq.languages import script

MIN_SHARE = 0.5
"""Smallest share of letters that must be in the script of the language."""

_MIN_LETTERS = 20
_MIN_NATIVE = 0.05
_SAMPLE = 200_000  # characters; enough for a share to within a percent, on the longest text

# How the Unicode names of a script's letters begin (ISO 15924 code -> beginnings).
_NAMES = {
    "Adlm": ("ADLAM",),
    "Arab": ("ARABIC",),
    "Armn": ("ARMENIAN",),
    "Beng": ("BENGALI",),
    "Cans": ("CANADIAN SYLLABICS",),
    "Cher": ("CHEROKEE",),
    "Cyrl": ("CYRILLIC",),
    "Deva": ("DEVANAGARI",),
    "Ethi": ("ETHIOPIC",),
    "Geor": ("GEORGIAN",),
    "Grek": ("GREEK",),
    "Gujr": ("GUJARATI",),
    "Guru": ("GURMUKHI",),
    "Hans": ("CJK",),
    "Hant": ("CJK",),
    "Hebr": ("HEBREW",),
    "Jpan": ("HIRAGANA", "KATAKANA"),
    "Khmr": ("KHMER",),
    "Knda": ("KANNADA",),
    "Kore": ("HANGUL",),
    "Laoo": ("LAO ",),
    "Latn": ("LATIN",),
    "Mlym": ("MALAYALAM",),
    "Mong": ("MONGOLIAN",),
    "Mtei": ("MEETEI MAYEK",),
    "Mymr": ("MYANMAR",),
    "Nkoo": ("NKO",),
    "Olck": ("OL CHIKI",),
    "Orya": ("ORIYA",),
    "Sinh": ("SINHALA",),
    "Syrc": ("SYRIAC",),
    "Taml": ("TAMIL",),
    "Telu": ("TELUGU",),
    "Tfng": ("TIFINAGH",),
    "Thaa": ("THAANA",),
    "Thai": ("THAI",),
    "Tibt": ("TIBETAN",),
    "Yiii": ("YI SYLLABLE",),
}


def script_share(text: LanguageText) -> float | None:
    """Share of the letters that are in the script of the language.

    Parameters
    ----------
    text : LanguageText
        On long text, lines at even distances are looked at.

    Returns
    -------
    float in [0, 1], or None
        None where there are fewer than 20 letters, or the script is not in the table. Han letters count for Japanese
        and Korean only where at least 5 % of the letters are kana or Hangul, as Chinese text has none.
    """
    code = script(text.tag)
    if code not in _NAMES:
        return None
    step = max(1, sum(map(len, text.lines)) // _SAMPLE)
    characters = Counter("".join(text.lines[::step]))
    names = {c: unicodedata.name(c, "").removeprefix("FULLWIDTH ").removeprefix("HALFWIDTH ") for c in characters}
    letters = {c: n for c, n in characters.items() if unicodedata.category(c).startswith("L")}
    total = sum(letters.values())
    if total < _MIN_LETTERS:
        return None
    native = sum(n for c, n in letters.items() if names[c].startswith(_NAMES[code])) / total
    if code in ("Jpan", "Kore") and native >= _MIN_NATIVE:
        native += sum(n for c, n in letters.items() if names[c].startswith("CJK")) / total
    return native


def script_mismatches(texts: Iterable[LanguageText]) -> list[str]:
    """Say which texts are mostly in another script than that of their language.

    Parameters
    ----------
    texts : iterable of LanguageText
        Any number.

    Returns
    -------
    list of str
        One sentence for each such text, with the measured share.
    """
    shares = ((text.tag, script_share(text)) for text in texts)
    return [
        f"{tag}: only {share:.0%} of the letters are {script(tag)}, the script of {tag!r}; the text may be in another "
        "language."
        for tag, share in shares
        if share is not None and share < MIN_SHARE
    ]

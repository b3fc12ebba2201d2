"""Characters that must not reach a reader as they are.

A report shows text that others wrote: names of models and layers, sources of text, notes.  A terminal obeys ANSI
escapes, and a browser reorders what follows a bidirectional override, so one hostile name could rewrite a verdict.
Here such characters become visible escapes; what is special in one format only (HTML, Markdown) is left to its
renderer.
"""

from __future__ import annotations

import unicodedata

# Format characters that ordinary Persian, Indic and emoji text needs: zero width non-joiner and joiner.
_JOINERS = frozenset({"\u200c", "\u200d"})

# Cc: control, Cf: format (bidirectional overrides, zero width, tags), Cs: lone surrogate, Zl and Zp: separators.
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


def visible(value: object) -> str:
    r"""One line of text with every hidden character shown as an escape; runs of white space become one blank.

    Parameters
    ----------
    value : object
        A text, or anything with a `str`; None gives an empty text.

    Examples
    --------
    >>> visible("bloom\x1b[31m  560m"), visible("a\u202eb"), visible(None)
    ('bloom\\x1b[31m 560m', 'a\\u202eb', '')
    """
    if value is None:
        return ""
    return "".join(_shown(character) for character in " ".join(str(value).split()))


def visible_lines(text: str) -> str:
    r"""Several lines with every hidden character shown as an escape; line ends and indents are kept.

    Examples
    --------
    >>> visible_lines("a:\n  b: \x07\n")
    'a:\n  b: \\x07'
    """
    lines = text.rstrip("\n").split("\n")
    return "\n".join("".join(_shown(character) for character in line) for line in lines)


def _shown(character: str) -> str:
    if unicodedata.category(character) not in _HIDDEN or character in _JOINERS:
        return character
    code = ord(character)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"

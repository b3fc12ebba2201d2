"""Which lines of a source are usable text, and where a line that is too long is cut.

A damaged line is skipped and counted; a source with more than a few of them is refused, because what remains
would not be the text that its owner thinks it is.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Hashable, Iterator

from inc_laaciq.calibration.text import LanguageText
from inc_laaciq.errors import DataError

MAX_LINE = 4096
"""Characters; a longer line is cut into several, so that no step downstream meets a sentence of megabytes."""

MAX_DAMAGED = 0.01
"""Largest share of damaged lines that a source may have."""

MAX_NOT_NFC = 0.01
"""Share of lines outside NFC above which the text is remarked on."""

_INVISIBLE = "\u200b\u200c\u200d\u2060\ufeff"
_JOINING_LETTERS = frozenset("\u0e33\u0eb3\uff9e\uff9f")  # letters by category, yet never the start of a grapheme
_LOOK_BACK = 256


class DamageCount:
    """Counts the damaged lines of a source and remembers the first.

    Parameters
    ----------
    name : str
        Whose lines these are, as a message should say it.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.n_lines = 0
        self.n_damaged = 0
        self._first = ""

    def accept(self) -> None:
        """Count a usable line."""
        self.n_lines += 1

    def reject(self, reason: str, *, where: str) -> None:
        """Count a line that cannot be used.

        Parameters
        ----------
        reason : str
            What is wrong with it.
        where : str
            File and line, for messages.
        """
        self.n_lines += 1
        self.n_damaged += 1
        self._first = self._first or f"{where}: {reason}"

    def check(self) -> None:
        """Refuse a source that is damaged too much.

        Raises
        ------
        DataError
            If more than 1 % of the lines were rejected.
        """
        if self.n_damaged > MAX_DAMAGED * self.n_lines:
            raise DataError(
                f"{self.name}: {self.n_damaged} of {self.n_lines} lines are damaged, more than {MAX_DAMAGED:.0%}. "
                f"The first is {self._first}. Repair the text, or save it as UTF-8 again from its source."
            )

    def notes(self) -> list[str]:
        """Return a sentence about the damage, if there is any."""
        if not self.n_damaged:
            return []
        lines = "1 damaged line was" if self.n_damaged == 1 else f"{self.n_damaged} damaged lines were"
        return [f"{self.name}: {lines} skipped of {self.n_lines}; the first is {self._first}."]


class Collector:
    """Gathers the lines of one language while they are read.

    Parameters
    ----------
    name : str
        Whose lines these are, as a message should say it.
    """

    def __init__(self, name: str) -> None:
        self.damage = DamageCount(name)
        self._documents: dict[Hashable, list[str]] = {}
        self._n_not_nfc = 0
        self._n_seen = 0
        self._n_cut = 0
        self._blank: list[int] = []
        self._last = -1

    def add(self, line: str, *, document: Hashable, where: str) -> None:
        """Take a line; a blank one is ignored, a damaged one counted.

        Parameters
        ----------
        line : str
            Text without its line end.
        document : hashable
            Which document the line belongs to; lines of a document keep their order.
        where : str
            File and line, for messages.
        """
        number, self._n_seen = self._n_seen, self._n_seen + 1
        if is_blank(line):
            self._blank.append(number)
            return
        reason = _fault(line)
        if reason:
            self.damage.reject(reason, where=where)
            return
        self.damage.accept()
        self._n_not_nfc += not unicodedata.is_normalized("NFC", line)
        pieces = list(cut(line))
        self._documents.setdefault(document, []).extend(pieces)
        self._n_cut += len(pieces) > 1
        self._last = number

    def text(self, tag: str) -> LanguageText:
        """Return the text gathered so far.

        Parameters
        ----------
        tag : str
            Canonical language tag.

        Returns
        -------
        LanguageText

        Raises
        ------
        DataError
            If more than 1 % of the lines are damaged.
        """
        self.damage.check()
        documents = tuple(map(tuple, self._documents.values()))
        return LanguageText(
            tag=tag,
            documents=documents,
            n_skipped=self.damage.n_damaged,
            n_cut=self._n_cut,
            blank=tuple(number for number in self._blank if number < self._last),
        )

    def notes(self) -> list[str]:
        """Return what was remarkable about the lines, one sentence each."""
        notes = self.damage.notes()
        if self._n_not_nfc > MAX_NOT_NFC * self.damage.n_lines:
            notes.append(
                f"{self.damage.name}: {self._n_not_nfc} of {self.damage.n_lines} lines are not in Unicode NFC "
                "(decomposed accents, for example). Text is used as it is: bytes and tokens are those of this form."
            )
        return notes


def is_blank(line: str) -> bool:
    """Tell whether a line shows nothing: white space and zero-width characters only.

    Parameters
    ----------
    line : str
        A line without its end.

    Returns
    -------
    bool
    """
    return all(character.isspace() or character in _INVISIBLE for character in line)


def cut(line: str, limit: int = MAX_LINE) -> Iterator[str]:
    """Cut a line into pieces that join to the same line again, in linear time.

    A cut falls after white space where there is some in the last quarter of a piece, else between two characters
    that are not parts of one visible character. A run of combining characters longer than 256 is cut anywhere.

    Parameters
    ----------
    line : str
        Not empty.
    limit : int
        Most characters in a piece; >= 1.

    Yields
    ------
    str
        Pieces in order.
    """
    start = 0
    while len(line) - start > limit:
        end = _cut_before(line, start + max(limit - limit // 4, 1), start + limit)
        yield line[start:end]
        start = end
    yield line[start:]


def _cut_before(line: str, first: int, last: int) -> int:
    for end in range(last, first - 1, -1):
        if line[end - 1].isspace() and not _joined(line[end - 1], line[end]):
            return end
    for end in range(last, max(first, last - _LOOK_BACK) - 1, -1):
        if not _joined(line[end - 1], line[end]):
            return end
    return last


def _joined(left: str, right: str) -> bool:
    """Tell whether two neighbours may be parts of one grapheme; errs on the side of yes."""
    if right in _JOINING_LETTERS or unicodedata.category(right) in ("Mn", "Mc", "Me", "Cf"):
        return True
    if unicodedata.category(left) == "Cf" or unicodedata.combining(left) == 9:  # a joiner, or a virama
        return True
    if "\U0001f3fb" <= right <= "\U0001f3ff":  # skin tones
        return True
    flags = "\U0001f1e6" <= left <= "\U0001f1ff" and "\U0001f1e6" <= right <= "\U0001f1ff"
    return flags or _is_jamo(right)


def _is_jamo(character: str) -> bool:
    return "\u1100" <= character <= "\u11ff" or "\ua960" <= character <= "\ua97f" or "\ud7b0" <= character <= "\ud7ff"


def _fault(line: str) -> str:
    if "\0" in line:
        return f"a NUL character in column {line.index(chr(0)) + 1}"
    try:
        line.encode()
    except UnicodeEncodeError as error:
        return f"a lone surrogate, U+{ord(line[error.start]):04X}, in column {error.start + 1}"
    return ""

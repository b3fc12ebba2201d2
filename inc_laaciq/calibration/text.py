"""Text of several languages: pages of lines, with the hashes that prove which text it was.

Nothing here reads a file or knows a tokenizer, so that every later step can take a corpus whatever it came from.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property


@dataclass(frozen=True, kw_only=True)
class LanguageText:
    """The usable text of one language, character for character as in its source.

    Parameters
    ----------
    tag : str
        Canonical language tag.
    documents : tuple of tuple of str
        Documents (pages) of lines; no document and no line is empty, no line holds a newline.
    n_skipped : int
        Lines of the source left out because they were damaged.
    n_cut : int
        Lines of the source that were cut into several because they were too long.
    blank : tuple of int
        Which lines before the last usable one were blank, counted from 0.
    """

    tag: str
    documents: tuple[tuple[str, ...], ...]
    n_skipped: int = 0
    n_cut: int = field(default=0, compare=False)
    blank: tuple[int, ...] = field(default=(), compare=False, repr=False)

    @property
    def lines(self) -> tuple[str, ...]:
        """All lines in the order of the source."""
        return tuple(line for document in self.documents for line in document)

    @cached_property
    def n_bytes(self) -> int:
        """UTF-8 bytes of the lines, without line ends."""
        return sum(len(line.encode()) for document in self.documents for line in document)

    @cached_property
    def sha256(self) -> str:
        """Hash of the lines joined with a newline, and the documents with a blank line."""
        digest = hashlib.sha256()
        for number, document in enumerate(self.documents):
            digest.update(b"\n\n" * bool(number) + "\n".join(document).encode())
        return digest.hexdigest()

    def dealt(self, seed: int) -> Iterator[tuple[int, tuple[str, ...]]]:
        """Documents in an order that depends on the seed, the language and the number of documents, on nothing else.

        A lone document keeps the order of its lines but starts at a line of the seed's choice and wraps around.

        Parameters
        ----------
        seed : int
            Any integer.

        Yields
        ------
        tuple of (int, tuple of str)
            Index into `documents`, and the lines.
        """
        if len(self.documents) == 1:
            lines = self.documents[0]
            start = int.from_bytes(self._draw(seed, 0), "big") % len(lines)
            yield 0, lines[start:] + lines[:start]
            return
        for index in sorted(range(len(self.documents)), key=lambda number: self._draw(seed, number)):
            yield index, self.documents[index]

    def in_rounds(self, seed: int) -> Iterator[tuple[int, str]]:
        """Lines in rounds: one of every document, then a second one of every document, and so on.

        A part of it speaks for as many documents as it can, which is what makes an estimate from it sure: lines of one
        document are alike.  Documents, and the lines within each, are in an order that depends on the seed.

        Parameters
        ----------
        seed : int
            Any integer.

        Yields
        ------
        tuple of (int, str)
            Index into `documents`, and the line.
        """
        order = sorted(range(len(self.documents)), key=lambda number: self._draw(seed, number))
        lines = {index: self._shuffled(seed, index) for index in order}
        for place in range(max(map(len, self.documents), default=0)):
            for index in order:
                if place < len(lines[index]):
                    yield index, self.documents[index][lines[index][place]]

    def _shuffled(self, seed: int, index: int) -> list[int]:
        """Places of a document's lines, in an order that depends on the seed."""
        return sorted(range(len(self.documents[index])), key=lambda line: self._draw(seed, index, line))

    def _draw(self, seed: int, *numbers: int) -> bytes:
        # A hash, not a random generator: the same on every version of Python and numpy.
        path = "/".join(map(str, numbers))
        return hashlib.blake2b(f"{seed}/{self.tag}/{path}".encode(), digest_size=16).digest()


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """Text of several languages, in the order of their tags.

    Parameters
    ----------
    texts : mapping of str to LanguageText
        Text by canonical tag.
    missing : tuple of str
        Languages that were asked for or have a file, but have no text. Their verdict can only be NOT-RUN.
    notes : tuple of str
        What was remarkable about the text, one sentence each; the same sentences were logged as warnings.
    skips_records : bool
        Some records of the source had no usable text or language.
    """

    texts: Mapping[str, LanguageText]
    missing: tuple[str, ...] = ()
    notes: tuple[str, ...] = field(default=(), compare=False)
    skips_records: bool = field(default=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "texts", dict(sorted(self.texts.items())))
        object.__setattr__(self, "missing", tuple(sorted(self.missing)))

    @property
    def languages(self) -> tuple[str, ...]:
        """Tags of the languages that have text."""
        return tuple(self.texts)

    def sizes(self) -> dict[str, int]:
        """UTF-8 bytes of text by language; 0 for a missing language."""
        sizes = {tag: text.n_bytes for tag, text in self.texts.items()} | dict.fromkeys(self.missing, 0)
        return dict(sorted(sizes.items()))

    @cached_property
    def sha256(self) -> str:
        """Hash over the tag and the hash of every language that has text."""
        parts = "".join(f"{tag} {text.sha256}\n" for tag, text in self.texts.items())
        return hashlib.sha256(parts.encode()).hexdigest()

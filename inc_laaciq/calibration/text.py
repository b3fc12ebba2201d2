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
    """

    tag: str
    documents: tuple[tuple[str, ...], ...]
    n_skipped: int = 0

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

    def _draw(self, seed: int, number: int) -> bytes:
        # A hash, not a random generator: the same on every version of Python and numpy.
        return hashlib.blake2b(f"{seed}/{self.tag}/{number}".encode(), digest_size=16).digest()


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
    """

    texts: Mapping[str, LanguageText]
    missing: tuple[str, ...] = ()
    notes: tuple[str, ...] = field(default=(), compare=False)

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

"""Sorts records, each a text with its language, into one collector per language.

JSONL files and data sets of the Hugging Face hub are both read as records, so both follow the same rules.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from inc_laaciq.calibration.lines import Collector, DamageCount
from inc_laaciq.errors import DataError, SpecError
from inc_laaciq.languages import canonical, canonical_languages

_SHOWN = 10


class RecordSorter:
    """Takes records in order and keeps the lines of each language apart.

    Parameters
    ----------
    source : str
        File or data set, for messages.
    wanted : collection of str, or None
        Canonical tags to keep; None keeps every language, and then refuses one that is not known.
    """

    def __init__(self, source: str, wanted: Collection[str] | None) -> None:
        self._source = source
        self._wanted = wanted
        self._damage = DamageCount(source)
        self._tags: dict[str, str] = {}
        self._unknown: dict[str, str] = {}
        self._number = 0
        self.collectors: dict[str, Collector] = {}

    def add(self, text: Any, language: Any, document: Any, *, where: str) -> None:
        """Take one record.

        Parameters
        ----------
        text : str
            Lines; anything but a string counts as a damaged line of the source.
        language : str
            Tag as the source writes it.
        document : str, int or None
            Records with the same value are one document; with None each record is a document of its own.
        where : str
            File and line, for messages.
        """
        self._number += 1
        if not isinstance(text, str) or not isinstance(language, str):
            field, value = ("language", language) if isinstance(text, str) else ("text", text)
            self.reject(f"{field} is {type(value).__name__}, not a string", where=where)
            return
        self._damage.accept()
        tag = self._canonical(language, where)
        if not tag:
            return
        collector = self.collectors.setdefault(tag, Collector(f"{self._source}, language {tag}"))
        key = ("record", self._number) if document is None else ("document", repr(document))
        for line in text.split("\n"):
            collector.add(line.removesuffix("\r"), document=key, where=where)

    def reject(self, reason: str, *, where: str) -> None:
        """Count a record that has no usable text or language.

        Parameters
        ----------
        reason : str
            What is wrong.
        where : str
            File and line, for messages.
        """
        self._damage.reject(reason, where=where)

    def finish(self) -> tuple[dict[str, Collector], list[str]]:
        """Judge the source as a whole.

        Returns
        -------
        tuple of (dict of str to Collector, list of str)
            Collectors by canonical tag, and notes about the source.

        Raises
        ------
        DataError
            If a language is not known or is written in two ways, or more than 1 % of the records are damaged.
        """
        if self._unknown and self._wanted is None:
            shown = ", ".join(f"{tag!r} ({where})" for tag, where in list(self._unknown.items())[:_SHOWN])
            raise DataError(
                f"{self._source}: {len(self._unknown)} values of the language field are no known language: {shown}. "
                "Use BCP-47 tags such as 'sw' or 'pt-BR', or list the languages to read."
            )
        try:
            canonical_languages(raw for raw, tag in self._tags.items() if tag)
        except SpecError as error:
            raise DataError(f"{self._source}: one language is written in two ways. {error}") from error
        self._damage.check()
        return self.collectors, self._damage.notes()

    def _canonical(self, language: str, where: str) -> str:
        if language in self._tags:
            return self._tags[language]
        try:
            tag = canonical(language)
        except SpecError:
            self._unknown[language] = where
            tag = ""
        if self._wanted is not None and tag not in self._wanted:
            tag = ""
        self._tags[language] = tag
        return tag

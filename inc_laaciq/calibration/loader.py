"""Token batches that remember their language, in the shape that Intel Neural Compressor's `fit` accepts."""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterator, Mapping, Sequence

import torch

from inc_laaciq.calibration.collect import Progress
from inc_laaciq.errors import DataError
from inc_laaciq.languages import canonical_languages


def _canonical(given: Mapping[str, object]) -> list[tuple[str, str]]:
    """Pairs of the tag as given and the canonical one; the same language twice is refused."""
    return list(zip(given, canonical_languages(given), strict=True))


class LanguageLoader:
    """Calibration batches by language.

    Parameters
    ----------
    batches : mapping of language -> sequence of integer tensors, shape (n, sequence_length)
        Token ids without padding.
    progress : callable(stage, done, total), optional
        Told of long work that uses these batches.
    memory : int
        Bytes that statistics over these batches may take; less costs more passes.
    text_bytes : mapping of language -> int, optional
        Size of the text that the batches were drawn from, which a quota makes forget; of each of their languages.

    Raises
    ------
    DataError
        If there is no batch at all, or `text_bytes` lacks a language.
    """

    batch_size = 1

    def __init__(
        self,
        batches: Mapping[str, Sequence[torch.Tensor]],
        *,
        progress: Progress | None = None,
        memory: int = 4 << 30,
        text_bytes: Mapping[str, int] | None = None,
    ) -> None:
        if not any(len(rows) for rows in batches.values()):
            raise DataError("calibration text gave no tokens for any language; check la_aciq.calibration.texts")
        self.batches = {tag: batches[given] for given, tag in _canonical(batches)}
        self.progress = progress
        self.memory = memory
        self._text_bytes = (
            None if text_bytes is None else {tag: text_bytes[given] for given, tag in _canonical(text_bytes)}
        )
        if self._text_bytes is not None and (lacking := [tag for tag in self.batches if tag not in self._text_bytes]):
            raise DataError(
                f"text_bytes has no size for {', '.join(lacking)}, which batches has. Give the size of every "
                "language's text, or leave text_bytes out"
            )

    def only(self, languages: Collection[str]) -> LanguageLoader:
        """The same without the other languages.

        Parameters
        ----------
        languages : collection of str
            Canonical tags that it has.
        """
        found = copy.copy(self)
        found.batches = {tag: self.batches[tag] for tag in languages}
        return found

    @property
    def n_tokens(self) -> dict[str, int]:
        """Tokens of each language."""
        return {tag: sum(batch.numel() for batch in rows) for tag, rows in self.batches.items()}

    @property
    def shares(self) -> dict[str, float]:
        """Fraction of all text that each language has; counted in tokens where the size of the text is not known."""
        sizes = self._text_bytes or self.n_tokens
        total = sum(sizes[tag] for tag in self.batches)
        return {tag: sizes[tag] / total for tag in self.batches}

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        """Every batch of every language, as keyword arguments of the model."""
        for rows in self.batches.values():
            for batch in rows:
                yield {"input_ids": batch}

    def __len__(self) -> int:
        return sum(len(rows) for rows in self.batches.values())

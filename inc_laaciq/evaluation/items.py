"""Scores of one language's items on a task, such as the questions of a benchmark, oriented so that more is worse."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from inc_laaciq.errors import EvaluationError


@dataclass(frozen=True, kw_only=True, eq=False)
class ItemScores:
    """What a model lost on every item of a task.

    Parameters
    ----------
    tag : str
        Canonical language tag.
    harm : float64 array, shape (n,)
        1 for a wrong answer and 0 for a right one; for another metric that is better when higher, its negative.
    items : tuple of str, length n
        What an item is called or hashed to; baseline and candidate are paired by it.
    is_point : bool
        There is one value for the whole language and nothing is known of single items.

    Raises
    ------
    EvaluationError
        If the lengths differ or an item is there twice.
    """

    tag: str
    harm: NDArray[np.float64]
    items: tuple[str, ...]
    is_point: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "harm", np.asarray(self.harm, dtype=np.float64))
        if self.harm.shape != (len(self.items),):
            raise EvaluationError(
                f"{self.tag}: {len(self.items)} items and scores of shape {self.harm.shape}; there must be one an item."
            )
        if len(set(self.items)) != len(self.items):
            raise EvaluationError(f"{self.tag}: an item is there twice, so scores cannot be paired.")

    @property
    def n(self) -> int:
        """Number of items."""
        return len(self.items)

    @property
    def is_binary(self) -> bool:
        """True where every item is right or wrong."""
        return bool(np.isin(self.harm, (0.0, 1.0)).all())

    @property
    def is_valid(self) -> bool:
        """True where there are items and every score is finite."""
        return self.n > 0 and bool(np.isfinite(self.harm).all())

    @property
    def fingerprint(self) -> str:
        """Hash of the items, in any order."""
        return hashlib.sha256("\n".join(sorted(self.items)).encode()).hexdigest()

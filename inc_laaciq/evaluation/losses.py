"""The losses of one language's sentences: what an evaluation measures, and what a gate and a report work from."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from inc_laaciq.errors import EvaluationError


@dataclass(frozen=True, kw_only=True, eq=False)
class SentenceLosses:
    """Loss of every scored sentence of one language.

    Parameters
    ----------
    tag : str
        Canonical language tag.
    loss : float64 array, shape (n,)
        Sum over the sentence's scored tokens of the negative log-likelihood, in nats; NaN or infinite where the
        model gave no finite value.
    tokens : int64 array, shape (n,)
        Scored tokens; >= 1.
    n_bytes : int64 array, shape (n,)
        UTF-8 bytes that the scored tokens spell.
    document : int64 array, shape (n,)
        Which document of the corpus the sentence is from.
    text_sha256 : str
        Hash of the sentences and their token ids; empty for results made elsewhere.

    Raises
    ------
    EvaluationError
        If the arrays differ in length, or are not one-dimensional.
    """

    tag: str
    loss: NDArray[np.float64]
    tokens: NDArray[np.int64]
    n_bytes: NDArray[np.int64]
    document: NDArray[np.int64]
    text_sha256: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "loss", np.asarray(self.loss, dtype=np.float64))
        for field in ("tokens", "n_bytes", "document"):
            object.__setattr__(self, field, np.asarray(getattr(self, field), dtype=np.int64))
        shapes = {field: getattr(self, field).shape for field in ("loss", "tokens", "n_bytes", "document")}
        if len(set(shapes.values())) != 1 or self.loss.ndim != 1:
            raise EvaluationError(
                f"{self.tag}: the arrays must be one-dimensional and of one length, and are {shapes}."
            )

    @property
    def n(self) -> int:
        """Number of sentences."""
        return len(self.loss)

    @property
    def loss_per_byte(self) -> float:
        """Nats per UTF-8 byte over all sentences; NaN if there are none."""
        return _ratio(self.loss.sum(), self.n_bytes.sum())

    @property
    def perplexity(self) -> float:
        """Exponential of the mean token loss; infinite where that overflows, NaN if there are no sentences."""
        with np.errstate(over="ignore"):
            return float(np.exp(_ratio(self.loss.sum(), self.tokens.sum())))

    @property
    def is_valid(self) -> bool:
        """True where there are sentences and every loss is finite."""
        return self.n > 0 and bool(np.isfinite(self.loss).all())

    @property
    def fingerprint(self) -> str:
        """Hash of what was scored, not of the losses; two results are paired sentence by sentence only if it agrees."""
        digest = hashlib.sha256(f"{self.tag}\n{self.text_sha256}\n".encode())
        for values in (self.tokens, self.n_bytes, self.document):
            digest.update(values.astype("<i8").tobytes())
        return digest.hexdigest()


def _ratio(numerator: float, denominator: float) -> float:
    return float(numerator / denominator) if denominator else float("nan")

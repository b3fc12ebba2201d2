"""The losses of one language's sentences: what an evaluation measures, and what a gate and a report work from."""

from __future__ import annotations

import hashlib
import math
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
        UTF-8 bytes that the scored tokens spell; 0 in results made elsewhere that do not tell.
    document : int64 array, shape (n,)
        Which document of the corpus the sentence is from.
    text_sha256 : str
        Hash of the sentences and their token ids; empty for results made elsewhere.
    flips : int64 array, shape (n,), optional
        Scored tokens for which the reference model's most likely token is another one; 0 to `tokens`.
    kl : float64 array, shape (n,), optional
        Sum over the scored tokens of KL(reference || this model), in nats; at least 0.
    is_point : bool
        There is one value for the whole language, and nothing is known of single sentences.

    Raises
    ------
    EvaluationError
        If the arrays differ in length, are not one-dimensional, or hold a count or a divergence that cannot be.
    """

    tag: str
    loss: NDArray[np.float64]
    tokens: NDArray[np.int64]
    n_bytes: NDArray[np.int64]
    document: NDArray[np.int64]
    text_sha256: str = ""
    flips: NDArray[np.int64] | None = None
    kl: NDArray[np.float64] | None = None
    is_point: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "loss", np.asarray(self.loss, dtype=np.float64))
        for field in ("tokens", "n_bytes", "document"):
            object.__setattr__(self, field, np.asarray(getattr(self, field), dtype=np.int64))
        if self.flips is not None:
            object.__setattr__(self, "flips", np.asarray(self.flips, dtype=np.int64))
        if self.kl is not None:
            object.__setattr__(self, "kl", np.asarray(self.kl, dtype=np.float64))
        self._check()

    def _check(self) -> None:
        fields = ("loss", "tokens", "n_bytes", "document", "flips", "kl")
        shapes = {field: values.shape for field in fields if (values := getattr(self, field)) is not None}
        if len(set(shapes.values())) != 1 or self.loss.ndim != 1:
            raise EvaluationError(
                f"{self.tag}: the arrays must be one-dimensional and of one length, and are {shapes}."
            )
        if not isinstance(self.is_point, bool) or (self.is_point and self.n != 1):
            raise EvaluationError(
                f"{self.tag}: is_point={self.is_point!r} with {self.n} values. It is True or False, and a point is one "
                "value for the whole language."
            )
        for field, ok in (
            ("tokens", self.tokens >= 1),
            ("n_bytes", self.n_bytes >= 0),
            ("flips", None if self.flips is None else (self.flips >= 0) & (self.flips <= self.tokens)),
            ("kl", None if self.kl is None else ~(self.kl < 0)),  # NaN, where a model gives it, is not refused here
        ):
            if ok is not None and not ok.all():
                place = int(np.argmin(ok))
                raise EvaluationError(
                    f"{self.tag}: {field} of sentence {place} is {getattr(self, field)[place]}, of "
                    f"{self.tokens[place]} tokens. A sentence has at least 1 token, at least 0 bytes, no more flips "
                    "than tokens, and a divergence of at least 0."
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
        try:
            # Not numpy's, whose last bit differs between its versions: equal losses are to give equal results.
            return math.exp(_ratio(self.loss.sum(), self.tokens.sum()))
        except OverflowError:
            return math.inf

    @property
    def bits_per_byte(self) -> float:
        """Bits per UTF-8 byte over all sentences; NaN if there are none."""
        return self.loss_per_byte / math.log(2)

    @property
    def loss_per_sentence(self) -> float:
        """Mean loss of a sentence, in nats; NaN if there are none. Comparable over languages in aligned text only."""
        return _ratio(self.loss.sum(), self.n)

    @property
    def fertility(self) -> float:
        """Scored tokens per UTF-8 byte that they spell; NaN if there are none."""
        return _ratio(self.tokens.sum(), self.n_bytes.sum())

    @property
    def flip_rate(self) -> float | None:
        """Share of the tokens for which this model's most likely token is not the reference's; None if not known."""
        return None if self.flips is None else _ratio(self.flips.sum(), self.tokens.sum())

    @property
    def mean_kl(self) -> float | None:
        """KL(reference || this model) in nats per token; None if not known."""
        return None if self.kl is None else _ratio(self.kl.sum(), self.tokens.sum())

    @property
    def is_valid(self) -> bool:
        """True where there are sentences and every loss is finite."""
        return self.n > 0 and bool(np.isfinite(self.loss).all())

    @property
    def fingerprint(self) -> str:
        """Hash of what was scored, not of what was found; results are paired sentence by sentence only if it agrees."""
        digest = hashlib.sha256(f"{self.tag}\n{self.text_sha256}\n".encode())
        for values in (self.tokens, self.n_bytes, self.document):
            digest.update(values.astype("<i8").tobytes())
        return digest.hexdigest()


def _ratio(numerator: float, denominator: float) -> float:
    return float(numerator / denominator) if denominator else float("nan")

"""The bootstrap: clusters drawn with replacement, and the studentized values that intervals are made of."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from inc_laaciq.evaluation.pairs import Pairs

DRAWS = 10_000
MAX_BLOCKS = 128
"""Above this number, clusters are joined at random into blocks, and the blocks are drawn."""

_CHUNK = 1 << 15  # drawn blocks that are counted at once: few enough for the cache


@dataclass(frozen=True, kw_only=True, eq=False)
class Resampled:
    """An estimate with its bootstrap distribution.

    Parameters
    ----------
    tag : str
        Canonical language tag.
    value, standard_error : float
        Of the sample itself.
    values, standard_errors : float64 array, shape (draws,)
        Of each draw.
    freedom : float
        Degrees of freedom of the standard error: the effective number of clusters minus 1.
    """

    tag: str
    value: float
    standard_error: float
    values: NDArray[np.float64]
    standard_errors: NDArray[np.float64]
    freedom: float

    @property
    def studentized(self) -> NDArray[np.float64]:
        """(value of a draw - value) / standard error of the draw, shape (draws,)."""
        return studentize(self.values - self.value, self.standard_errors)


def exact(tag: str, value: float, draws: int) -> Resampled:
    """A single value, whose noise is not known, in the form that the values of other languages have."""
    zeros = np.zeros(draws)
    return Resampled(
        tag=tag, value=value, standard_error=0.0, values=zeros + value, standard_errors=zeros, freedom=float("inf")
    )


def studentize(deviation: NDArray[np.float64], standard_error: NDArray[np.float64]) -> NDArray[np.float64]:
    """Deviation in standard errors; infinite where the standard error is 0 and the deviation is not, else 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        found: NDArray[np.float64] = deviation / standard_error
    found[deviation == 0] = 0.0
    return found


class Resampler:
    """Draws clusters; equal for equal seed, label and number of clusters.

    Parameters
    ----------
    draws : int
        Resamples of each language.
    seed : int
        0 or more.
    """

    def __init__(self, draws: int = DRAWS, seed: int = 0) -> None:
        self.draws = draws
        self.seed = seed
        self._last: tuple[str, int] | None = None
        self._last_counts: NDArray[np.float64] = np.empty((0, 0))

    def counts(self, label: str, n: int) -> NDArray[np.float64]:
        """How often each of `n` blocks is drawn in each resample, shape (draws, n); not to be written to.

        The last ones are kept, because a language is judged in several units one after the other.
        """
        if self._last != (label, n):
            self._last, self._last_counts = (label, n), self._count(label, n)
        return self._last_counts

    def _count(self, label: str, n: int) -> NDArray[np.float64]:
        drawn = self._generator(label, "draws").integers(0, n, size=(self.draws, n), dtype=np.uint16)
        found = np.empty((self.draws, n), dtype=np.float64)
        step = max(1, _CHUNK // n)
        row = n * np.arange(step)[:, None]
        for start in range(0, self.draws, step):
            part = drawn[start : start + step]
            part = part + row[: len(part)]
            found[start : start + len(part)] = np.bincount(part.ravel(), minlength=n * len(part)).reshape(-1, n)
        found.flags.writeable = False
        return found

    def blocks(self, label: str, n_clusters: int) -> NDArray[np.intp]:
        """Block of each cluster, shape (n_clusters,); every cluster has its own up to `MAX_BLOCKS`."""
        if n_clusters <= MAX_BLOCKS:
            return np.arange(n_clusters)
        return self._generator(label, "blocks").permutation(n_clusters) % MAX_BLOCKS

    def _generator(self, label: str, purpose: str) -> np.random.Generator:
        digest = hashlib.blake2b(f"{self.seed}/{purpose}/{label}".encode(), digest_size=16).digest()
        return np.random.Generator(np.random.PCG64(int.from_bytes(digest, "big")))


def resample(pairs: Pairs, resampler: Resampler) -> Resampled:
    """Bootstrap distribution of a language's estimate.

    Parameters
    ----------
    pairs : Pairs
        With at least two clusters.
    resampler : Resampler

    Notes
    -----
    With e the residual and b the size of a block, and n how often it was drawn, a draw deviates by
    sum(n e) / sum(n b), and its standard error follows from the same sums of e^2, e b and b^2, so one product with
    the matrix of counts gives all draws.  Joining clusters into blocks keeps the skewness of the mean, which is what
    the studentized bootstrap corrects for.
    """
    block = resampler.blocks(pairs.tag, pairs.n_clusters)
    e: NDArray[np.float64] = np.bincount(block, pairs.residual).astype(np.float64)
    b: NDArray[np.float64] = np.bincount(block, pairs.size).astype(np.float64)
    n = len(b)
    mean_size = b.mean()
    scale = float(np.sqrt(np.square(e).mean())) or 1.0
    e, b = e / scale, b / mean_size
    sums = resampler.counts(pairs.tag, n) @ np.stack([e, b, e * e, e * b, b * b], axis=1)
    empty = sums[:, 1] <= 0  # only clusters without bytes: says nothing, and is at most exp(-n_effective) of the draws
    sums[empty] = [0, 1, 0, 0, 0]
    deviation = sums[:, 0] / sums[:, 1]
    square = sums[:, 2] - 2 * deviation * sums[:, 3] + deviation**2 * sums[:, 4]
    error = np.sqrt(n / (n - 1) * np.maximum(square, 0.0)) / sums[:, 1]
    unit = scale / mean_size
    return Resampled(
        tag=pairs.tag,
        value=pairs.estimate,
        standard_error=pairs.standard_error,
        values=pairs.estimate + unit * deviation,
        standard_errors=unit * error,
        freedom=pairs.n_effective - 1,
    )

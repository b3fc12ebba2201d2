"""Differences between two models on the same text, summed over what is independent: documents, sentences or items.

Sentences of one document are alike, so it is documents that are drawn and counted wherever the text says which
sentences belong together.  A text that is one long document does not say so: its sentences are then taken one by one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from inc_laaciq.errors import MismatchError
from inc_laaciq.evaluation.items import ItemScores
from inc_laaciq.evaluation.losses import SentenceLosses

ClusterKind = Literal["document", "sentence", "item"]
Size = Literal["bytes", "tokens", "sentences"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Pairs:
    """Differences of one language by cluster; the estimate is `difference.sum() / size.sum()`.

    Parameters
    ----------
    tag : str
        Canonical language tag.
    difference : float64 array, shape (n_clusters,)
        Loss of the candidate minus that of the baseline, summed over a cluster; positive is worse.
    size : float64 array, shape (n_clusters,)
        What it is divided by: bytes, tokens, sentences or items of the cluster.
    kind : "document", "sentence" or "item"
        What a cluster is.
    n : int
        Sentences or items in all.
    """

    tag: str
    difference: NDArray[np.float64]
    size: NDArray[np.float64]
    kind: ClusterKind
    n: int

    @property
    def n_clusters(self) -> int:
        """Number of clusters."""
        return len(self.size)

    @property
    def estimate(self) -> float:
        """Difference for each unit of size."""
        return float(self.difference.sum() / self.size.sum())

    @property
    def residual(self) -> NDArray[np.float64]:
        """What each cluster's difference is beyond its size's share, shape (n_clusters,)."""
        residual: NDArray[np.float64] = self.difference - self.estimate * self.size
        return residual

    @property
    def standard_error(self) -> float:
        """Of the estimate; NaN or infinite where there is only one cluster, or only one with any size.

        Notes
        -----
        The jackknife over clusters: leaving one out moves the estimate by residual / (sum(size) - size), which gives
        large clusters their due; the usual linearised error is too small where a few documents hold most of the text.
        Source: Efron and Stein 1981, Annals of Statistics 9; MacKinnon, Nielsen and Webb 2023, Journal of
        Econometrics 232, on few and unequal clusters.
        """
        n = self.n_clusters
        if n < 2:
            return float("nan")
        with np.errstate(divide="ignore", invalid="ignore"):
            moved = self.residual / (self.size.sum() - self.size)
        return float(np.sqrt((n - 1) / n * np.square(moved).sum()))

    @property
    def n_effective(self) -> float:
        """Number of clusters of equal size that would say as much: sum(size)**2 / sum(size**2)."""
        return float(self.size.sum() ** 2 / np.square(self.size).sum())


def clusters(losses: SentenceLosses) -> tuple[NDArray[np.intp], ClusterKind]:
    """Cluster of each sentence, numbered from 0, and what a cluster is.

    Examples
    --------
    >>> losses = SentenceLosses(tag="sw", loss=[1, 1, 1], tokens=[1, 1, 1], n_bytes=[1, 1, 1], document=[4, 7, 7])
    >>> clusters(losses)
    (array([0, 1, 1]), 'document')
    """
    documents, cluster = np.unique(losses.document, return_inverse=True)
    if len(documents) == 1:
        return np.arange(losses.n), "sentence"
    return cluster.astype(np.intp).ravel(), "document" if len(documents) < losses.n else "sentence"


def pair_losses(candidate: SentenceLosses, baseline: SentenceLosses, size: Size) -> Pairs:
    """Pair two models sentence by sentence.

    Parameters
    ----------
    candidate, baseline : SentenceLosses
        Of the same sentences, with finite losses; at least one sentence.
    size : "bytes", "tokens" or "sentences"
        What the difference is divided by.

    Raises
    ------
    MismatchError
        If the sentences, or the tokens they were scored as, are not the same.
    """
    if candidate.fingerprint != baseline.fingerprint:
        raise MismatchError(
            f"{baseline.tag}: baseline and candidate were not scored on the same sentences (baseline "
            f"{baseline.fingerprint}, candidate {candidate.fingerprint}). Evaluate both with the same tokenizer, "
            "texts, tokens_per_language and seed."
        )
    cluster, kind = clusters(baseline)
    sizes = {"bytes": baseline.n_bytes, "tokens": baseline.tokens, "sentences": np.ones(baseline.n)}[size]
    return Pairs(
        tag=baseline.tag,
        difference=np.bincount(cluster, candidate.loss - baseline.loss).astype(np.float64),
        size=np.bincount(cluster, sizes).astype(np.float64),
        kind=kind,
        n=baseline.n,
    )


def pair_items(candidate: ItemScores, baseline: ItemScores) -> Pairs:
    """Pair two models item by item; every item is a cluster.

    Raises
    ------
    MismatchError
        If the items are not the same.
    """
    if candidate.fingerprint != baseline.fingerprint:
        raise MismatchError(
            f"{baseline.tag}: baseline and candidate did not answer the same items (baseline {baseline.n} items, "
            f"{baseline.fingerprint}; candidate {candidate.n}, {candidate.fingerprint}). Run both on the same task."
        )
    place = {item: number for number, item in enumerate(candidate.items)}
    order = [place[item] for item in baseline.items]
    return Pairs(
        tag=baseline.tag,
        difference=candidate.harm[order] - baseline.harm,
        size=np.ones(baseline.n),
        kind="item",
        n=baseline.n,
    )

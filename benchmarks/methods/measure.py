"""Losses of a model as sums over documents, and the figures of each language that follow from them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from inc_laaciq.errors import MismatchError
from inc_laaciq.evaluation.losses import SentenceLosses
from inc_laaciq.evaluation.pairs import Pairs, clusters
from inc_laaciq.evaluation.results import finite

SUMS = ("loss", "kl", "flips", "bytes", "tokens")

_DIGITS = 5
"""Of a nat, in the sums of a document: four orders below what rounding to 4 bits does to one; the files stay small."""


def document_sums(losses: SentenceLosses) -> dict[str, Any]:
    """Sums of one language over its documents, or sentences where the text is not divided into documents."""
    cluster, kind = clusters(losses)
    values = (losses.loss, losses.kl, losses.flips, losses.n_bytes, losses.tokens)
    sums: dict[str, Any] = {"kind": kind, "fingerprint": losses.fingerprint}
    for name, value in zip(SUMS, values, strict=True):
        total = np.bincount(cluster, value)
        sums[name] = np.round(total, _DIGITS).tolist() if name in ("loss", "kl") else total.astype(int).tolist()
    return sums


def language_figures(documents: Mapping[str, Any], baseline: Mapping[str, Any], tag: str) -> dict[str, Any]:
    """Degradation and divergence of one language, in nats per UTF-8 byte, with standard errors over documents.

    Parameters
    ----------
    documents, baseline : mapping
        From `document_sums`, of the quantized and of the float model.
    tag : str
        Language.

    Raises
    ------
    MismatchError
        If they were not scored on the same sentences.
    """
    if documents["fingerprint"] != baseline["fingerprint"]:
        raise MismatchError(f"{tag}: the model and the float model were not scored on the same sentences")
    size = np.array(baseline["bytes"], dtype=np.float64)
    harm = np.array(documents["loss"]) - np.array(baseline["loss"])
    figures: dict[str, Any] = {"flips": sum(documents["flips"]) / sum(documents["tokens"])}
    for name, difference in (("degradation", harm), ("kl", np.array(documents["kl"]))):
        pairs = Pairs(tag=tag, difference=difference, size=size, kind=baseline["kind"], n=len(size))
        error = "standard_error" if name == "degradation" else "kl_standard_error"
        figures |= {name: pairs.estimate, error: finite(pairs.standard_error)}
    return figures

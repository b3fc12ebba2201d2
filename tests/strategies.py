"""Hypothesis strategies: grids, weights of the kinds that break quantizers, and losses of two models on one text."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from inc_laaciq.evaluation.losses import SentenceLosses
from inc_laaciq.evaluation.measured import Evaluation
from inc_laaciq.quant.grid import Grid

bits = st.integers(2, 8)


@st.composite
def grids(draw: st.DrawFn, *, schemes: tuple[str, ...] = ("sym", "asym"), narrow: bool | None = None) -> Grid:
    """Any integer grid; `narrow` True or False fixes that choice."""
    scheme = draw(st.sampled_from(schemes))
    is_narrow = scheme == "sym" and (draw(st.booleans()) if narrow is None else narrow)
    return Grid(bits=draw(bits), scheme=scheme, narrow_range=is_narrow)


@st.composite
def weights(draw: st.DrawFn, *, min_size: int = 1) -> torch.Tensor:
    """Float32 [rows, group]: rows of zeros, single outliers, one-sided rows, magnitudes from 1e-6 to 1e4, odd sizes."""
    rows, size = draw(st.integers(1, 4)), draw(st.integers(min_size, max(33, min_size)))
    elements = st.floats(-4.0, 4.0, width=32, allow_subnormal=False)
    values = draw(hnp.arrays(np.float32, (rows, size), elements=elements))
    for row in values:
        kind = draw(st.sampled_from(["plain", "zero", "outlier", "positive", "negative", "mixed"]))
        if kind == "zero":
            row[:] = 0.0
        elif kind == "outlier":
            row[draw(st.integers(0, size - 1))] = draw(st.sampled_from([-1e2, 1e2]))
        elif kind == "positive":
            np.abs(row, out=row)
        elif kind == "negative":
            row[:] = -np.abs(row)
        elif kind == "mixed":
            row *= np.float32(10.0) ** np.resize(np.array([-5, 0, 2], dtype=np.float32), size)
        row *= np.float32(draw(st.sampled_from([1e-2, 1.0, 1e2])))
    return torch.from_numpy(values)


def sentence_losses(tag: str, loss: object, **changes: object) -> SentenceLosses:
    """Losses of sentences of 10 tokens and 40 bytes, each its own document unless told otherwise."""
    n = np.size(loss)
    fields = {"tokens": np.full(n, 10), "n_bytes": np.full(n, 40), "document": np.arange(n)} | changes
    return SentenceLosses(tag=tag, loss=loss, **fields)


def evaluation(*losses: SentenceLosses, **fields: object) -> Evaluation:
    """Results of one model."""
    return Evaluation(**({"source": "made.json", "id": "0" * 64, "losses": {of.tag: of for of in losses}} | fields))


@st.composite
def evaluations(draw: st.DrawFn, *, min_languages: int = 1) -> tuple[Evaluation, Evaluation]:
    """Candidate and baseline: languages harmed by nothing up to a lot, noisy or not, of one sentence up to 60."""
    tags = draw(st.lists(st.sampled_from(["ar", "en", "fi", "sw", "zh-Hant"]), min_size=min_languages, unique=True))
    after, before = [], []
    for tag in tags:
        n = draw(st.sampled_from([1, 2, 12, 40, 60]))
        generator = np.random.default_rng(draw(st.integers(0, 99)))
        document = np.arange(n) // draw(st.sampled_from([1, 1, 2, 30]))
        fields = {
            "tokens": generator.integers(1, 20, n),
            "n_bytes": generator.integers(0, 80, n) * draw(st.sampled_from([0, 1, 1, 1])),
            "document": document,
        }
        by_document = generator.normal(0, draw(st.sampled_from([0.0, 0.01, 0.3])), document.max() + 1)[document]
        harm = draw(st.sampled_from([0.0, 0.0, 0.04, 0.3, 20.0, -0.1])) + by_document
        loss = fields["tokens"] * generator.gamma(9, 1 / 3, n)
        before.append(sentence_losses(tag, loss, **fields))
        after.append(sentence_losses(tag, loss + fields["tokens"] * harm, **fields))
    texts = {"aligned": True}
    return evaluation(*after, texts=texts, id="1" * 64), evaluation(*before, texts=texts)

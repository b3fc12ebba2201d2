"""Differences by cluster, against a slow jackknife."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import sentence_losses

from inc_laaciq.errors import MismatchError
from inc_laaciq.evaluation.items import ItemScores
from inc_laaciq.evaluation.pairs import Pairs, clusters, pair_items, pair_losses

clustered = st.lists(st.tuples(st.floats(-10, 10), st.integers(1, 50)), min_size=2, max_size=12)


def pairs(difference, size):
    return Pairs(tag="sw", difference=np.array(difference, float), size=np.array(size, float), kind="sentence", n=1)


@given(clustered)
def test_standard_error_is_the_jackknife_with_each_cluster_left_out_in_turn(rows):
    made = pairs(*zip(*rows, strict=True))
    n = len(rows)
    total = sum(d for d, _ in rows) / sum(s for _, s in rows)
    without = [
        sum(d for j, (d, _) in enumerate(rows) if j != i) / sum(s for j, (_, s) in enumerate(rows) if j != i)
        for i in range(n)
    ]
    expected = math.sqrt((n - 1) / n * sum((value - total) ** 2 for value in without))
    assert made.estimate == pytest.approx(total)
    assert made.standard_error == pytest.approx(expected, rel=1e-6, abs=1e-9)


@given(clustered, st.sampled_from([0.25, 2.0, 1024.0]))
def test_scaling(rows, factor):
    difference, size = map(np.array, zip(*rows, strict=True))
    one, scaled = pairs(difference, size), pairs(factor * difference, size)
    assert scaled.estimate == factor * one.estimate
    assert scaled.standard_error == pytest.approx(factor * one.standard_error, rel=1e-9)
    assert pairs(difference, factor * size).n_effective == pytest.approx(one.n_effective)


def test_effective_number_of_clusters():
    assert pairs([0] * 4, [5] * 4).n_effective == 4
    assert pairs([0] * 4, [1, 0, 0, 0]).n_effective == 1
    assert pairs([0] * 2, [3, 1]).n_effective == pytest.approx(16 / 10)


def test_one_cluster_or_one_with_any_size_has_no_finite_error():
    assert math.isnan(pairs([1], [1]).standard_error)
    assert not math.isfinite(pairs([1, 1], [3, 0]).standard_error)
    assert not math.isfinite(pairs([1, 0], [3, 0]).standard_error)


@pytest.mark.parametrize(
    ("document", "cluster", "kind"),
    [
        ([7, 7, 2], [1, 1, 0], "document"),
        ([5, 5, 5], [0, 1, 2], "sentence"),
        ([3, 1, 2], [2, 0, 1], "sentence"),
        ([4], [0], "sentence"),
    ],
    ids=["documents", "one document", "all apart", "one sentence"],
)
def test_clusters(document, cluster, kind):
    found, word = clusters(sentence_losses("sw", np.zeros(len(document)), document=document))
    assert (found.tolist(), word) == (cluster, kind)


@pytest.mark.parametrize(("size", "expected"), [("bytes", [70, 5]), ("tokens", [3, 9]), ("sentences", [2, 1])])
def test_sizes_and_differences_are_summed_over_documents(size, expected):
    fields = {"n_bytes": [30, 5, 40], "tokens": [1, 9, 2], "document": [0, 1, 0]}
    made = pair_losses(sentence_losses("sw", [1.5, 2, 3], **fields), sentence_losses("sw", [1, 2, 4], **fields), size)
    assert made.size.tolist() == expected
    assert made.difference.tolist() == [-0.5, 0]
    assert (made.kind, made.n, made.n_clusters) == ("document", 3, 2)


@pytest.mark.parametrize(
    "changes",
    [{"tokens": [9, 10]}, {"n_bytes": [40, 41]}, {"document": [0, 0]}, {"text_sha256": "x"}],
    ids=["tokens", "bytes", "documents", "text"],
)
def test_other_sentences_are_refused_with_both_hashes_row63(changes):
    one, other = sentence_losses("sw", [1.0, 2.0]), sentence_losses("sw", [1.0, 2.0], **changes)
    with pytest.raises(MismatchError, match="not scored on the same sentences") as caught:
        pair_losses(other, one, "bytes")
    assert one.fingerprint in str(caught.value)
    assert other.fingerprint in str(caught.value)
    assert caught.value.exit_code == 5


def test_items_are_paired_by_name_in_any_order():
    before = ItemScores(tag="sw", harm=[0, 1, 0], items=("a", "b", "c"))
    after = ItemScores(tag="sw", harm=[1, 0, 1], items=("c", "a", "b"))
    made = pair_items(after, before)
    assert made.difference.tolist() == [0, 0, 1]
    assert (made.kind, made.n) == ("item", 3)


def test_other_items_are_refused_row63():
    before = ItemScores(tag="sw", harm=[0, 1], items=("a", "b"))
    for items in (("a", "x"), ("a",)):
        with pytest.raises(MismatchError, match="did not answer the same items"):
            pair_items(ItemScores(tag="sw", harm=[0] * len(items), items=items), before)

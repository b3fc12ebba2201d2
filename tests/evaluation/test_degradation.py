import math
import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inc_laaciq.errors import EvaluationError, MismatchError
from inc_laaciq.evaluation.degradation import Degradation, degradation, expected_range, summarize
from inc_laaciq.evaluation.losses import SentenceLosses


def losses(loss, *, n_bytes=None, document=None, tokens=None, tag="sw"):
    n = len(loss)
    return SentenceLosses(
        tag=tag,
        loss=loss,
        tokens=np.full(n, 5) if tokens is None else tokens,
        n_bytes=np.full(n, 20) if n_bytes is None else n_bytes,
        document=np.arange(n) if document is None else document,
    )


def made(tag, value, error=0.01):
    return Degradation(
        tag=tag, loss=1 + value, baseline_loss=1.0, degradation=value, standard_error=error,
        relative_perplexity=0.1, n_sentences=9, n_bytes=90, n_tokens=30,
    )  # fmt: skip


def test_degradation_is_the_ratio_of_sums():
    result = degradation(losses([11, 9], n_bytes=[30, 10]), losses([10, 8], n_bytes=[30, 10]))
    assert result.degradation == 2 / 40
    assert (result.loss, result.baseline_loss) == (20 / 40, 18 / 40)
    assert result.relative_perplexity == pytest.approx(math.exp(2 / 10) - 1)
    assert (result.n_sentences, result.n_bytes, result.n_tokens) == (2, 40, 10)
    assert result.is_valid


def test_standard_error_of_equal_sizes_is_the_textbook_one():
    rng = np.random.default_rng(0)
    difference = rng.normal(1, 2, 50)
    result = degradation(losses(difference), losses(np.zeros(50)))
    assert result.standard_error == pytest.approx(statistics.stdev(difference) / math.sqrt(50) / 20)


def test_standard_error_agrees_with_a_bootstrap_over_documents():
    rng = np.random.default_rng(1)
    document = np.repeat(np.arange(60), rng.integers(1, 9, 60))
    n_bytes = rng.integers(20, 200, len(document))
    difference = n_bytes * (0.01 + 0.02 * rng.normal(size=60)[document] + 0.01 * rng.normal(size=len(document)))
    arguments = {"n_bytes": n_bytes, "document": document}
    result = degradation(losses(difference, **arguments), losses(np.zeros(len(document)), **arguments))
    d, b = np.bincount(document, difference), np.bincount(document, n_bytes)
    draws = rng.integers(0, 60, (4000, 60))
    bootstrap = (d[draws].sum(1) / b[draws].sum(1)).std()
    assert result.standard_error == pytest.approx(bootstrap, rel=0.06)


@pytest.mark.parametrize("n_documents", [20, 3])
def test_the_same_degradation_of_every_byte_has_no_standard_error(n_documents):
    n_bytes, document = np.arange(10, 50), np.arange(40) % n_documents
    arguments = {"n_bytes": n_bytes, "document": document}
    result = degradation(losses(0.25 * n_bytes, **arguments), losses(np.zeros(40), **arguments))
    assert (result.degradation, result.standard_error) == (0.25, 0)


def test_repeating_sentences_within_documents_gains_nothing():
    rng = np.random.default_rng(2)
    difference, document = rng.normal(size=40), np.arange(40) // 4
    once = degradation(losses(difference, document=document), losses(np.zeros(40), document=document))
    twice_document = np.tile(document, 2)
    twice = degradation(
        losses(np.tile(difference, 2), document=twice_document), losses(np.zeros(80), document=twice_document)
    )
    assert twice.standard_error == pytest.approx(once.standard_error)


@pytest.mark.parametrize("n_documents", [2, 7, 8])
def test_few_documents_are_still_what_is_drawn(n_documents):
    rng = np.random.default_rng(3)
    difference, document = rng.normal(size=56), np.arange(56) % n_documents
    found = degradation(losses(difference, document=document), losses(np.zeros(56), document=document))
    sums = np.bincount(document, difference)
    n_bytes = 20 * 56
    left_out = (difference.sum() - sums) / (n_bytes - n_bytes / n_documents)
    jackknife = math.sqrt((n_documents - 1) / n_documents * np.square(left_out - found.degradation).sum())
    assert found.standard_error == pytest.approx(jackknife)


def test_one_document_falls_back_to_its_sentences():
    difference = np.random.default_rng(3).normal(size=40)
    one, each = np.zeros(40, dtype=int), np.arange(40)
    alone = degradation(losses(difference, document=one), losses(np.zeros(40), document=one))
    sentences = degradation(losses(difference, document=each), losses(np.zeros(40), document=each))
    assert alone.standard_error == sentences.standard_error


def test_text_without_bytes_has_no_degradation_by_byte():
    found = degradation(losses([2.0, 3.0], n_bytes=[0, 0]), losses([1.0, 2.0], n_bytes=[0, 0]))
    assert not found.is_valid
    assert found.relative_perplexity == pytest.approx(math.expm1(0.2))


def test_infinities_of_both_signs_give_no_degradation_row44():
    assert not degradation(losses([math.inf, 1.0]), losses([1.0, math.inf])).is_valid


def test_one_sentence_has_no_standard_error():
    assert math.isnan(degradation(losses([2.0]), losses([1.0])).standard_error)


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0, 100), st.integers(1, 500)), min_size=2, max_size=30))
def test_swapping_the_models_swaps_the_sign(rows):
    first, second, n_bytes = zip(*rows, strict=True)
    there = degradation(losses(first, n_bytes=n_bytes), losses(second, n_bytes=n_bytes))
    back = degradation(losses(second, n_bytes=n_bytes), losses(first, n_bytes=n_bytes))
    assert there.degradation == -back.degradation
    assert there.standard_error == pytest.approx(back.standard_error)
    same = degradation(losses(first, n_bytes=n_bytes), losses(first, n_bytes=n_bytes))
    assert (same.degradation, same.standard_error, same.relative_perplexity) == (0, 0, 0)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("side", ["candidate", "baseline"])
def test_nan_and_infinity_stay_visible_row44(bad, side):
    good, broken = losses([1.0, 2.0]), losses([1.0, bad])
    result = degradation(*((broken, good) if side == "candidate" else (good, broken)))
    assert not result.is_valid


def test_both_infinite_is_no_agreement_row44():
    assert not degradation(losses([math.inf, 1]), losses([math.inf, 1])).is_valid


@pytest.mark.parametrize(
    "other",
    [
        losses([1.0]),
        losses([1.0, 2.0], n_bytes=[20, 21]),
        losses([1.0, 2.0], tag="en"),
        losses([1.0, 2.0], tokens=[5, 6]),
    ],
    ids=["number", "bytes", "language", "tokens"],
)
def test_other_sentences_are_refused_with_both_hashes_row63(other):
    baseline = losses([1.0, 2.0])
    with pytest.raises(MismatchError, match="not scored on the same sentences") as caught:
        degradation(other, baseline)
    assert other.fingerprint in str(caught.value)
    assert baseline.fingerprint in str(caught.value)


def test_nothing_to_compare_is_an_error():
    with pytest.raises(EvaluationError, match="sw: there are no sentences"):
        degradation(losses([]), losses([]))


def test_summary():
    summary = summarize([made("en", 0.01, 0.003), made("sw", 0.05, 0.004), made("fi", 0.03, 0.002)])
    assert (summary.worst_language, summary.best_language) == ("sw", "en")
    assert (summary.worst, summary.worst_standard_error) == (0.05, 0.004)
    assert summary.disparity == pytest.approx(0.04)
    assert summary.disparity_standard_error == pytest.approx(0.005)
    assert summary.mean == pytest.approx(0.03)
    assert summary.mean_standard_error == pytest.approx(math.sqrt(0.003**2 + 0.004**2 + 0.002**2) / 3)


def test_one_language_has_no_disparity():
    summary = summarize([made("sw", 0.05)])
    assert (summary.worst_language, summary.best_language) == ("sw", "sw")
    assert summary.disparity == summary.disparity_standard_error == 0


def test_expected_disparity_is_the_mean_range_of_the_noise():
    rng = np.random.default_rng(0)
    alike = [made(f"l{n}", 0.02 + 0.01 * z) for n, z in enumerate(rng.normal(size=16))]
    assert summarize(alike).expected_disparity == pytest.approx(0.0353, abs=1e-4)


def test_best_language_beside_an_invalid_one_does_not_depend_on_the_order():
    some = [made("sw", 0.05), made("yo", math.nan), made("en", 0.01)]
    assert {summarize(order).best_language for order in (some, some[::-1], some[1:] + some[:1])} == {"en"}


def test_an_invalid_language_is_never_left_out_row44():
    summary = summarize([made("en", 0.01), made("yo", math.nan), made("am", math.inf)])
    assert summary.invalid == ("am", "yo")
    assert summary.worst_language == "am"
    assert summary.best_language == "en"
    assert all(math.isnan(x) for x in (summary.worst, summary.disparity, summary.mean, summary.expected_disparity))


def test_no_language_is_an_error():
    with pytest.raises(EvaluationError, match="no language to summarize"):
        summarize([])


# Mean range of n standard normal values, Tippett 1925 (tabulated as d2 in control charts).
@pytest.mark.parametrize(
    ("n", "d2"), [(1, 0), (2, 1.128), (3, 1.693), (5, 2.326), (10, 3.078), (16, 3.532), (20, 3.735)]
)
def test_expected_range_is_the_tabulated_one(n, d2):
    assert expected_range(n) == pytest.approx(d2, abs=6e-4)

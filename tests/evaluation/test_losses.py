import math

import numpy as np
import pytest

from inc_laaciq.errors import EvaluationError
from inc_laaciq.evaluation.losses import SentenceLosses


def losses(**changes):
    values = {"tag": "sw", "loss": [2.0, 4.0], "tokens": [1, 2], "n_bytes": [4, 8], "document": [0, 0]}
    return SentenceLosses(**values | changes)


def test_figures():
    assert losses().n == 2
    assert losses().loss_per_byte == 0.5
    assert losses().perplexity == pytest.approx(math.exp(2))
    assert losses().loss.dtype == np.float64
    assert losses().tokens.dtype == np.int64


@pytest.mark.parametrize(("values", "valid"), [([1, 2], True), ([1, math.nan], False), ([math.inf, 1], False)])
def test_validity(values, valid):
    assert losses(loss=values).is_valid is valid


def test_no_sentence_is_no_valid_result():
    empty = losses(loss=[], tokens=[], n_bytes=[], document=[])
    assert not empty.is_valid
    assert math.isnan(empty.loss_per_byte)
    assert math.isnan(empty.perplexity)


def test_perplexity_may_be_infinite():
    assert losses(loss=[1e6, 1e6]).perplexity == math.inf


def test_fingerprint_is_of_what_was_scored():
    same = losses(loss=[9.0, math.nan])
    assert same.fingerprint == losses().fingerprint
    others = [
        losses(tag="en"),
        losses(tokens=[2, 1]),
        losses(n_bytes=[4, 9]),
        losses(document=[0, 1]),
        losses(text_sha256="x"),
    ]
    assert len({other.fingerprint for other in [same, *others]}) == 6


@pytest.mark.parametrize("changes", [{"tokens": [1]}, {"loss": [[1.0], [2.0]]}], ids=["length", "dimension"])
def test_arrays_must_match(changes):
    with pytest.raises(EvaluationError, match="sw: the arrays must be one-dimensional and of one length"):
        losses(**changes)


def test_figures_beside_a_reference():
    compared = losses(flips=[1, 0], kl=[0.5, 0.25])
    assert compared.flip_rate == pytest.approx(1 / 3)
    assert compared.mean_kl == pytest.approx(0.25)
    assert compared.flips.dtype == np.int64
    assert compared.kl.dtype == np.float64
    assert losses().flip_rate is None
    assert losses().mean_kl is None


def test_figures_per_byte_and_sentence():
    assert losses().bits_per_byte == pytest.approx(0.5 / math.log(2))
    assert losses().fertility == pytest.approx(3 / 12)
    assert losses().loss_per_sentence == pytest.approx(3.0)
    unknown = losses(n_bytes=[0, 0])
    assert math.isnan(unknown.bits_per_byte)
    assert math.isnan(unknown.fertility)


def test_fingerprint_does_not_depend_on_the_reference():
    assert losses(flips=[1, 1], kl=[0.1, 0.2]).fingerprint == losses().fingerprint
    assert losses(flips=[0, 2], kl=[9.0, 0.0]).fingerprint == losses().fingerprint


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tokens": [1, 0]}, "tokens of sentence 1 is 0"),
        ({"n_bytes": [-1, 8]}, "n_bytes of sentence 0 is -1"),
        ({"flips": [0, 3]}, "flips of sentence 1 is 3, of 2 tokens"),
        ({"flips": [-1, 0]}, "flips of sentence 0 is -1"),
        ({"kl": [0.0, -1e-9]}, r"kl of sentence 1 is -1e-09"),
        ({"flips": [1]}, "of one length"),
        ({"kl": [[0.0], [0.0]]}, "of one length"),
        ({"is_point": True}, "is_point=True with 2 values"),
        ({"is_point": 1}, "is_point=1 with 2 values"),
    ],
)
def test_what_cannot_be_is_refused(changes, message):
    with pytest.raises(EvaluationError, match=f"sw: .*{message}"):
        losses(**changes)


def test_a_divergence_that_a_model_gave_may_be_nan_or_infinite():
    assert math.isnan(losses(kl=[math.nan, 1.0]).mean_kl)
    assert losses(kl=[math.inf, 1.0]).mean_kl == math.inf

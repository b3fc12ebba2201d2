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

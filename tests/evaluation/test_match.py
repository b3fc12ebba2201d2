"""What was not measured alike is not compared: exit code 5, with both hashes."""

from __future__ import annotations

import pytest
from strategies import evaluation

from inc_laaciq.errors import MismatchError
from inc_laaciq.evaluation.match import check_match


def refused(candidate, baseline, match, **options):
    with pytest.raises(MismatchError, match=match) as caught:
        check_match(candidate, baseline, **options)
    assert caught.value.exit_code == 5
    return str(caught.value)


def test_equal_and_unknown_things_match():
    check_match(evaluation(), evaluation())
    known = evaluation(tokenizer={"sha256": "a"}, model={"kind": "float", "sha256": "a"})
    check_match(known, evaluation())
    check_match(evaluation(), known)
    check_match(known, known)


def test_another_tokenizer_row63():
    said = refused(
        evaluation(tokenizer={"sha256": "aaa"}, source="one.json"),
        evaluation(tokenizer={"sha256": "bbb"}, source="two.json"),
        "tokenizer",
    )
    assert "bbb in two.json, aaa in one.json" in said


def test_another_float_model_row63():
    candidate = evaluation(model={"kind": "inc", "sha256": "aaa"})
    refused(candidate, evaluation(model={"kind": "float", "sha256": "bbb"}), "float model")
    check_match(candidate, evaluation(model={"kind": "float", "sha256": "aaa"}))
    two_floats = (evaluation(model={"kind": "float", "sha256": value}) for value in "ab")
    check_match(*two_floats)


def test_a_quantized_baseline_of_a_float_candidate_is_the_wrong_way_round():
    float_, quantized = (evaluation(model={"kind": kind, "sha256": "a"}) for kind in ("float", "inc"))
    refused(float_, quantized, "wrong way round")
    check_match(float_, quantized, is_previous=True)
    check_match(quantized, float_)


def test_a_quantized_model_is_not_its_own_baseline():
    first, second = (evaluation(model={"kind": "inc", "sha256": "a"}, id=value * 64) for value in "01")
    refused(first, first, "same results of a quantized model")
    check_match(first, second)
    check_match(first, first, is_previous=True)


@pytest.mark.parametrize("key", ["version", "n_shot", "doc_hash", "prompt_hash", "target_hash"])
def test_another_task_row63(key):
    one, other = (evaluation(texts={"tasks": {"belebele_swh": {key: value}}}) for value in ("x1", "x2"))
    said = refused(one, other, f"{key} of task 'belebele_swh'")
    assert "x1" in said
    assert "x2" in said
    check_match(one, one)
    check_match(one, evaluation(texts={"tasks": {"belebele_swh": {}}}))
    check_match(one, evaluation(texts={"tasks": None}))


def test_another_baseline_than_the_policy_names():
    said = refused(evaluation(), evaluation(id="b" * 64), "accepts only the baseline", baseline_id="a" * 64)
    assert "a" * 64 in said
    assert "b" * 64 in said
    check_match(evaluation(), evaluation(id="a" * 64), baseline_id="a" * 64)

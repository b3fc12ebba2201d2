from __future__ import annotations

from typing import Any

import pytest

from inc_laaciq.checkpoint.remote_code import check_code, code_references, is_commit
from inc_laaciq.errors import ModelError

OWN = {"model_type": "own", "auto_map": {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnModel"}}


def check(config: Any, tokenizer: Any = None, *, trust: bool = False, pinned: bool = True) -> tuple[str, ...]:
    return check_code(config, tokenizer or {}, source="org/own", trust_remote_code=trust, pinned=pinned)


def test_code_is_refused_unless_allowed() -> None:
    with pytest.raises(ModelError, match=r"org/own: needs code .*own\.OwnConfig, own\.OwnModel.*--trust-remote-code"):
        check(OWN)
    assert check(OWN, trust=True) == ("Code of the model itself was run: own.OwnConfig, own.OwnModel.",)


def test_code_must_be_pinned() -> None:
    with pytest.raises(ModelError, match="pinned to a commit of 40 hexadecimal digits"):
        check(OWN, trust=True, pinned=False)


@pytest.mark.parametrize("reference", ["other/repo--own.OwnModel", "../x.Own", "OwnModel", "/x.Own", "a.b.Own"])
def test_code_of_another_place_is_refused(reference: str) -> None:
    config = {"model_type": "own", "auto_map": {"AutoModelForCausalLM": reference}}
    with pytest.raises(ModelError, match="its code lies outside the model"):
        check(config, trust=True)


def test_a_known_model_does_not_need_its_own_code() -> None:
    config = {"model_type": "llama", "auto_map": {"AutoModelForCausalLM": "own.OwnModel"}}
    assert check(config) == ("The model comes with code of its own, which was not run.",)


def test_a_known_model_without_code() -> None:
    assert check({"model_type": "llama"}) == ()
    assert check({"model_type": "llama"}, trust=True, pinned=False) == ()


@pytest.mark.parametrize("model_type", ["own", None, 3, ["llama"]], ids=repr)
def test_an_unknown_model_without_code(model_type: Any) -> None:
    with pytest.raises(ModelError, match=r"in config.json is unknown to transformers"):
        check({"model_type": model_type})


@pytest.mark.parametrize("auto_map", [{"AutoTokenizer": ["own.Slow", None]}, ["own.Slow", None]], ids=["map", "list"])
def test_code_of_a_tokenizer_counts(auto_map: Any) -> None:
    tokenizer = {"auto_map": auto_map}
    assert code_references({}, tokenizer) == ("own.Slow",)
    with pytest.raises(ModelError, match="pinned"):
        check({"model_type": "llama"}, tokenizer, trust=True, pinned=False)


@pytest.mark.parametrize("auto_map", [None, 3, "own.Model", {}, {"AutoModelForMaskedLM": "own.Masked"}], ids=repr)
def test_other_values_of_a_config_are_no_causal_model(auto_map: Any) -> None:
    assert code_references({"auto_map": auto_map}, {}) == ()


@pytest.mark.parametrize(
    "config",
    [
        {"attn_implementation": "evil/kernel"},
        {"_attn_implementation": "evil/kernel@main:x"},
        {"_attn_implementation_internal": "paged|evil/kernel"},
        {"experts_implementation": "evil/kernel"},
        {"text_config": {"attn_implementation": "evil/kernel"}},
        {"attn_implementation": {"text_config": "evil/kernel", "": "sdpa"}},
        {"layers": [{"attn_implementation": ["evil/kernel"]}]},
    ],
    ids=repr,
)
@pytest.mark.parametrize("trust", [False, True])
def test_kernels_from_elsewhere_are_refused(config: Any, trust: bool) -> None:
    with pytest.raises(ModelError, match=r"asks for compiled code from elsewhere .*evil/kernel"):
        check({"model_type": "llama", **config}, trust=trust)


def test_own_implementations_are_fine() -> None:
    assert check({"model_type": "llama", "attn_implementation": "sdpa", "name": "org/model"}) == ()


def test_a_commit_has_forty_digits() -> None:
    assert is_commit("0123456789abcdef" * 2 + "01234567")
    assert not any(
        is_commit(revision) for revision in (None, "main", "0" * 39, "0" * 41, "0" * 39 + "G", "0" * 40 + "\n")
    )


def test_code_of_a_tokenizer_that_the_config_names_counts() -> None:
    config = {"model_type": "llama", "auto_map": {"AutoTokenizer": ["other/repo--tok.Slow", None]}}
    with pytest.raises(ModelError, match=r"its code lies outside the model \(other/repo--tok\.Slow\)"):
        check(config, trust=True)

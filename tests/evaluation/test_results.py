"""`results.json`: what is written is read back, and a damaged file is named, whoever damaged it."""

from __future__ import annotations

import base64
import copy
import json
import math
import zlib
from pathlib import Path

import numpy as np
import pytest

import inc_laaciq
from inc_laaciq.errors import IntegrityError
from inc_laaciq.evaluation.arrays import encode
from inc_laaciq.evaluation.losses import SentenceLosses
from inc_laaciq.evaluation.results import canonical_sha256, content_id, read_results, results_dict
from inc_laaciq.output import write_json_atomic

SCHEMA = json.loads((Path(inc_laaciq.__file__).parent / "schemas" / "results.schema.json").read_text(encoding="utf-8"))
SHA = "ab" * 32


def losses(tag="sw", n=40, **changes):
    generator = np.random.default_rng(len(tag))
    tokens = generator.integers(5, 400, n)
    values = {
        "loss": generator.uniform(20, 80, n),
        "tokens": tokens,
        "n_bytes": tokens * 3,
        "document": np.arange(n) // 3,
        "text_sha256": "x",
        "flips": tokens // 5,
        "kl": generator.uniform(0, 2, n),
    }
    return SentenceLosses(tag=tag, **values | changes)


def results(*measured, **more):
    provenance = {
        "meta": {"time": "2026-11-22T06:40:00+00:00", "versions": {"torch": "2.13"}, "threads": 2},
        "model": {"name": "tiny", "sha256": SHA, "kind": "inc"},
        "tokenizer": {"sha256": SHA},
        "texts": {"source": "text/evaluation", "sha256": SHA, "tokens_per_language": 0, "seed": 0, "aligned": True},
        "missing": {"yo": "no text was found"},
    }
    return results_dict({one.tag: one for one in measured or (losses("sw"), losses("en-GB"))}, **provenance | more)


@pytest.fixture
def written(tmp_path):
    def write(content):
        file = tmp_path / "results.json"
        write_json_atomic(file, content)
        return file

    return write


def test_what_is_written_is_read(written):
    before = {one.tag: one for one in (losses("sw"), losses("en-GB", flips=None, kl=None))}
    content = results(*before.values())
    back = read_results(file := written(content))
    assert back.source == str(file)
    assert back.name == "tiny"
    assert back.model == content["model"]
    assert back.texts["aligned"] is True
    assert back.tokenizer == {"sha256": SHA}
    assert back.missing == {"yo": "no text was found"}
    assert list(back.losses) == ["en-GB", "sw"]
    for tag, one in before.items():
        assert back.losses[tag].fingerprint == one.fingerprint
        assert back.losses[tag].loss.tobytes() == one.loss.tobytes()
    assert back.losses["sw"].kl.tobytes() == before["sw"].kl.tobytes()
    assert np.array_equal(back.losses["sw"].flips, before["sw"].flips)
    assert back.losses["en-GB"].flips is None
    assert back.losses["en-GB"].kl is None


def test_figures_are_those_of_the_sentences():
    one = losses()
    entry = results(one)["languages"]["sw"]
    assert entry["loss"] == pytest.approx(one.loss.sum() / one.n_bytes.sum())
    assert entry["bits_per_byte"] == pytest.approx(entry["loss"] / math.log(2))
    assert entry["perplexity"] == pytest.approx(math.exp(one.loss.sum() / one.tokens.sum()))
    assert entry["fertility"] == pytest.approx(1 / 3)
    assert entry["loss_per_sentence"] == pytest.approx(one.loss.mean())
    assert entry["flip_rate"] == pytest.approx(one.flips.sum() / one.tokens.sum())
    assert entry["kl"] == pytest.approx(one.kl.sum() / one.tokens.sum())
    assert (entry["sentences"], entry["tokens"]) == (40, one.tokens.sum())
    alone = results(losses(flips=None, kl=None))["languages"]["sw"]
    assert alone["flip_rate"] is alone["kl"] is None
    assert "sentence_flips" not in alone


def test_sentences_are_compressed(written):
    n = 5000
    one = losses(n=n, tokens=np.full(n, 30), flips=None, kl=None)
    assert written(results(one)).stat().st_size < 13 * n  # as a list of numbers a loss alone takes more


def test_a_point_stays_a_point(written):
    point = losses(n=1, is_point=True, n_bytes=np.zeros(1, dtype=int))
    content = results(point)
    assert content["languages"]["sw"]["loss"] is None  # bytes are not known
    assert read_results(written(content)).losses["sw"].is_point


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"loss": np.array([1.0, math.nan])}, "NaN or infinite"),
        ({"loss": np.array([1.0, math.inf])}, "NaN or infinite"),
    ],
)
def test_a_language_that_failed_is_missing_and_the_others_are_there_row44(written, changes, reason):
    short = {key: getattr(losses(n=2), key) for key in ("tokens", "n_bytes", "document", "flips", "kl")}
    back = read_results(written(results(SentenceLosses(tag="sw", **short | changes), losses("en"))))
    assert reason in back.missing["sw"]
    assert list(back.losses) == ["en"]


def test_a_language_without_sentences_is_missing():
    entry = results(losses(n=0))["languages"]["sw"]
    assert entry == {"missing": "no sentence of the text leaves a token to score"}


def test_what_is_missing_for_another_reason_stays_missing():
    content = results_dict(
        {"sw": losses("sw")}, meta={}, model={}, tokenizer={}, texts={}, missing={"sw": "the float model fails on it"}
    )
    assert content["languages"]["sw"] == {"missing": "the float model fails on it"}


def test_an_infinite_divergence_is_left_out(written):
    one = losses(kl=np.full(40, math.inf))
    content = results(one)
    assert content["languages"]["sw"]["kl"] is None
    back = read_results(written(content)).losses["sw"]
    assert back.kl is None
    assert back.flips is not None


def test_the_identity_is_of_the_content_without_meta(written):
    content = results()
    identity = content_id(content)
    assert read_results(written(content)).id == identity
    assert content_id({**content, "meta": {"time": "later"}}) == identity
    assert content_id(dict(reversed(content.items()))) == identity
    assert content_id({**content, "model": {**content["model"], "name": "other"}}) != identity
    changed = copy.deepcopy(content)
    changed["languages"]["sw"]["sentence_loss"] = encode(np.nextafter(losses("sw").loss, 100))
    assert content_id(changed) != identity


def test_the_identity_survives_any_name(written):
    content = results(model={"name": "\ud800 ü", "sha256": SHA, "kind": "inc"})
    assert read_results(written(content)).id == content_id(content)


def test_reference_and_configuration_are_recorded_where_given():
    content = results(reference={"name": "tiny"}, configuration_sha256=SHA)
    assert content["reference"] == {"name": "tiny"}
    assert content["configuration_sha256"] == SHA
    assert not {"reference", "configuration_sha256"} & results().keys()


def test_configuration_hash_is_that_of_the_run():
    from inc_laaciq.config import RunSpec

    run = RunSpec(name="ü")
    assert canonical_sha256(run.as_dict()) == run.digest


def validator():
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    return jsonschema.Draft202012Validator(SCHEMA)


@pytest.mark.parametrize(
    "content",
    [
        results(),
        results(reference={"name": "t", "sha256": SHA, "kind": "float"}, configuration_sha256=SHA),
        results(losses(flips=None, kl=None)),
        results(losses(n=1, is_point=True, n_bytes=np.zeros(1, dtype=int))),
        results(losses(n=0)),
        results(texts={"source": {"path": "flores"}, "sha256": SHA, "tokens_per_language": 0, "seed": 0}),
    ],
    ids=["plain", "reference", "without flips", "point", "no sentence", "data set"],
)
def test_results_follow_the_published_schema(content):
    assert list(validator().iter_errors(content)) == []


@pytest.mark.parametrize(
    "damage",
    [
        lambda c: c.update(schema="inc-laaciq/results/2"),
        lambda c: c.pop("texts"),
        lambda c: c["model"].update(sha256="no hash"),
        lambda c: c["languages"]["sw"].pop("sentence_loss"),
        lambda c: c["languages"]["sw"].update(missing="and yet there are figures"),
        lambda c: c["languages"]["sw"].update(flip_rate=1.5),
        lambda c: c["languages"]["sw"]["sentence_loss"].update(dtype="<f4"),
        lambda c: c["languages"]["sw"]["document"].update(dtype="<f8"),
        lambda c: c["languages"]["sw"]["document"].update(zlib="not base64!"),
        lambda c: c["languages"]["sw"].update(sentence_loss=[1.0, 2.0]),
        lambda c: c["languages"].update(yo={}),
    ],
)
def test_the_schema_refuses_what_is_not_a_results_file(damage):
    content = copy.deepcopy(results())
    damage(content)
    assert list(validator().iter_errors(content))


def replaced(key, values):
    def damage(content):
        content["languages"]["sw"][key] = encode(np.asarray(values))

    return damage


ONE = losses("sw")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda c: c.update(schema="other"), "schema is 'other', expected 'inc-laaciq/results/1'"),
        (lambda c: c.pop("schema"), "schema is 'None'"),
        (lambda c: c.update(languages=[]), "languages must be an object, and is list"),
        (lambda c: c.pop("model"), "model must be an object, and is NoneType"),
        (lambda c: c["languages"].update(sw=3), "language 'sw': must be an object, and is int"),
        (lambda c: c["languages"].update(swh={"missing": "x"}), "language 'swh': is not a canonical tag; .* 'sw'"),
        (lambda c: c["languages"].update({"not a tag": {"missing": "x"}}), "language 'not a tag': "),
        (lambda c: c["languages"]["sw"].update(missing="x"), "language 'sw': missing must be the reason"),
        (lambda c: c["languages"].update(yo={"missing": None}), "language 'yo': missing must be the reason"),
        (lambda c: c["languages"]["sw"].pop("sentence_bytes"), "language 'sw': sentence_bytes is not there"),
        (lambda c: c["languages"]["sw"].update(text_sha256=None), "language 'sw': text_sha256 must be text"),
        (lambda c: c["languages"]["sw"].update(is_point=1), "is_point true or false"),
        (lambda c: c["languages"]["sw"].update(is_point=True), "language 'sw': is damaged: .*is_point=True with 40"),
        (lambda c: c["languages"]["sw"].update(tokens=1), r"language 'sw': tokens is 1, and the sentences make \d+"),
        (lambda c: c["languages"]["sw"].pop("sentences"), "language 'sw': sentences is None"),
        (lambda c: c["languages"]["sw"]["document"].update(n=7), "language 'sw': document: n and dtype say 7 bytes"),
        (lambda c: c["languages"]["sw"]["document"].update(zlib="?"), "language 'sw': document: is damaged"),
        (lambda c: c["languages"]["sw"]["sentence_loss"].update(dtype="<u4"), "language 'sw': sentence_loss: dtype"),
        (replaced("sentence_tokens", ONE.tokens.astype(float)), "language 'sw': sentence_tokens: dtype is '<f8'"),
        (replaced("sentence_tokens", -ONE.tokens), "language 'sw': is damaged: .*tokens of sentence 0"),
        (replaced("sentence_tokens", ONE.tokens * 0), "language 'sw': is damaged: .*tokens of sentence 0"),
        (replaced("sentence_bytes", -ONE.n_bytes), "language 'sw': is damaged: .*n_bytes of sentence 0"),
        (replaced("sentence_flips", ONE.tokens + 1), "language 'sw': is damaged: .*flips of sentence 0"),
        (replaced("sentence_kl", -ONE.kl), "language 'sw': is damaged: .*kl of sentence 0"),
        (
            replaced("sentence_loss", np.where(np.arange(40) == 7, math.nan, 1.0)),
            "language 'sw': sentence_loss holds NaN",
        ),
        (replaced("sentence_kl", np.full(40, math.inf)), "language 'sw': sentence_kl holds NaN"),
        (replaced("sentence_loss", ONE.loss[1:]), "language 'sw': is damaged: .*of one length"),
    ],
)
def test_damage_is_named_with_file_and_language(written, damage, message):
    content = copy.deepcopy(results())
    damage(content)
    with pytest.raises(IntegrityError, match=rf"results\.json: .*{message}"):
        read_results(written(content))


def test_a_language_of_no_sentence_is_refused(written):
    content = copy.deepcopy(results())
    entry = content["languages"]["sw"]
    for key in [key for key in entry if isinstance(entry[key], dict)]:
        entry[key] = encode(np.zeros(0, dtype=float if key in ("sentence_loss", "sentence_kl") else int))
    with pytest.raises(IntegrityError, match=r"results\.json: language 'sw': has no sentence"):
        read_results(written(content))


def test_a_key_that_is_there_twice_is_refused(tmp_path):
    text = json.dumps(results())
    (tmp_path / "results.json").write_text(text.replace('"sw":', '"sw": {"missing": "x"}, "sw":', 1), encoding="utf-8")
    with pytest.raises(IntegrityError, match=r"results\.json: the key 'sw' occurs twice"):
        read_results(tmp_path / "results.json")


@pytest.mark.parametrize("text", ["", "[]", "{", '{"schema": NaN}', "\xff"])
def test_what_is_no_json_object_is_refused(tmp_path, text):
    (tmp_path / "results.json").write_text(text, encoding="latin-1")
    with pytest.raises(IntegrityError, match=r"results\.json"):
        read_results(tmp_path / "results.json")


def test_what_cannot_be_read_is_named(tmp_path):
    with pytest.raises(IntegrityError, match=r"none\.json: cannot be read: No such file"):
        read_results(tmp_path / "none.json")
    with pytest.raises(IntegrityError, match="cannot be read: Is a directory"):
        read_results(tmp_path)


def test_a_file_without_end_is_not_read_to_its_end(tmp_path, monkeypatch):
    monkeypatch.setattr("inc_laaciq.evaluation.results.MAX_BYTES", 1000)
    (tmp_path / "results.json").write_bytes(b" " * 1001)
    with pytest.raises(IntegrityError, match="is larger than 1000 bytes"):
        read_results(tmp_path / "results.json")


def test_languages_may_not_add_up_to_more_than_can_be_held(written, monkeypatch):
    monkeypatch.setattr("inc_laaciq.evaluation.results.MAX_SENTENCES", 79)
    with pytest.raises(IntegrityError, match="80 sentences, where at most 79 are read"):
        read_results(written(results()))


def test_a_bomb_in_a_results_file_is_refused(written):
    content = copy.deepcopy(results())
    bomb = base64.b64encode(zlib.compress(bytes(50_000_000))).decode()
    content["languages"]["sw"]["sentence_loss"]["zlib"] = bomb
    with pytest.raises(
        IntegrityError, match="language 'sw': sentence_loss: n and dtype say 320 bytes, and there are more"
    ):
        read_results(written(content))

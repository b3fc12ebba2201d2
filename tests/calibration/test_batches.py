import time

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inc_laaciq.calibration.batches import pack
from inc_laaciq.calibration.text import Corpus, LanguageText
from inc_laaciq.errors import DataError, SpecError

WORDS = ("the cat", "the dog", "paka na mbwa", "кошка", "sat on the mat")


def text(tag, n_documents, lines=3):
    documents = tuple(
        tuple(f"{WORDS[(i + j) % 5]} {i}.{j}" for j in range(1 + (i * lines) % (2 * lines))) for i in range(n_documents)
    )
    return LanguageText(tag=tag, documents=documents)


def corpus(**n_documents):
    return Corpus(texts={tag: text(tag, n) for tag, n in n_documents.items()})


def stream(packed):
    return [token for rows in packed for row in rows.tolist() for token in row]


def expected_stream(language_text, tokenizer, seed):
    """All text of a language, document by document, straight from the tokenizer."""
    joined = f"{tokenizer.eos_token}".join("\n".join(lines) for _, lines in language_text.dealt(seed))
    return tokenizer(joined)["input_ids"]


def test_rows_hold_the_documents_in_seeded_order_with_eos_between(bpe):
    source = corpus(en=30)
    packed = pack(source, bpe, tokens_per_language=0, sequence_length=64, seed=5)["en"]
    expected = expected_stream(source.texts["en"], bpe, 5)
    assert stream(packed) == expected
    assert expected.count(bpe.eos_token_id) == 29


def test_the_quota_is_filled_to_the_token_row16(bpe):
    packed = pack(corpus(en=3000, sw=60), bpe, tokens_per_language=500, sequence_length=128, seed=0)
    for rows in packed.values():
        assert [tuple(batch.shape) for batch in rows] == [(3, 128), (1, 116)]
        assert all(batch.dtype == torch.long for batch in rows)


def test_a_language_a_thousand_times_larger_gets_the_same_quota_row16(bpe, caplog):
    packed = pack(corpus(en=5000, sw=5), bpe, tokens_per_language=1000)
    assert len(stream(packed["en"])) == 1000
    assert len(stream(packed["sw"])) < 1000
    assert f"sw: {len(stream(packed['sw']))} of 1000 tokens" in caplog.text


def test_short_text_is_packed_and_never_dropped_row24(bpe):
    source = Corpus(texts={"en": LanguageText(tag="en", documents=(("the cat",), ("a",)))})
    packed = pack(source, bpe, sequence_length=256)["en"]
    assert [tuple(rows.shape) for rows in packed] == [(1, len(stream(packed)))]
    assert sorted(stream(packed)) == sorted([*bpe("the cat")["input_ids"], bpe.eos_token_id, *bpe("a")["input_ids"]])


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(quota=st.integers(0, 700), length=st.integers(1, 90), seed=st.integers(), n=st.integers(1, 12))
def test_no_token_is_lost_padded_or_repeated(bpe, quota, length, seed, n):
    packed = pack(corpus(en=n), bpe, tokens_per_language=quota, sequence_length=length, seed=seed)["en"]
    everything = expected_stream(corpus(en=n).texts["en"], bpe, seed) if n > 1 else stream(packed)
    assert stream(packed) == everything[: quota or None]
    assert all(rows.shape[1] == length for rows in packed[:-1])
    assert len({rows.shape[1] for rows in packed} - {length}) <= 1


def test_another_language_changes_nothing(bpe):
    alone = pack(corpus(sw=40), bpe, tokens_per_language=200, seed=1)
    beside = pack(corpus(en=99, sw=40, am=7), bpe, tokens_per_language=200, seed=1)
    assert stream(alone["sw"]) == stream(beside["sw"])


def test_the_seed_changes_the_choice(bpe):
    first, second = (pack(corpus(sw=40), bpe, tokens_per_language=200, seed=seed)["sw"] for seed in (1, 2))
    assert stream(first) != stream(second)


def test_batches_are_bounded(bpe):
    packed = pack(corpus(en=2000), bpe, tokens_per_language=9000, sequence_length=1000)["en"]
    assert [tuple(rows.shape) for rows in packed] == [(4, 1000), (4, 1000), (1, 1000)]
    assert len(packed) == 3
    assert len(pack(corpus(en=2000), bpe, tokens_per_language=6000, sequence_length=5000)["en"]) == 2


def test_a_huge_document_is_tokenized_in_pieces_row19(bpe):
    lines = tuple("the cat sat on the mat " * 170 for _ in range(2500))  # about 10 MB
    source = Corpus(texts={"en": LanguageText(tag="en", documents=(lines,))})
    started = time.process_time()
    packed = pack(source, bpe, tokens_per_language=4096)["en"]
    assert time.process_time() - started < 5
    assert len(stream(packed)) == 4096
    few = Corpus(texts={"en": LanguageText(tag="en", documents=(lines[:30],))})  # several pieces join without a seam
    pieces = stream(pack(few, bpe, tokens_per_language=0)["en"])
    assert pieces == bpe("\n".join(lines[:30]))["input_ids"]


def test_without_eos_the_bos_token_separates(bpe):
    class NoEos:
        eos_token_id, bos_token_id = None, bpe.bos_token_id
        __call__ = staticmethod(bpe.__call__)

    assert stream(pack(corpus(en=3), NoEos(), tokens_per_language=0)["en"]).count(bpe.bos_token_id) == 2


def test_bad_numbers_and_empty_corpora_are_refused(bpe):
    with pytest.raises(SpecError, match="tokens_per_language=-1"):
        pack(corpus(en=1), bpe, tokens_per_language=-1)
    with pytest.raises(SpecError, match="sequence_length=0"):
        pack(corpus(en=1), bpe, sequence_length=0)
    with pytest.raises(DataError, match=r"no language has any text \(missing: sw, yo\)"):
        pack(Corpus(texts={}, missing=("yo", "sw")), bpe)

"""Aligned text: the same lines of every language, and nothing that could shift one language against another."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from inc_laaciq.calibration.corpus import read_texts
from inc_laaciq.calibration.text import Corpus, LanguageText
from inc_laaciq.errors import DataError
from inc_laaciq.evaluation.aligned import check_aligned, choose_aligned
from inc_laaciq.evaluation.likelihood import sentence_losses

N = 200
WORDS = {"en": "the cat sat on", "sw": "paka alikaa kwenye mkeka na", "ru": "кошка"}


def line(tag, number):
    return f"{WORDS[tag]} {number}" + f" {WORDS[tag]}" * (number % 3)


@pytest.fixture
def folder(tmp_path):
    for tag in WORDS:
        (tmp_path / f"{tag}.txt").write_text("".join(f"{line(tag, i)}\n" for i in range(N)), encoding="utf-8")
    return tmp_path


def lines_in(folder, tag):
    return (folder / f"{tag}.txt").read_text(encoding="utf-8").split("\n")[:-1]


def rewrite(folder, tag, change):
    lines = lines_in(folder, tag)
    change(lines)
    (folder / f"{tag}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def choose(corpus, tokenizer, tokens=0, seed=0):
    return choose_aligned(corpus, tokenizer, tokens_per_language=tokens, seed=seed)


def texts_of(sentences, tokenizer):
    return [tokenizer.decode(ids[1:]) for ids in sentences.ids]


def test_the_same_lines_are_chosen_of_all_languages(folder, bpe):
    chosen = choose(read_texts(folder), bpe, tokens=300)
    assert [sentences.tag for sentences in chosen] == ["en", "ru", "sw"]
    numbers = [list(sentences.document) for sentences in chosen]
    assert numbers[0] == numbers[1] == numbers[2] == sorted(set(numbers[0]))
    for sentences in chosen:
        assert texts_of(sentences, bpe) == [line(sentences.tag, number) for number in numbers[0]]
        assert list(sentences.n_bytes) == [len(line(sentences.tag, number).encode()) for number in numbers[0]]


def test_lines_are_taken_until_every_language_has_enough(folder, bpe):
    chosen = {sentences.tag: sentences for sentences in choose(read_texts(folder), bpe, tokens=300)}
    sizes = {tag: sentences.tokens.sum() for tag, sentences in chosen.items()}
    assert min(sizes.values()) >= 300
    shortest = min(sizes, key=sizes.get)
    assert sizes[shortest] - chosen[shortest].tokens.max() < 300  # and no more than needed
    assert len(chosen["en"].ids) < N


def test_no_quota_takes_every_line_in_order_whatever_the_seed(folder, bpe):
    one, two = (choose(read_texts(folder), bpe, seed=seed) for seed in (0, 1))
    assert list(one[0].document) == list(range(N))
    assert [a.text_sha256 for a in one] == [b.text_sha256 for b in two]


def test_the_seed_decides_which_lines(folder, bpe):
    corpus = read_texts(folder)
    one, again, two = (list(choose(corpus, bpe, tokens=300, seed=seed)[0].document) for seed in (0, 0, 1))
    assert one == again != two


def test_a_language_alone_gets_the_lines_it_gets_beside_others(folder, bpe):
    """If none of them decides how many there are."""
    alone = choose(read_texts(folder, ["ru"]), bpe, tokens=300)[0]
    beside = {sentences.tag: sentences for sentences in choose(read_texts(folder, ["ru", "sw"]), bpe, tokens=300)}["ru"]
    assert set(alone.document) <= set(beside.document)


def test_a_line_without_a_token_to_score_is_left_out_in_all_languages(folder, bpe, caplog):
    bare = PreTrainedTokenizerFast(tokenizer_object=bpe.backend_tokenizer)  # no context: a lone token is not scored
    rewrite(folder, "sw", lambda lines: lines.__setitem__(7, "a"))
    for sentences in choose(read_texts(folder), bare):
        assert list(sentences.document) == [number for number in range(N) if number != 7]
    assert f"1 of {N} aligned lines leave no token to score in sw, and are left out in every language" in caplog.text


def test_different_numbers_of_lines_are_refused(folder):
    rewrite(folder, "sw", lambda lines: lines.pop())
    with pytest.raises(DataError, match=f"differ in their number of lines: en {N}, ru {N}, sw {N - 1}"):
        check_aligned(read_texts(folder))


def test_blank_lines_in_different_places_are_refused(folder):
    """The counts agree, and yet every line between the two is off by one."""
    rewrite(folder, "en", lambda lines: lines.__setitem__(0, ""))
    rewrite(folder, "sw", lambda lines: lines.__setitem__(N - 2, "\u200b "))
    rewrite(folder, "ru", lambda lines: lines.__setitem__(N - 2, ""))
    with pytest.raises(DataError, match="en and ru, sw have different blank lines"):
        check_aligned(read_texts(folder))


def test_blank_lines_in_the_same_places_are_fine(folder, bpe):
    for tag in WORDS:
        rewrite(folder, tag, lambda lines: (lines.insert(0, ""), lines.insert(50, "")))
    rewrite(folder, "sw", lambda lines: lines.extend(["", ""]))  # after the last line nothing can shift
    corpus = read_texts(folder)
    assert len(corpus.texts["en"].documents) == 2
    for sentences in choose(corpus, bpe):
        assert list(sentences.document) == list(range(N))


def test_damaged_lines_are_refused(folder):
    for tag, number in (("en", 3), ("sw", 150)):
        raw = (folder / f"{tag}.txt").read_bytes().split(b"\n")
        raw[number] = b"\xff"
        (folder / f"{tag}.txt").write_bytes(b"\n".join(raw))
    rewrite(folder, "ru", lambda lines: lines.pop())
    with pytest.raises(DataError, match="of en 1 lines were left out as damaged"):
        check_aligned(read_texts(folder))


def test_damaged_records_are_refused(tmp_path):
    records = [{"text": f"line {i}", "language": tag} for i in range(N) for tag in ("en", "sw")]
    records[4]["text"] = records[301]["text"] = None  # one of each language, so that the counts agree
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, records)), encoding="utf-8")
    corpus = read_texts(tmp_path / "a.jsonl")
    assert {len(text.lines) for text in corpus.texts.values()} == {N - 1}
    with pytest.raises(DataError, match="records were left out as damaged"):
        check_aligned(corpus)


def test_records_may_be_aligned(tmp_path, bpe):
    records = [{"text": line(tag, i), "language": tag} for i in range(N) for tag in WORDS]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, records)), encoding="utf-8")
    chosen = choose(read_texts(tmp_path / "a.jsonl"), bpe, tokens=100)
    assert len({tuple(sentences.document) for sentences in chosen}) == 1


def test_lines_that_were_cut_are_refused(folder):
    rewrite(folder, "en", lambda lines: lines.__setitem__(5, "the cat " * 700))
    for tag in ("sw", "ru"):
        rewrite(folder, tag, lambda lines: lines.append("x"))
    with pytest.raises(DataError, match="of en 1 lines were cut, being longer"):
        check_aligned(read_texts(folder))


def test_documents_that_differ_are_refused():
    texts = {
        "en": LanguageText(tag="en", documents=(("a",), ("b", "c"))),
        "sw": LanguageText(tag="sw", documents=(("a", "b"), ("c",))),
    }
    with pytest.raises(DataError, match="en and sw are divided into documents in different ways"):
        check_aligned(Corpus(texts=texts))


def test_no_language_is_no_error(bpe):
    assert choose(Corpus(texts={}, missing=("yo",)), bpe, tokens=10) == []


@pytest.fixture(scope="module")
def llama(bpe):
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(bpe), hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=4
    )
    return LlamaForCausalLM(config).eval()


def test_losses_of_aligned_text_are_those_of_the_same_lines(folder, bpe, llama):
    corpus = read_texts(folder)
    found = sentence_losses(llama, bpe, corpus, tokens_per_language=300, aligned=True)
    everything = sentence_losses(llama, bpe, corpus, tokens_per_language=0)
    documents = {tuple(losses.document) for losses in found.values()}
    assert len(documents) == 1
    numbers = list(documents.pop())
    for tag, losses in found.items():
        order = [line for _, line in corpus.texts[tag].in_rounds(0)]
        expected = [everything[tag].loss[order.index(line(tag, number))] for number in numbers]
        np.testing.assert_allclose(losses.loss, expected, atol=1e-4)
    assert losses.loss_per_sentence == pytest.approx(losses.loss.mean())


def test_nothing_changes_where_text_is_not_said_to_be_aligned(folder, bpe, llama):
    rewrite(folder, "sw", lambda lines: lines.pop())
    found = sentence_losses(llama, bpe, read_texts(folder), tokens_per_language=100)
    assert set(found["en"].document) == {0}
    with pytest.raises(DataError, match="differ in their number of lines"):
        sentence_losses(llama, bpe, read_texts(folder), tokens_per_language=100, aligned=True)


def test_the_whole_text_is_not_remarked_to_be_unbalanced(tmp_path, bpe, llama, caplog):
    (tmp_path / "en.txt").write_text("the cat\n" * 20, encoding="utf-8")
    (tmp_path / "ru.txt").write_text("кошка сидела на коврике, а собака на кошке ёёёёёё\n" * 20, encoding="utf-8")
    sentence_losses(llama, bpe, read_texts(tmp_path), tokens_per_language=0)
    assert "set tokens_per_language" in caplog.text
    caplog.clear()
    sentence_losses(llama, bpe, read_texts(tmp_path), tokens_per_language=0, aligned=True)
    assert caplog.text == ""
    sentence_losses(llama, bpe, read_texts(tmp_path), tokens_per_language=4000, aligned=True)
    assert "en: 40 of 4000 tokens" in caplog.text

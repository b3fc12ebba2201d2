from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from inc_laaciq.calibration.text import LanguageText
from inc_laaciq.errors import ModelError
from inc_laaciq.evaluation.sentences import Sentences, choose_sentences, context_token, windows

PAGES = tuple(tuple(f"the cat sat on mat {page} {line}" for line in range(3)) for page in range(12))
TEXT = LanguageText(tag="en", documents=PAGES)


def choose(tokenizer, text=TEXT, tokens=0, seed=0):
    return choose_sentences(text, tokenizer, tokens_per_language=tokens, seed=seed)


def without(tokenizer, **special):
    names = {"bos_token": tokenizer.bos_token, "eos_token": tokenizer.eos_token} | special
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer, **names)


def test_whole_sentences_until_the_quota_is_reached(bpe):
    chosen = choose(bpe, tokens=100)
    total = chosen.tokens.sum()
    assert 100 <= total < 100 + chosen.tokens[-1]
    lines = [bpe.decode(ids[1:]) for ids in chosen.ids]
    in_rounds = list(TEXT.in_rounds(0))[: len(lines)]
    assert list(zip(chosen.document, lines, strict=True)) == in_rounds
    assert list(chosen.n_bytes) == [len(line.encode()) for line in lines]


def test_a_small_quota_reaches_every_document(bpe):
    chosen = choose(bpe, tokens=100)
    first = chosen.document[: len(PAGES)]
    assert len(chosen.document) >= 6
    assert len(set(first)) == len(first)


def test_no_quota_takes_everything(bpe):
    assert len(choose(bpe).ids) == 36


def test_hash_is_of_text_tokens_and_choice(bpe):
    hashes = {
        choose(bpe).text_sha256,
        choose(bpe, seed=1).text_sha256,
        choose(bpe, tokens=50).text_sha256,
        choose(without(bpe, eos_token=None)).text_sha256,
        choose(bpe, LanguageText(tag="en", documents=(("the cat",),))).text_sha256,
    }
    assert len(hashes) == 5
    assert choose(bpe).text_sha256 == choose(bpe).text_sha256


def test_context_is_what_the_tokenizer_puts_first_else_eos_else_bos(bpe):
    assert context_token(bpe) == bpe.eos_token_id
    assert context_token(without(bpe, eos_token=None)) == bpe.bos_token_id
    assert context_token(without(bpe, eos_token=None, bos_token=None)) is None
    template = PreTrainedTokenizerFast(
        tokenizer_object=type(bpe.backend_tokenizer).from_str(bpe.backend_tokenizer.to_str()),
        bos_token="<s>",
        eos_token="</s>",
    )
    template.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", bpe.bos_token_id), ("</s>", bpe.eos_token_id)]
    )
    assert context_token(template) == bpe.bos_token_id
    template.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", bpe.eos_token_id)]
    )
    assert context_token(template) == bpe.eos_token_id


def word_level():
    tokenizer = Tokenizer(models.WordLevel({"<unk>": 0, "</s>": 1, "the": 2}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", eos_token="</s>")


def test_an_unknown_token_is_not_mistaken_for_context():
    assert context_token(word_level()) == 1


def test_hash_tells_texts_apart_that_become_the_same_tokens():
    foo, bar = (choose(word_level(), LanguageText(tag="en", documents=((line,),))) for line in ("the foo", "the bar"))
    assert list(foo.ids[0]) == list(bar.ids[0]) == [1, 2, 0]
    assert foo.text_sha256 != bar.text_sha256


def test_every_sentence_begins_with_the_context(bpe):
    assert {int(ids[0]) for ids in choose(bpe).ids} == {bpe.eos_token_id}


def test_without_context_the_first_token_and_its_bytes_are_not_scored(bpe):
    bare = without(bpe, bos_token=None, eos_token=None)
    text = LanguageText(tag="ru", documents=(("кошка сидела", "the cat", "a"),))
    chosen = choose(bare, text)
    lines = [line for _, line in text.in_rounds(0) if line != "a"]  # one token: nothing left to score
    assert len(chosen.ids) == 2
    for line, ids, n_bytes in zip(lines, chosen.ids, chosen.n_bytes, strict=True):
        assert bare.decode(ids) == line
        first = bare.decode(ids[:1])
        expected = len(line.encode()) - len(line[: max(1, len(first))].encode())
        assert n_bytes == expected


def test_without_context_a_slow_tokenizer_is_refused():
    class Slow:
        bos_token_id = eos_token_id = None
        is_fast = False
        all_special_ids = ()

        def __call__(self, text, **options):
            return {"input_ids": [[1, 2]] if isinstance(text, list) else [1, 2]}

    with pytest.raises(ModelError, match="neither a bos nor an eos token"):
        choose(Slow())


def test_a_lone_long_document_depends_on_the_seed(bpe):
    text = LanguageText(tag="en", documents=(tuple(line for page in PAGES for line in page),))
    assert choose(bpe, text, tokens=30).text_sha256 != choose(bpe, text, tokens=30, seed=2).text_sha256


@given(st.lists(st.integers(2, 40), min_size=1, max_size=8), st.integers(1, 12))
def test_windows_score_every_token_once_after_its_predecessor(lengths, max_length):
    ids = tuple(np.arange(100 * number, 100 * number + length) for number, length in enumerate(lengths))
    zeros = np.zeros(len(ids), dtype=np.int64)
    cut = list(windows(Sentences(tag="en", ids=ids, n_bytes=zeros, document=zeros, text_sha256=""), max_length))
    assert all(1 <= len(window.ids) - 1 <= max_length for window in cut)
    scored = [(window.sentence, *map(int, pair)) for window in cut for pair in pairwise(window.ids)]
    assert scored == [(number, *map(int, pair)) for number, sentence in enumerate(ids) for pair in pairwise(sentence)]

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from inc_laaciq.calibration.text import Corpus, LanguageText
from inc_laaciq.calibration.tokenization import coverage, encode, unsupported_languages


def corpus(**texts):
    return Corpus(texts={tag: LanguageText(tag=tag, documents=((line,),)) for tag, line in texts.items()})


def unknown_share(corpus, tokenizer):
    return {tag: cover.unknown_share for tag, cover in coverage(corpus, tokenizer).items()}


@pytest.fixture(scope="module")
def word_level():
    tokenizer = Tokenizer(models.WordLevel({"<unk>": 0, "the": 1, "cat": 2}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>")


@pytest.fixture(scope="module")
def byte_fallback():
    vocabulary = {"<unk>": 0} | {f"<0x{byte:02X}>": byte + 1 for byte in range(256)} | {"a": 257, "b": 258}
    tokenizer = Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>", byte_fallback=True))
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>")


def test_encode_adds_nothing_and_says_nothing(bpe, recwarn, caplog):
    bpe.model_max_length = 4
    ids = encode(bpe, ["the cat sat on the mat", ""])
    assert bpe.decode(ids[0]) == "the cat sat on the mat"
    assert ids[1] == []
    assert encode(bpe, []) == []
    assert not recwarn.list
    assert not caplog.records


def test_unknown_tokens_are_counted_row23(word_level):
    assert unknown_share(corpus(en="the cat the dog", sw="paka"), word_level) == {"en": 0.25, "sw": 1.0}


def test_bytes_of_a_fallback_are_counted_row23(byte_fallback):
    shares = unknown_share(corpus(en="abab", km="aខ"), byte_fallback)
    assert shares == {"en": 0.0, "km": 0.75}


def test_a_language_that_the_model_does_not_support_is_said_and_kept_row23(byte_fallback, caplog):
    (note,) = unsupported_languages(corpus(en="ab" * 50 + "cc", km="aខ"), byte_fallback)
    assert note.startswith("km: the model does not support this language: 75% of the tokens")
    assert "2.00 tokens per character" in note
    assert [record.getMessage() for record in caplog.records] == [note]


def test_a_byte_level_tokenizer_shows_in_its_fertility_row23(bpe):
    covers = coverage(corpus(en="the cat sat on the mat", km="ខ្មែរ"), bpe)
    assert [covers[tag].unknown_share for tag in ("en", "km")] == [0.0, 0.0]
    assert covers["en"].tokens_per_character < 0.5
    assert covers["km"].tokens_per_character == 3.0


def test_text_that_leaves_no_token_is_not_covered_row23():
    tokenizer = Tokenizer(models.WordLevel({"a": 0}))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("x", "removed")
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer)
    assert unknown_share(corpus(sw="xxx"), fast) == {"sw": 1.0}


def test_only_a_sample_of_long_text_is_looked_at(bpe):
    class Counting:
        seen = 0
        unk_token_id = None
        get_vocab = staticmethod(bpe.get_vocab)

        def __call__(self, texts, **options):
            self.seen += sum(map(len, texts))
            return bpe(texts, **options)

    counting = Counting()
    text = LanguageText(tag="en", documents=(("the cat " * 500,) * 500,))
    cover = coverage(Corpus(texts={"en": text}), counting)["en"]
    assert 100_000 <= counting.seen < 104_000
    assert cover.tokens_per_character == pytest.approx(0.25, abs=0.01)

import hashlib

from inc_laaciq.calibration.text import Corpus, LanguageText


def text(tag="sw", n=20, lines=2):
    documents = tuple(tuple(f"{tag} {i} {j}" for j in range(lines)) for i in range(n))
    return LanguageText(tag=tag, documents=documents)


def test_bytes_are_utf8_bytes_of_the_lines():
    assert LanguageText(tag="th", documents=(("ab", "é"), ("ไทย",))).n_bytes == 2 + 2 + 9


def test_hash_is_that_of_the_clean_file():
    one = LanguageText(tag="sw", documents=(("a", "b"), ("c",)))
    assert one.sha256 == hashlib.sha256(b"a\nb\n\nc").hexdigest()
    assert LanguageText(tag="sw", documents=(("a", "b"),)).sha256 == hashlib.sha256(b"a\nb").hexdigest()


def test_order_is_a_permutation_that_the_seed_chooses():
    documents = text().documents
    orders = [[index for index, _ in text().dealt(seed)] for seed in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2]
    assert sorted(orders[0]) == list(range(20))
    assert all(lines == documents[index] for index, lines in text().dealt(3))


def test_order_is_the_same_in_every_version():
    # Read off once: evaluations of two releases must choose the same sentences.
    assert [index for index, _ in text(n=8).dealt(0)] == [7, 1, 5, 6, 4, 2, 3, 0]


def test_a_lone_document_starts_at_a_seeded_line_and_wraps():
    lone = text(n=1, lines=50)
    starts = set()
    for seed in range(5):
        ((index, lines),) = lone.dealt(seed)
        start = lone.lines.index(lines[0])
        starts.add(start)
        assert index == 0
        assert lines == lone.lines[start:] + lone.lines[:start]
    assert len(starts) > 1


def uneven():
    documents = tuple(tuple(f"{i} {j}" for j in range(size)) for i, size in enumerate((1, 4, 2, 4)))
    return LanguageText(tag="sw", documents=documents)


def test_rounds_take_one_line_of_every_document_in_turn():
    rounds = list(uneven().in_rounds(0))
    assert [len({index for index, _ in part}) for part in (rounds[:4], rounds[4:7], rounds[7:9], rounds[9:])] == [
        4, 3, 2, 2,
    ]  # fmt: skip
    order = [index for index, _ in rounds[:4]]
    assert [index for index, _ in rounds[4:7]] == [index for index in order if index != 0]
    assert all(line in uneven().documents[index] for index, line in rounds)


def test_rounds_take_every_line_once_in_an_order_that_the_seed_chooses():
    orders = [[line for _, line in uneven().in_rounds(seed)] for seed in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2]
    assert sorted(orders[0]) == sorted(orders[2]) == sorted(uneven().lines)


def test_rounds_are_the_same_in_every_version():
    # Read off once: evaluations of two releases must choose the same sentences.
    assert [line.removeprefix("sw ") for _, line in text(n=3).in_rounds(0)] == [
        "1 0",
        "2 0",
        "0 0",
        "1 1",
        "2 1",
        "0 1",
    ]


def test_rounds_of_a_lone_document_are_its_lines_and_of_none_are_empty():
    lone = text(n=1, lines=50)
    assert sorted(line for _, line in lone.in_rounds(0)) == sorted(lone.lines)
    assert [line for _, line in lone.in_rounds(0)] != list(lone.lines)
    assert list(LanguageText(tag="sw", documents=()).in_rounds(0)) == []


def test_corpus_is_ordered_by_tag_and_its_hash_ignores_notes():
    one = Corpus(texts={"sw": text("sw"), "en": text("en")}, missing=("yo", "am"), notes=("a note",))
    two = Corpus(texts={"en": text("en"), "sw": text("sw")})
    assert one.languages == ("en", "sw")
    assert one.missing == ("am", "yo")
    assert one.sha256 == two.sha256
    assert one.sha256 != Corpus(texts={"en": text("en")}).sha256


def test_sizes_name_missing_languages_too():
    corpus = Corpus(texts={"sw": LanguageText(tag="sw", documents=(("abc",),))}, missing=("am",))
    assert corpus.sizes() == {"am": 0, "sw": 3}

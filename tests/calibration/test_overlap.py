import unicodedata

import pytest

from inc_laaciq.calibration.overlap import overlap, overlap_notes, sentence_overlap
from inc_laaciq.calibration.text import Corpus, LanguageText
from inc_laaciq.errors import DataError

LONG = "This line is certainly long enough, number {}."


def corpus(**texts):
    return Corpus(texts={tag: LanguageText(tag=tag, documents=(tuple(lines),)) for tag, lines in texts.items()})


def test_share_of_evaluation_lines_seen_in_calibration_row21():
    calibration = corpus(en=[LONG.format(i) for i in range(10)])
    evaluation = corpus(en=[LONG.format(i) for i in range(8, 12)], sw=["Hakuna mstari unaofanana hapa kabisa."])
    assert overlap(calibration, evaluation) == {"en": 0.5, "sw": 0.0}


def test_white_space_is_folded_and_languages_are_pooled_row21():
    calibration = corpus(de=["  a line   of  more\tthan twenty characters "])
    assert overlap(calibration, corpus(en=["a line of more than twenty characters"])) == {"en": 1.0}


def test_short_lines_do_not_count_unless_there_are_no_others_row21():
    calibration = corpus(en=["Yes.", "No."])
    assert overlap(calibration, corpus(en=["Yes.", LONG.format(1)])) == {"en": 0.0}
    assert overlap(calibration, corpus(en=["Yes.", "Maybe."])) == {"en": 0.5}


def test_a_short_line_of_wide_characters_is_a_whole_sentence():
    line = "我們昨天在河邊看見了一隻白鷺"
    evaluation = corpus(zh=[line, "這一行文字比其他的都要長得多所以它自己就已經超過了二十個字"])
    assert overlap(corpus(zh=[line]), evaluation) == {"zh": 0.5}


def test_composed_and_decomposed_characters_are_the_same():
    line = "Hôm qua trời mưa rất to ở Hà Nội."
    written = [unicodedata.normalize(form, line) for form in ("NFC", "NFD")]
    assert written[0] != written[1]
    assert overlap(corpus(vi=written[:1]), corpus(vi=written[1:])) == {"vi": 1.0}


SENTENCES = {
    "latin": [f"Sentence {number} of this page is long enough to be told from others!" for number in range(9)],
    "japanese": [f"この文章の{number}番目の文は十分に長いものです。" for number in range(9)],
    "fullwidth": [f"この文章の{number}番目の文は十分に長いものです．" for number in range(9)],
    "devanagari": [f"यह वाक्य संख्या {number} है और यह काफ़ी लंबा भी है, इसलिए यह दूसरों से अलग है।" for number in range(9)],
    "arabic": [f"هل هذه الجملة رقم {number} طويلة بما يكفي لنا حتى نميزها عن غيرها من الجمل؟" for number in range(9)],
}


@pytest.mark.parametrize("sentences", SENTENCES.values(), ids=SENTENCES)
def test_the_same_text_in_other_lines_is_found_row21(sentences):
    wrapped = "".join(sentence + " " for sentence in sentences)
    lines = [wrapped[start : start + 23] for start in range(0, len(wrapped), 23)]
    pages, split = corpus(en=["".join(sentences[:5]), "".join(sentences[5:])]), corpus(en=lines)
    assert overlap(pages, split) == {"en": 0.0}
    assert sentence_overlap(pages, split) == sentence_overlap(split, pages) == {"en": 1.0}
    assert sentence_overlap(pages, corpus(en=[f"Another line. {LONG.format(1)}"], sw=["Hakuna!"])) == {"en": 0, "sw": 0}
    assert overlap_notes(pages, split, gated=False) == [
        "calibration and evaluation text overlap in 1 languages, most in en: 100.0 % of its evaluation sentences are "
        "calibration sentences"
    ]
    with pytest.raises(DataError, match=r"100\.0 % of its evaluation sentences .* use disjoint text"):
        overlap_notes(pages, split, gated=True)


def test_sentences_that_unrelated_pages_share_are_no_overlap_row21():
    shared = [f"The licence of part {number} is printed on the very last page." for number in range(6)]
    own = [f"Here is the other line {number}, which is in no other text of them all." for number in range(400)]
    calibration = corpus(en=[f"{one} {LONG.format(number)}" for number, one in enumerate(shared)])

    def share(n_shared, n_own, times=1):
        lines = [*own[:n_own], *(f"{one} And more." for one in times * shared[:n_shared])]
        return sentence_overlap(calibration, corpus(en=lines))["en"]

    assert share(4, 5) == share(1, 5, times=40) == 0  # few different ones, however short the text is
    assert share(5, 395) == 0  # little of it
    assert share(5, 95) == pytest.approx(0.05)


def test_dialogue_is_no_overlap_because_short_sentences_recur_row21():
    calibration = corpus(en=["Yes. No. I see. He left. She came in. We ran. The end. Who? Me."])
    evaluation = corpus(en=["Yes. Well, no. He left. We ran. The end. Who? She came in. I see. Rain fell."])
    assert overlap_notes(calibration, evaluation, gated=True) == []


def test_each_language_is_said_by_what_it_shares_most_of_row21():
    sentences = SENTENCES["latin"]
    calibration = corpus(en=[sentences[0], " ".join(sentences[1:])], de=[LONG.format(1)])
    evaluation = corpus(en=sentences, de=[LONG.format(number) for number in range(1, 41)])
    [note] = overlap_notes(calibration, evaluation, gated=False)
    assert "in 2 languages, most in en: 100.0 % of its evaluation sentences" in note

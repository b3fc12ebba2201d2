import unicodedata

from inc_laaciq.calibration.overlap import overlap
from inc_laaciq.calibration.text import Corpus, LanguageText

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

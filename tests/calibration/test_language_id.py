import pytest

from inc_laaciq.calibration.language_id import script_mismatches, script_share
from inc_laaciq.calibration.text import LanguageText

SAMPLES = {
    "am": "ሰላም ለዓለም ሁሉ ይሁን እንላለን ዛሬም ነገም",
    "ar": "يولد جميع الناس أحرارا متساوين في الكرامة والحقوق",
    "bn": "সমস্ত মানুষ স্বাধীনভাবে সমান মর্যাদা এবং অধিকার নিয়ে জন্মগ্রহণ করে",
    "el": "Όλοι οι άνθρωποι γεννιούνται ελεύθεροι και ίσοι",
    "en": "All human beings are born free and equal",
    "he": "כל בני האדם נולדו בני חורין ושווים בערכם",
    "hi": "सभी मनुष्यों को गौरव और अधिकारों के मामले में जन्मजात स्वतन्त्रता",
    "ja": "すべての人間は、生まれながらにして自由であり、尊厳と権利とについて平等である",
    "km": "មនុស្សទាំងអស់កើតមកមានសេរីភាពនិងសមភាព",
    "ko": "모든 인간은 태어날 때부터 자유로우며 그 존엄과 권리에 있어",
    "ru": "Все люди рождаются свободными и равными",
    "ta": "மனிதப் பிறிவியினர் சகலரும் சுதந்திரமாகவே பிறக்கின்றனர்",
    "th": "มนุษย์ทั้งหลายเกิดมามีอิสระและเสมอภาคกันในเกียรติ",
    "zh": "人人生而自由,在尊严和权利上一律平等。他们赋有理性和良心,并应以兄弟关系",
    "zh-Hant": "人人生而自由,在尊嚴和權利上一律平等。他們賦有理性和良心,並應以兄弟關係",
}


def text(tag, line):
    return LanguageText(tag=tag, documents=((line,),))


@pytest.mark.parametrize("tag", SAMPLES)
def test_text_is_in_the_script_of_its_language_row20(tag):
    assert script_share(text(tag, SAMPLES[tag])) == 1.0


@pytest.mark.parametrize(
    ("tag", "content"),
    [("ru", "el"), ("en", "hi"), ("zh", "ja"), ("ja", "zh"), ("ko", "zh"), ("ko", "ja"), ("sr-Latn", "ru")],
    ids="-".join,
)
def test_text_in_another_script_is_found_row20(tag, content):
    (mismatch,) = script_mismatches([text(tag, SAMPLES[content]), text("en", SAMPLES["en"])])
    assert mismatch.startswith(f"{tag}: only ")


def test_share_is_of_letters():
    assert script_share(text("ru", "абвгдабвгдабвгд 12345 !!! abcde")) == 15 / 20
    assert script_share(text("ru", "абв 123")) is None  # too few letters to judge
    assert script_share(text("ru", "12345 " * 20)) is None


def test_other_languages_of_one_script_cannot_be_told():
    assert script_share(text("fi", SAMPLES["en"])) == 1.0


def test_long_text_is_sampled_over_its_whole_length():
    lines = ("а" * 1000,) * 500 + ("a" * 1000,) * 500
    assert script_share(LanguageText(tag="ru", documents=(lines,))) == pytest.approx(0.5, abs=0.01)

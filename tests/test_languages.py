"""Rows 11 and 12 of the table of faults: one language, one tag."""

from __future__ import annotations

import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inc_laaciq.errors import SpecError
from inc_laaciq.languages import canonical, canonical_languages, is_rtl, name, script

SPELLINGS = {
    "iw": "he",  # deprecated
    "in": "id",
    "ji": "yi",
    "tl": "fil",
    "sh": "sr-Latn",
    "swh": "sw",  # main member of a macro language
    "arb": "ar",
    "cmn": "zh",
    "pes": "fa",
    "zsm": "ms",
    "khk": "mn",
    "lvs": "lv",
    "prs": "fa-AF",
    "arz": "arz",  # another member stays itself
    "yue": "yue",
    "eng": "en",  # three letters
    "fas": "fa",
    "per": "fa",
    "EN": "en",  # case and separator
    "SWH_latn": "sw",
    "por_BR": "pt-BR",
    "zh_hant": "zh-Hant",
    "arb_Arab": "ar",  # a script that is the likely one
    "zho_Hans": "zh",
    "kas_Arab": "ks",
    "uzn_Latn": "uz",
    "twi_Latn": "ak",
    "acm_Arab": "acm",
    "sr-Cyrl": "sr",
    "zh-Hant-TW": "zh-TW",
    "zho_Hant": "zh-Hant",  # one that is not
    "kas_Deva": "ks-Deva",
    "uz-Cyrl": "uz-Cyrl",
    "crh_Latn": "crh-Latn",
    "no": "no",  # Norwegian and its written standards stay apart
    "nb": "nb",
    "nob": "nb",
    "nno_Latn": "nn",
    "zh-min-nan": "nan",
    "deu_1996": "de-1996",
    "es-419": "es-419",
}


@pytest.mark.parametrize(("given_tag", "expected"), SPELLINGS.items())
def test_row_11_spellings_of_one_language_give_one_tag(given_tag: str, expected: str) -> None:
    assert canonical(given_tag) == expected
    assert canonical(expected) == expected


@pytest.mark.parametrize(
    ("tag", "hint"),
    [
        ("xx", r"'xh' \(Xhosa\)"),
        ("eng1", r"'en' \(English\)"),
        ("english", r"'en' \(English\)"),
        ("Norsk", r"'no' \(Norwegian\)"),
        ("français", r"'fr' \(French\)"),
        ("swahilli", r"'sw' \(Swahili\)"),
        ("jp", r"'ja' \(Japanese\)"),
        ("ua", r"'uk' \(Ukrainian\)"),
        ("pes_1", r"'fa' \(Persian\)"),
        ("en-Latnx", r"'en' \(English\)"),
        ("eng_eng", r"'en' \(English\)"),
        ("en-u-ca-gregory", r"'en' \(English\)"),
        ("en\n", r"'en' \(English\)"),
    ],
)
def test_row_11_unknown_language_is_refused_with_close_ones(tag: str, hint: str) -> None:
    with pytest.raises(SpecError, match=f"is not a known language. Did you mean {hint}"):
        canonical(tag)


@pytest.mark.parametrize("tag", ["qqq", "qaa", "und", "mul", "zxx", "mis", "x-ours", "", " ", "-", "12", "a" * 500])
def test_row_11_tag_of_no_particular_language_is_refused(tag: str) -> None:
    with pytest.raises(SpecError, match="is not a known language"):
        canonical(tag)


def test_long_tag_is_shortened_in_the_message() -> None:
    with pytest.raises(SpecError, match=r"^'a{37}\.\.\.' is not"):
        canonical("a" * 500)


@pytest.mark.parametrize("tag", [False, None, 7, ["en"]])
def test_tag_that_is_not_text_is_refused(tag: object) -> None:
    with pytest.raises(SpecError, match="is not a language tag"):
        canonical(tag)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "tags",
    [
        ("zh", "cmn"),
        ("zho_Hans", "zh"),
        ("zh", "zh-CN"),
        ("zh-Hant", "zh-TW"),
        ("pt", "por_BR"),
        ("ar", "arb_Arab"),
        ("sw", "SW"),
        ("he", "iw"),
    ],
)
def test_row_12_language_given_twice_under_aliases_is_refused_with_both(tags: tuple[str, str]) -> None:
    with pytest.raises(SpecError, match=f"is given twice, as '{tags[0]}' and as '{tags[1]}'"):
        canonical_languages(("en", *tags))


def test_row_12_language_repeated_is_refused() -> None:
    with pytest.raises(SpecError, match=r"English \(en\) is given twice: 'en'"):
        canonical_languages(["en", "fr", "en"])


def test_different_languages_keep_their_order() -> None:
    given_tags = ["zh", "zh-Hant", "no", "nb", "en-GB", "en", "acm", "ar", "sr", "sr-Latn", "deu_1996", "de"]
    expected = ("zh", "zh-Hant", "no", "nb", "en-GB", "en", "acm", "ar", "sr", "sr-Latn", "de-1996", "de")
    assert canonical_languages(given_tags) == expected


def test_text_in_place_of_a_list_is_refused() -> None:
    with pytest.raises(SpecError, match="is text, not a list of languages"):
        canonical_languages("en")


@pytest.mark.parametrize(
    ("tag", "expected"),
    [
        ("ru", "Cyrl"),
        ("sr-Latn", "Latn"),
        ("zh", "Hans"),
        ("zh-TW", "Hant"),
        ("ja", "Jpan"),
        ("ko", "Kore"),
        ("am", "Ethi"),
        ("pa", "Guru"),
        ("pa-PK", "Arab"),
        ("acm", "Arab"),  # langcodes has no data on it, and says Latn
        ("pbt", "Arab"),
        ("nv", "Latn"),
        ("hmn", "Zzzz"),  # not known
        ("hmn-Latn", "Latn"),
    ],
)
def test_script(tag: str, expected: str) -> None:
    assert script(tag) == expected


def test_name() -> None:
    assert [name(tag) for tag in ("iw", "zho_Hant", "no")] == ["Hebrew", "Chinese (Traditional)", "Norwegian"]


def test_direction() -> None:
    tags = ("ar", "he", "fa", "ur", "yi", "dv", "acm", "az", "az-Arab", "en", "zh")
    assert [tag for tag in tags if is_rtl(tag)] == ["ar", "he", "fa", "ur", "yi", "dv", "acm", "az-Arab"]


_SUBTAGS = st.sampled_from(["", "Latn", "arab", "Hant", "CN", "br", "419", "1996", "x-y", "u-ca", "Zz9"])
_TAGS = st.builds(
    lambda code, *rest: "_".join(part for part in (code, *rest) if part),
    st.text(string.ascii_lowercase, min_size=2, max_size=3) | st.sampled_from(sorted(SPELLINGS)),
    _SUBTAGS,
    _SUBTAGS,
)


@given(st.text(max_size=14) | _TAGS)
@settings(max_examples=300)
def test_any_text_gives_a_stable_tag_or_a_spec_error(tag: str) -> None:
    try:
        found = canonical(tag)
    except SpecError:
        return
    assert canonical(found) == found
    assert script(found) == script(tag)
    assert name(found)
    assert canonical_languages([tag]) == (found,)
    with pytest.raises(SpecError, match="given twice"):
        canonical_languages([found, tag])


@pytest.mark.parametrize("tag", ["no-\0", "\0-US", "klingon-\0-x", "en-\ud800", "\udc80"], ids=ascii)
def test_tags_that_are_not_text_are_refused(tag: str) -> None:
    with pytest.raises(SpecError, match="is not a known language"):
        canonical(tag)

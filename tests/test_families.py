"""Families: every entry is of one family, under the tag that languages have here, and nothing is guessed."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inc_laaciq import families
from inc_laaciq.errors import SpecError
from inc_laaciq.languages import canonical, canonical_script, family, is_same, script
from inc_laaciq.languages import families as known_families

# The languages of the FLORES-200 test set, which most multilingual models are measured on.
FLORES = """
ace_Arab ace_Latn acm acq aeb afr ajp aka amh apc arb arb_Latn ars ary arz asm ast awa ayr azb azj bak bam ban bel bem
ben bho bjn_Arab bjn_Latn bod bos bug bul cat ceb ces cjk ckb crh cym dan deu dik dyu dzo ell eng epo est eus ewe fao
fij fin fon fra fur fuv gaz gla gle glg grn guj hat hau heb hin hne hrv hun hye ibo ilo ind isl ita jav jpn kab kac kam
kan kas_Arab kas_Deva kat knc_Arab knc_Latn kaz kbp kea khk khm kik kin kir kmb kmr kon kor lao lij lim lin lit lmo ltg
ltz lua lug luo lus lvs mag mai mal mar min_Arab min_Latn mkd plt mlt mni mos mri mya nld nno nob npi nso nus nya oci
ory pag pan pap pbt pes pol por prs quy ron run rus sag san sat scn shn sin slk slv smo sna snd som sot spa als srd srp
ssw sun swe swh szl tam taq taq_Tfng tat tel tgk tgl tha tir tpi tsn tso tuk tum tur twi tzm uig ukr umb urd uzn vec vie
war wol xho ydd yor yue zho_Hans zho_Hant zsm zul
"""


@pytest.mark.parametrize(
    ("tag", "expected"),
    [
        ("en", "Indo-European"),
        ("fa", "Indo-European"),
        ("hy", "Indo-European"),
        ("ar", "Afro-Asiatic"),
        ("am", "Afro-Asiatic"),
        ("ha", "Afro-Asiatic"),
        ("he", "Afro-Asiatic"),
        ("sw", "Niger-Congo"),
        ("yo", "Niger-Congo"),
        ("bm", "Niger-Congo"),
        ("tr", "Turkic"),
        ("hu", "Uralic"),
        ("ta", "Dravidian"),
        ("mg", "Austronesian"),
        ("my", "Sino-Tibetan"),
        ("vi", "Austroasiatic"),
        ("th", "Kra-Dai"),
        ("ja", "Japonic"),
        ("ko", "Koreanic"),
        ("ka", "Kartvelian"),
        ("mn", "Mongolic"),
        ("qu", "Quechuan"),
        ("gn", "Tupian"),
        ("eu", "Basque"),
        ("ht", "Creole"),
        ("luo", "Nilo-Saharan"),
        ("swh_Latn", "Niger-Congo"),  # any spelling
        ("zh-Hant-TW", "Sino-Tibetan"),  # script and region do not matter
        ("acw", "Afro-Asiatic"),  # Hijazi Arabic: by its macro language
        ("eo", None),
        ("tlh", None),
        ("sgn", None),
        ("zun", None),  # Zuni is in no table here
    ],
)
def test_family(tag: str, expected: str | None) -> None:
    assert family(tag) == expected


def test_every_entry_is_canonical_and_in_one_family() -> None:
    codes = [code for text in families._TABLE.values() for code in text.split()]
    assert len(codes) == len(set(codes)) == len(families.FAMILY_OF)
    assert [code for code in codes if canonical(code) != code] == []
    assert not families.CONSTRUCTED & set(codes)


def test_every_language_with_two_letters_has_a_family_or_was_made_up() -> None:
    known = set()
    for first in string.ascii_lowercase:
        for second in string.ascii_lowercase:
            try:
                known.add(canonical(first + second))
            except SpecError:
                continue
    assert len(known) > 180
    assert {tag for tag in known if family(tag) is None} == {"eo", "ia", "ie", "io", "vo"}


def test_every_language_of_flores_has_a_family() -> None:
    tags = FLORES.split()
    assert len(tags) == 204
    assert [tag for tag in tags if family(tag) is None] == ["epo"]


def test_families_are_sorted_and_each_has_a_language() -> None:
    assert list(known_families()) == sorted(known_families())
    assert set(families.FAMILY_OF.values()) == set(known_families())


def test_unknown_language_has_no_family_but_an_error() -> None:
    with pytest.raises(SpecError, match="is not a known language"):
        family("xx")


@pytest.mark.parametrize(
    ("code", "expected"), [("arab", "Arab"), ("DEVA", "Deva"), (" Latn ", "Latn"), ("hans", "Hans")]
)
def test_script_in_its_usual_case(code: str, expected: str) -> None:
    assert canonical_script(code) == expected


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("Arabic", r"'Arabic' is not a script .* Did you mean 'Arab' \(Arabic\)"),
        ("Devanagari", r"Did you mean 'Deva' \(Devanagari\)"),
        ("Cyrl1", r"Did you mean 'Cyrl'"),
        ("Hani", r"Did you mean 'Hans' .* or 'Hant'"),
        ("Hira", r"Did you mean 'Jpan'"),
        ("Zzzz", "is not a script"),
        ("", "is not a script"),
        ("a" * 99, r"'a{37}\.\.\.' is not a script"),
        (None, "None is not the code of a script"),
        (7, "7 is not the code of a script"),
    ],
)
def test_unknown_script_is_refused_with_close_ones(code: str, reason: str) -> None:
    with pytest.raises(SpecError, match=reason):
        canonical_script(code)


def test_every_script_that_a_language_has_can_be_named() -> None:
    scripts = {script(code) for code in families.FAMILY_OF} - {"Zzzz"}
    assert len(scripts) > 40
    assert "Kana" in scripts  # of Okinawan, not of Japanese
    assert {code: canonical_script(code) for code in scripts} == {code: code for code in scripts}


@given(st.text(max_size=8))
def test_any_text_gives_a_script_or_a_spec_error(code: str) -> None:
    try:
        found = canonical_script(code)
    except SpecError:
        return
    assert canonical_script(found) == found


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [("zh", "zh-CN", True), ("zh", "cmn", True), ("zh", "zh-Hant", False), ("pt", "pt-PT", False), ("no", "nb", False)],
)
def test_same_language(first: str, second: str, expected: bool) -> None:
    assert is_same(first, second) is expected
    assert is_same(second, first) is expected

"""Language tags: any usual spelling in, one canonical BCP 47 tag out.

Corpora name the same language in many ways (`sw`, `swh`, `swh_Latn`, `SW`), and a language that is counted twice under
two names gets twice the say in a scale that all languages share.  So every tag that enters the package goes through
`canonical`, and every list of tags through `canonical_languages`.

The data is that of CLDR, through `langcodes`: deprecated codes are replaced (`iw` -> `he`), the main member of a macro
language stands for it (`arb` -> `ar`, `cmn` -> `zh`), a script is dropped where it is the likely one (`zho_Hans` ->
`zh`, but `zh-Hant` stays), a region is kept (`pt-BR`).  `no` (Norwegian) and `nb` (Bokmal) stay two languages.
`langcodes` is imported on first use: it costs about 50 ms, which `inc-laaciq --help` need not pay.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from contextlib import suppress
from functools import lru_cache
from typing import Any

from inc_laaciq.errors import SpecError
from inc_laaciq.families import FAMILIES, FAMILY_OF

# ISO 15924 codes whose text runs from right to left and that living languages use.
_RIGHT_TO_LEFT = frozenset({"Adlm", "Arab", "Aran", "Hebr", "Mand", "Mend", "Nkoo", "Rohg", "Samr", "Syrc", "Thaa"})

# Codes that are valid in BCP 47 and yet name no language.
_NOT_A_LANGUAGE = frozenset({"und", "mul", "mis", "zxx"})

_UNKNOWN_SCRIPT = "Zzzz"

# What `script` gives in place of a part of a script, or of two scripts in one.
_PART_OF = {
    "Aran": ("Arab",),
    "Hanb": ("Hant",),
    "Hang": ("Kore",),
    "Hani": ("Hans", "Hant"),
    "Hira": ("Jpan",),
    "Hrkt": ("Jpan",),
    "Jamo": ("Kore",),
    "Kana": ("Jpan",),
}


def canonical(tag: str) -> str:
    """Canonical BCP 47 tag of a language.

    Parameters
    ----------
    tag : str
        BCP 47 or ISO 639 code, in any case, with `-` or `_`, with or without script and region.

    Returns
    -------
    str
        For instance `"zh-Hant"`.  Applying the function again changes nothing.

    Raises
    ------
    SpecError
        If `tag` names no known language; the message suggests close ones.

    Examples
    --------
    >>> [canonical(tag) for tag in ("iw", "swh", "arb_Arab", "zho_Hans", "por_BR", "EN", "no")]
    ['he', 'sw', 'ar', 'zh', 'pt-BR', 'en', 'no']
    """
    if not isinstance(tag, str):
        raise SpecError(f"{tag!r} is not a language tag. Write text such as 'sw' (in YAML, quote 'no' for Norwegian).")
    return _canonical(tag)


@lru_cache(maxsize=4096)
def _canonical(tag: str) -> str:
    return _written(_parse(tag))


def canonical_languages(tags: Iterable[str]) -> tuple[str, ...]:
    """Canonical tags of several languages, in the given order.

    Parameters
    ----------
    tags : iterable of str
        As `canonical` takes them.

    Raises
    ------
    SpecError
        If a tag names no known language, or if two of them name the same one, be it by alias (`zh` and `cmn`) or
        because one only spells out what the other implies (`zh` and `zh-CN`).

    Examples
    --------
    >>> canonical_languages(["EN", "swh", "zho_Hant"])
    ('en', 'sw', 'zh-Hant')
    """
    if isinstance(tags, str):
        raise SpecError(f"languages={tags!r} is text, not a list of languages. Write a list, such as ['en', 'sw'].")
    found: list[str] = []
    first_spelling: dict[tuple[str, ...], str] = {}
    for tag in tags:
        language = canonical(tag)
        key = _identity(language)
        if key in first_spelling:
            other = first_spelling[key]
            same = f"is given twice: {tag!r}" if other == tag else f"is given twice, as {other!r} and as {tag!r}"
            raise SpecError(f"language {name(language)} ({language}) {same}. It would count double; keep one of them.")
        first_spelling[key] = tag
        found.append(language)
    return tuple(found)


def script(tag: str) -> str:
    """ISO 15924 code of the script that a language is likely written in; `"Zzzz"` where that is not known.

    Examples
    --------
    >>> script("sr"), script("uz-Cyrl"), script("zh-TW")
    ('Cyrl', 'Cyrl', 'Hant')
    """
    language = _parse(canonical(tag))
    return str(language.script or _likely_script(language.language, language.territory))


def canonical_script(code: str) -> str:
    """ISO 15924 code of a script, in its usual case.

    Raises
    ------
    SpecError
        If no known language is usually written in it, so that `script` never gives it; the message suggests close ones.

    Examples
    --------
    >>> canonical_script("arab")
    'Arab'
    """
    if not isinstance(code, str):
        raise SpecError(f"{code!r} is not the code of a script. Write text such as 'Arab' or 'Deva'.")
    names = _script_names()
    found = code.strip().title()
    if found in names:
        return found
    by_name = {english.lower(): known for known, english in names.items()}
    close = difflib.get_close_matches(found.lower(), by_name, n=1, cutoff=0.7)
    guesses = [by_name[near] for near in close] or difflib.get_close_matches(found, names, n=2, cutoff=0.6)
    if found in _PART_OF:
        guesses = list(_PART_OF[found])
    hint = f" Did you mean {' or '.join(f'{guess!r} ({names[guess]})' for guess in guesses)}?" if guesses else ""
    shown = code if len(code) <= 40 else code[:37] + "..."
    raise SpecError(
        f"{shown!r} is not a script that a known language is usually written in.{hint} "
        "Use an ISO 15924 code such as 'Arab', 'Deva' or 'Latn'."
    )


def family(tag: str) -> str | None:
    """Language family, one of `families()`; None where the table has none: constructed, disputed or unknown.

    A variety that is not in the table is looked up under its macro language (ISO 639-3), which has the same family.

    There is no such function for resource tiers: no agreed table of them exists, and what is low-resource depends on
    the model.  List the languages in a group of the policy.

    Examples
    --------
    >>> family("swh"), family("tr"), family("fuv"), family("eo")
    ('Niger-Congo', 'Turkic', 'Niger-Congo', None)
    """
    from langcodes.data_dicts import MACROLANGUAGES

    code = _parse(canonical(tag)).language
    return FAMILY_OF.get(code) or FAMILY_OF.get(MACROLANGUAGES.get(code, code))


def families() -> tuple[str, ...]:
    """Names of the families that `family` can give: the top level of the tree of languages, sorted."""
    return FAMILIES


def is_same(first: str, second: str) -> bool:
    """Whether two tags mean the same language, script, region and variant.

    Examples
    --------
    >>> is_same("zh", "zh-CN"), is_same("zh", "zh-Hant"), is_same("no", "nb")
    (True, False, False)
    """
    return _identity(canonical(first)) == _identity(canonical(second))


def name(tag: str) -> str:
    """Name of a language in English.

    Examples
    --------
    >>> name("swh")
    'Swahili'
    """
    import langcodes

    return str(langcodes.Language.get(canonical(tag)).display_name())


def is_rtl(tag: str) -> bool:
    """Whether the language is likely written from right to left.

    Examples
    --------
    >>> is_rtl("fa"), is_rtl("az"), is_rtl("az-Arab")
    (True, False, True)
    """
    return script(tag) in _RIGHT_TO_LEFT


def _parse(tag: str) -> Any:
    """`langcodes.Language` of a tag with aliases resolved, or SpecError."""
    language = _known(tag)
    if language is None:
        shown = tag if len(tag) <= 40 else tag[:37] + "..."
        close = [f"{code!r} ({name(code)})" for code in _suggestions(tag)]
        hint = f" Did you mean {' or '.join(close)}?" if close else ""
        raise SpecError(
            f"{shown!r} is not a known language.{hint} Use a BCP 47 or ISO 639 code such as 'sw', 'zh-Hant' or 'pt-BR'."
        )
    return language


def _known(tag: str) -> Any:
    """`langcodes.Language` of a tag with aliases resolved; None if the tag names no particular language."""
    import langcodes

    try:
        language = langcodes.Language.get(langcodes.standardize_tag(tag, macro=True))
    except langcodes.LanguageTagError:
        return None
    code = language.language
    # x-... and qaa to qtz are for private use: nobody else could tell which language is meant.
    if code is None or code in _NOT_A_LANGUAGE or len(code) > 3 or (len(code) == 3 and "qaa" <= code <= "qtz"):
        return None
    if language.extensions or language.private or language.extlangs or not language.is_valid():
        return None
    return language


def _written(language: Any) -> str:
    """Tag without a script that is the likely one."""
    subtags = [language.language]
    if language.script and language.script != _likely_script(language.language, language.territory):
        subtags.append(language.script)
    if language.territory:
        subtags.append(language.territory)
    return "-".join([*subtags, *(language.variants or ())])


def _suggestions(tag: str) -> list[str]:
    """At most three canonical tags that `tag` may have meant: by its letters, by name, by country, by spelling."""
    import langcodes
    from langcodes.data_dicts import LIKELY_SUBTAGS

    # The look-up by name is native code that reads beyond its table at a NUL, and fails on a lone surrogate.
    word = "".join(letter for letter in tag.strip().replace("_", "-")[:40] if letter.isprintable())
    code = "".join(letter for letter in word.split("-")[0].lower() if "a" <= letter <= "z")
    guesses = [code]
    if len(word) > 3:
        with suppress(LookupError):  # not a language's name in any language: the other guesses remain
            guesses.append(str(langcodes.find(word)))
    if f"und-{code.upper()}" in LIKELY_SUBTAGS:  # a country, such as jp
        guesses.append(str(langcodes.Language.make(territory=code.upper()).maximize().language))
    names = _names()
    guesses += [names[near] for near in difflib.get_close_matches(word.lower(), names, n=2, cutoff=0.75)]
    found = _canonical_only(guesses)
    if not found and 2 <= len(code) <= 4:
        found = _canonical_only(difflib.get_close_matches(code, names.values(), n=3, cutoff=0.5))
    return found[:3]


def _canonical_only(guesses: Iterable[str]) -> list[str]:
    """Canonical tags of those guesses that are languages, without repetition."""
    known = [language for guess in guesses if (language := _known(guess)) is not None]
    return list(dict.fromkeys(_written(language) for language in known))


@lru_cache(maxsize=1)
def _names() -> dict[str, str]:
    """English name in lower case -> code, for the languages of ISO 639-1 and some more: those a user may have meant."""
    import langcodes
    from langcodes.data_dicts import DEFAULT_SCRIPTS, LIKELY_SUBTAGS

    codes = {code for code in LIKELY_SUBTAGS if len(code) == 2} | {code for code in DEFAULT_SCRIPTS if len(code) <= 3}
    return {str(langcodes.Language.get(code).display_name()).lower(): code for code in sorted(codes)}


@lru_cache(maxsize=1)
def _script_names() -> dict[str, str]:
    """Code -> English name of the scripts that known languages are usually written in."""
    import langcodes
    from langcodes.data_dicts import DEFAULT_SCRIPTS, LIKELY_SUBTAGS

    likely = (langcodes.Language.get(full) for tag, full in LIKELY_SUBTAGS.items() if not tag.startswith("und"))
    found = {language.script for language in likely} | set(DEFAULT_SCRIPTS.values())
    codes = sorted(code for code in found if code and code != _UNKNOWN_SCRIPT)
    return {code: str(langcodes.Language.make(script=code).script_name()) for code in codes}


@lru_cache(maxsize=4096)
def _likely_script(code: str, territory: str | None) -> str:
    """Script by CLDR's likely subtags, else that of the macro language.

    `langcodes` answers Latn for a language without data (Iraqi Arabic, for one), so it is asked only about languages
    that it has data on.
    """
    import langcodes
    from langcodes.data_dicts import DEFAULT_SCRIPTS, LIKELY_SUBTAGS, MACROLANGUAGES

    for known in (code, MACROLANGUAGES.get(code, code)):
        if known in LIKELY_SUBTAGS or known in DEFAULT_SCRIPTS:
            return str(langcodes.Language.make(language=known, territory=territory).maximize().script)
    return _UNKNOWN_SCRIPT


@lru_cache(maxsize=4096)
def _identity(tag: str) -> tuple[str, ...]:
    """Key that is equal for two canonical tags exactly if they mean the same language, script, region and variant."""
    import langcodes

    language = langcodes.Language.get(tag)
    territory = language.territory or language.maximize().territory
    return (language.language, script(tag), territory, *(language.variants or ()))

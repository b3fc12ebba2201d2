"""Languages as a configuration writes them: list items and keys, with what could surprise about them noted."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

from inc_laaciq.config.section import Place, Section
from inc_laaciq.errors import SpecError
from inc_laaciq.languages import canonical, canonical_languages, name


def read_languages(section: Section, key: str) -> tuple[str, ...]:
    """Read a list of languages; canonical tags, in the given order.

    Raises
    ------
    SpecError
        With file and line, if it is no list, is empty, or holds an unknown language or one of them twice.
    """
    given = section.data.get(key)
    if not isinstance(given, list) or not given:
        raise section.error(key, "must be a list with something in it, such as [en, sw].")
    for item, tag in enumerate(given):
        note_language(section, (key, item), tag)
    return distinct_languages(section, key, given)


def read_language_keys(parent: Section, key: str, section: Section) -> dict[str, str]:
    """Read the keys of a mapping, `section`, that stands below `key` in `parent`: canonical tag -> key as written."""
    for tag in section.data:
        note_language(section, tag, tag)
    return dict(zip(distinct_languages(parent, key, section.data), section.data, strict=True))


def note_language(section: Section, place: Place, tag: object) -> str:
    """Canonical tag of one language; noted if it is written in a way that could surprise."""
    try:
        language = _language(tag)
    except SpecError as error:
        raise section.error(place, str(error), with_value=False) from None
    if section.is_legacy_boolean(place):
        section.note(
            place, f"is the language {language} ({name(language)}). Quote it: YAML 1.1 takes it for a boolean."
        )
    elif language != tag:
        section.note(place, f"{tag!r} is read as {language!r} ({name(language)}).")
    return language


def distinct_languages(section: Section, key: str, tags: Iterable[str]) -> tuple[str, ...]:
    """Canonical tags, none of them given twice."""
    try:
        return canonical_languages(tags)
    except SpecError as error:
        raise section.error(key, str(error), with_value=False) from None


def _language(tag: object) -> str:
    if isinstance(tag, bool):
        raise SpecError(f"is the boolean {str(tag).lower()}, not a language. For Norwegian write 'no', in quotes.")
    return canonical(cast(str, tag))  # which says what is wrong with a value that is no text

"""Which measurement is of which language: what is given on the command line, sorted out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from inc_laaciq.backends.gaudi_fp8_files import Measurement, read_measurement
from inc_laaciq.backends.gaudi_fp8_names import DumpName, Rank, find_dump
from inc_laaciq.errors import MismatchError, SpecError
from inc_laaciq.languages import canonical, canonical_languages

Dumps = dict[str, dict[Rank, Measurement]]


def named_dumps(given: Iterable[str]) -> dict[str, DumpName]:
    """The measurement of each language, from arguments such as ``sw=dumps/swahili`` and ``dumps/sw``.

    Parameters
    ----------
    given : iterable of str
        ``language=PATH``, or a PATH that names the language: in the counts that this package writes beside its own
        measurements, else by the last part of its name (``sw``, ``measure_sw``).  A folder whose subfolders each hold a
        measurement stands for these.

    Returns
    -------
    dict
        Canonical tag -> name, in the order given.

    Raises
    ------
    SpecError
        If a path has no measurement or several, or names no language; if a language is given twice.
    """
    found: list[tuple[str, DumpName]] = []
    for argument in given:
        tag, path = _split(argument)
        if tag is not None:
            found.append((tag, find_dump(path)))
            continue
        for place in _places(path):
            name = find_dump(place)
            found.append((_language_of(place, name), name))
    tags = canonical_languages([tag for tag, _ in found])
    return dict(zip(tags, (name for _, name in found), strict=True))


def read_dumps(names: dict[str, DumpName]) -> Dumps:
    """Read the measurements of every language and worker.

    Raises
    ------
    SpecError
        If fewer than two languages are given.
    MismatchError
        If they are not of the same observer and workers.
    IntegrityError, NumericError
        As `read_measurement`.
    """
    if len(names) < 2:
        raise SpecError(f"{len(names)} measurement is given, and there is nothing to merge. Give one of each language.")
    first_tag, first = next(iter(names.items()))
    for tag, name in names.items():
        kind = {name.observer, first.observer}
        # What this package's observer writes of one language is what the stock observer measures.
        if len(kind) > 1 and kind != {"maxabs", "laaciq"}:
            raise MismatchError(
                f"{first_tag} was measured by the observer {first.observer} and {tag} by {name.observer}. "
                "Measure all languages with the same one."
            )
        if name.ranks != first.ranks:
            raise MismatchError(
                f"{first_tag} was measured by {_workers(first.ranks)} and {tag} by {_workers(name.ranks)}. "
                "Measure all languages with the same number of workers."
            )
    return {tag: {rank: read_measurement(name, rank) for rank in name.ranks} for tag, name in names.items()}


def _split(argument: str) -> tuple[str | None, Path]:
    tag, sign, path = argument.partition("=")
    if not sign or "/" in tag:
        return None, Path(argument)
    if not path:
        raise SpecError(
            f"{argument}: no path follows the language. Write one, as in {tag or 'sw'}=dumps/{tag or 'sw'}."
        )
    return canonical(tag), Path(path)


def _places(path: Path) -> list[Path]:
    """The path, or the subfolders of a folder that holds no files itself."""
    if not path.is_dir() or any(entry.is_file() for entry in path.iterdir()):
        return [path]
    return sorted(entry for entry in path.iterdir() if entry.is_dir()) or [path]


def _language_of(place: Path, name: DumpName) -> str:
    recorded = read_measurement(name, name.ranks[0]).language
    if recorded is not None:
        return canonical(recorded)
    names = (name.prefix.name, name.prefix.parent.name) if place.is_dir() else (name.prefix.name,)
    for text in names:
        for part in (text, re.split(r"[_.]", text)[-1]):
            if (tag := _tag(part)) is not None:
                return tag
    raise SpecError(
        f"{place}: its name does not tell the language. Write it in front, as "
        f"in sw={place}; if folders in it are meant, give these."
    )


def _tag(text: str) -> str | None:
    try:
        return canonical(text)
    except SpecError:
        return None


def _workers(ranks: Sequence[Rank]) -> str:
    return "one worker" if ranks == (None,) else f"{len(ranks)} workers"

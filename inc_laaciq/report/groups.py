"""Languages by script, by family and by the groups of a policy: where the damage sits."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from inc_laaciq.report import numbers
from inc_laaciq.report.characters import visible
from inc_laaciq.report.checks import VERDICTS, known_verdict, texts_of
from inc_laaciq.report.document import Document


@dataclass(frozen=True, kw_only=True)
class GroupRow:
    """Languages that have something in common; `kind` is `script`, `family` or `group`."""

    kind: str
    name: str
    languages: str
    verdicts: str
    mean: str
    worst: str


def group_rows(languages: Mapping[str, Document], decimals: int) -> tuple[GroupRow, ...]:
    """A row for each group, and for each script and family that several languages share.

    Parameters
    ----------
    languages : mapping of language -> mapping
        As the document has them.
    decimals : int
        Of a millinat.
    """
    members: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    for tag in sorted(languages):
        for key in _kinds(languages[tag]):
            members[key].append(tag)
    order = ("script", "family", "group")
    keys = sorted(members, key=lambda key: (order.index(key[0]), key[1]))
    return tuple(
        _group(kind, name, {tag: languages[tag] for tag in members[kind, name]}, decimals)
        for kind, name in keys
        if len(members[kind, name]) > 1 or kind == "group"
    )


def _kinds(entry: Document) -> Iterator[tuple[str, str]]:
    for kind in ("script", "family"):
        if name := visible(entry.get(kind)):
            yield kind, name
    for name in dict.fromkeys(texts_of(entry, "groups")):
        yield "group", name


def _group(kind: str, name: str, languages: Mapping[str, Document], decimals: int) -> GroupRow:
    measured = {tag: value for tag, entry in languages.items() if (value := _degradation(entry)) is not None}
    # One that was measured and has no number is worse than any that has one.
    broken = [tag for tag in sorted(languages) if "missing" not in languages[tag] and tag not in measured]
    worst = ""
    if measured:
        worst = broken[0] if broken else max(sorted(measured), key=lambda tag: measured[tag])
    verdicts = Counter(known_verdict(entry["verdict"]) for entry in languages.values() if "verdict" in entry)
    shown = [*VERDICTS, *(verdict for verdict in sorted(verdicts) if verdict not in VERDICTS)]
    return GroupRow(
        kind=kind,
        name=name,
        languages=str(len(languages)),
        verdicts=", ".join(f"{verdicts[verdict]} {verdict}" for verdict in shown if verdicts[verdict]),
        mean=numbers.millinats(
            math.fsum(measured.values()) / len(measured) if measured and not broken else None, decimals, signed=True
        ),
        worst=f"{visible(worst)} {numbers.millinats(measured.get(worst), decimals, signed=True)}" if worst else "",
    )


def _degradation(entry: Document) -> float | None:
    value = None if "missing" in entry else numbers.as_float(entry.get("degradation"))
    return value if value is not None and math.isfinite(value) and abs(value) < 1e100 else None

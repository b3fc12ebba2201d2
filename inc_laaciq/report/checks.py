"""Checks and waivers of a gate as texts, and how bad each outcome is; every format takes both from here."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from inc_laaciq.report import numbers
from inc_laaciq.report.characters import visible
from inc_laaciq.report.document import Document, items, section, sections

VERDICTS = ("PASS", "FAIL", "INCONCLUSIVE", "NOT-RUN")

#: Shown for a verdict that this version does not know; it never counts as a pass.
UNKNOWN_VERDICT = "UNKNOWN"

#: How an outcome is reported: an error fails the gate, a warning has to be looked at, a note is for the record.
Level = Literal["error", "warning", "note", "none"]

_LEVELS: tuple[Level, ...] = ("error", "warning", "note", "none")

#: A bound on how much worse a language may get; `max_degradation:TASK` is the same on a task.
DEGRADATION = "max_degradation"


@dataclass(frozen=True, kw_only=True)
class WaiverRow:
    """A language that is let through with a wider bound until a day; `line` is that of the policy."""

    language: str
    limit: str
    owner: str
    reason: str
    ticket: str
    expires: str
    is_expired: bool
    line: int | None

    @property
    def state(self) -> str:
        """Whether it still counts."""
        return "expired" if self.is_expired else "in force"

    @property
    def words(self) -> str:
        """Who let it through, why, and until when."""
        parts = (
            self.reason,
            f"owner {self.owner}" if self.owner else "",
            f"ticket {self.ticket}" if self.ticket else "",
            f"{'expired' if self.is_expired else 'expires'} {self.expires}" if self.expires else self.state,
        )
        return "; ".join(part for part in parts if part)


@dataclass(frozen=True, kw_only=True)
class CheckRow:
    """One bound, held against one language, a group, or all languages."""

    id: str
    kind: str
    task: str
    tag: str
    subject: str
    limit: str
    value: str
    interval: str
    p_value: str
    detectable: str
    verdict: str
    severity: str
    level: Level
    is_waived: bool
    reason: str
    source: str
    line: int | None
    waiver: WaiverRow | None

    @property
    def outcome(self) -> str:
        """Verdict, and whether it holds by a waiver or only warns."""
        if self.is_waived:
            return f"{self.verdict} (waived)"
        return f"{self.verdict} (warning)" if self.severity == "warn" and self.verdict != "PASS" else self.verdict

    @property
    def words(self) -> str:
        """Value, interval and limit in one line; empty if none of them is known."""
        value = self.value if self.value != numbers.UNKNOWN else ""
        parts = (
            f"{value} {self.interval}".strip(),
            f"limit {self.limit}" if self.limit else "",
            f"smallest detectable {self.detectable}" if self.detectable != numbers.UNKNOWN else "",
        )
        return ", ".join(part for part in parts if part)


def known_verdict(given: object) -> str:
    """Give back a verdict that this version knows, and `UNKNOWN` for anything else."""
    return str(given) if given in VERDICTS else UNKNOWN_VERDICT


_DEFAULT_FAILS = frozenset(VERDICTS) - {"PASS", "INCONCLUSIVE"} | {UNKNOWN_VERDICT}


def failing_verdicts(document: Document) -> frozenset[str] | None:
    """Verdicts that fail the command: by its policy's `inconclusive` and `not_run`, or all but a pass under --strict.

    None where no policy judged.
    """
    policy = section(document, "policy")
    consequences = {"INCONCLUSIVE": policy.get("inconclusive"), "NOT-RUN": policy.get("not_run")}
    if None in consequences.values():
        return None
    is_strict = document.get("strict") is True
    doubtful = {verdict for verdict, consequence in consequences.items() if is_strict or consequence != "warn"}
    return _DEFAULT_FAILS - {"NOT-RUN"} | doubtful


def level_of(verdict: str, severity: str, *, is_waived: bool = False, fails: frozenset[str] = _DEFAULT_FAILS) -> Level:
    """How bad an outcome is; `fails` are the verdicts that fail the gate.

    Examples
    --------
    >>> [level_of(verdict, "error") for verdict in ("FAIL", "NOT-RUN", "INCONCLUSIVE", "PASS", "UNKNOWN")]
    ['error', 'error', 'warning', 'none', 'error']
    >>> level_of("FAIL", "warn"), level_of("INCONCLUSIVE", "warn"), level_of("PASS", "error", is_waived=True)
    ('warning', 'note', 'note')
    """
    if verdict == "PASS":
        return "note" if is_waived else "none"
    worst = 0 if verdict in fails else 1
    return _LEVELS[worst + (1 if severity == "warn" else 0)]


def waiver_rows(document: Document) -> tuple[WaiverRow, ...]:
    """Every waiver of the policy, in its order."""
    return tuple(_waiver(entry) for entry in sections(document, "waivers"))


def check_rows(document: Document, decimals: int) -> tuple[CheckRow, ...]:
    """Every check of the gate, in the order of the document.

    Parameters
    ----------
    document : mapping
        Schema `inc-laaciq/gate/1` or `inc-laaciq/run/1`.
    decimals : int
        Of a millinat, as `numbers.decimals_for` gives it.
    """
    waivers = waiver_rows(document)
    languages = section(document, "languages")
    fails = failing_verdicts(document) or _DEFAULT_FAILS
    return tuple(_check(entry, languages, waivers, decimals, fails) for entry in sections(document, "checks"))


def worst_first(rows: Sequence[CheckRow]) -> tuple[CheckRow, ...]:
    """Errors, then warnings, notes and passes; those alike keep their order."""
    return tuple(sorted(rows, key=lambda row: _LEVELS.index(row.level)))


def language_checks(document: Document, kind: str = DEGRADATION) -> dict[str, Document]:
    """The check of one kind of each language; of several, the worst."""
    found: dict[str, Document] = {}
    for entry in sections(document, "checks"):
        tag = entry.get("language")
        if entry.get("kind") != kind or not isinstance(tag, str):
            continue
        if tag not in found or _rank(entry) < _rank(found[tag]):
            found[tag] = entry
    return found


def limit_text(check: Document, decimals: int) -> str:
    """Write the limit of a check in the unit of its value; empty if it has none."""
    value = numbers.as_float(check.get("limit_value"))
    if value is not None and check.get("unit") == "npb":
        return f"{numbers.millinats(value, decimals)} {numbers.UNIT}"
    given = visible(check.get("limit"))
    return given or ("" if value is None else numbers.in_unit(value, check.get("unit"), decimals, signed=False))


def bound_npb(check: Document, entry: Document) -> float | None:
    """Degradation at which a language would just keep its limit, in nats per byte.

    Found from the distance between value and limit, so it also holds where the value is beyond that of another
    language; None where the check or the language has no such number.
    """
    figures = (check.get("limit_value"), check.get("value"), entry.get("degradation"))
    limit, value, degradation = (numbers.as_float(number) for number in figures)
    if limit is None or value is None or degradation is None or not math.isfinite(limit + value + degradation):
        return None
    room = limit - value
    unit = check.get("unit")
    if unit == "npb":
        return degradation + room
    counts = (numbers.as_float(entry.get(key)) for key in ("sentences" if unit == "nps" else "tokens", "bytes"))
    n, n_bytes = (count or 0.0 for count in counts)
    relative = numbers.as_float(entry.get("relative_perplexity"))
    if not 0.0 < n < math.inf or not 0.0 < n_bytes < math.inf:
        return None
    if unit == "nps":
        return degradation + room * n / n_bytes
    if unit != "%" or relative is None or not -1.0 < relative + room < math.inf:
        return None
    return math.log1p(relative + room) * n / n_bytes


def _rank(check: Document) -> int:
    severity = "warn" if check.get("severity") == "warn" else "error"
    return _LEVELS.index(level_of(known_verdict(check.get("verdict")), severity))


def _check(
    entry: Document, languages: Document, waivers: Sequence[WaiverRow], decimals: int, fails: frozenset[str]
) -> CheckRow:
    unit, tag = entry.get("unit"), entry.get("language")
    verdict = known_verdict(entry.get("verdict"))
    severity = "warn" if entry.get("severity") == "warn" else "error"
    kind, _, task = visible(entry.get("kind")).partition(":")
    waiver = _waiver_of(entry, kind, waivers)
    is_waived = verdict == "PASS" and entry.get("waiver") is not None
    line = entry.get("line")
    return CheckRow(
        id=visible(entry.get("id")),
        kind=kind,
        task=task or visible(entry.get("task")),
        tag=visible(tag),
        subject=_subject(entry, languages),
        limit=limit_text(entry, decimals),
        value=numbers.in_unit(entry.get("value"), unit, decimals),
        interval=numbers.span_in_unit(entry.get("lower"), entry.get("upper"), unit, decimals),
        p_value=numbers.probability(entry.get("p_value")),
        detectable=numbers.in_unit(entry.get("detectable"), unit, decimals, signed=False),
        verdict=verdict,
        severity=severity,
        level=level_of(verdict, severity, is_waived=is_waived, fails=fails),
        is_waived=is_waived,
        reason=visible(entry.get("reason")) or f"{verdict}: no reason was recorded",
        source=visible(entry.get("source")),
        line=_line(line if line is not None or waiver is None else waiver.line),
        waiver=waiver,
    )


def _subject(entry: Document, languages: Document) -> str:
    tag, group = entry.get("language"), visible(entry.get("group"))
    if tag is None:
        return f"group {group}" if group else "all languages"
    known = languages.get(tag) if isinstance(tag, str) else None
    name = visible(known.get("name")) if isinstance(known, Mapping) else ""
    shown = visible(tag)
    return f"{name} ({shown})" if name and name != shown else shown


def _waiver_of(entry: Document, kind: str, waivers: Sequence[WaiverRow]) -> WaiverRow | None:
    """The waiver by which a check was judged, or the expired one that no longer helps its language."""
    own = section(entry, "waiver")
    tag = visible(entry.get("language"))
    if own:
        found = _waiver({"language": entry.get("language"), "limit": entry.get("limit"), **own})
        same = (w for w in waivers if (w.language, w.ticket, w.expires) == (tag, found.ticket, found.expires))
        listed = next(same, None)
        if listed is not None and found.line is not None and listed.line is None:
            return WaiverRow(**{**vars(listed), "line": found.line})
        return listed or found
    if not tag or kind not in (DEGRADATION, "waiver"):
        return None
    return next((waiver for waiver in waivers if waiver.is_expired and waiver.language == tag), None)


def _waiver(entry: Document) -> WaiverRow:
    return WaiverRow(
        language=visible(entry.get("language")),
        limit=visible(entry.get("limit")),
        owner=visible(entry.get("owner")),
        reason=visible(entry.get("reason")),
        ticket=visible(entry.get("ticket")),
        expires=visible(entry.get("expires")),
        is_expired=entry.get("is_expired") is True,
        line=_line(entry.get("line")),
    )


def _line(given: object) -> int | None:
    return given if isinstance(given, int) and not isinstance(given, bool) and 0 < given < 2**31 else None


def texts_of(parent: Document, key: str) -> tuple[str, ...]:
    """Texts of a list, made visible; empty ones are left out."""
    return tuple(text for text in (visible(item) for item in items(parent, key)) if text)

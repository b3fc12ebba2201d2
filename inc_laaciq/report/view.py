"""What every rendering shows, as texts: the numbers are written and the languages are put in order once, here.

Renderers lay these texts out and escape them for their format; none of them looks at the run itself.  All texts of
others have passed `visible`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from inc_laaciq.report import numbers
from inc_laaciq.report.characters import visible, visible_lines
from inc_laaciq.report.checks import (
    CheckRow,
    WaiverRow,
    bound_npb,
    check_rows,
    failing_verdicts,
    known_verdict,
    language_checks,
    limit_text,
    texts_of,
    waiver_rows,
)
from inc_laaciq.report.details import Heat, SentenceList, TrialRow, heat, sentence_lists, trial_rows
from inc_laaciq.report.document import GATE_SCHEMA, Document, check_schema, section, sections
from inc_laaciq.report.groups import GroupRow, group_rows
from inc_laaciq.report.provenance import LayerRow, configuration, layer_rows, policy_text, provenance
from inc_laaciq.report.rows import Against, Bits, Estimate, LanguageRow, Size, SummaryRow

#: Below a ratio, so that nobody has to guess which way it goes.
RATIO_MEANING = (
    "Ratio = degradation of this run / that of the comparison; below 1, this run loses less; [ ] is a 95% interval. "
    "For the worst language, each side's own worst is taken."
)

#: What the numbers are.
UNIT_MEANING = (
    f"Losses are in millinats per UTF-8 byte ({numbers.UNIT}; a bound of 0.01npb is 10 {numbers.UNIT}). "
    f"Degradation = loss of the quantized model - loss of the float model on the same text; positive is worse; "
    f"{numbers.PLUS_MINUS} is one standard error. Disparity = largest - smallest degradation."
)

#: What the verdicts of languages mean.
VERDICT_MEANING = (
    "PASS: below the limit with the confidence of the policy. FAIL: above it with that confidence. INCONCLUSIVE: "
    "neither is sure, so more text is needed. NOT-RUN: there are no figures. Verdicts are one-sided: the two-sided "
    "interval of a language that passes may reach a little over its limit. Detectable: the smallest margin at which a "
    "harmless model passes with 80% power."
)

# Of the two-sided interval of a language, where the document has no policy.
_CONFIDENCE = 0.95

_BITS = 1.0 / math.log(2.0)

# A degradation nearer to zero than this many standard errors cannot be divided by.
_CLEAR_OF_ZERO = 1.96


@dataclass(frozen=True, kw_only=True)
class View:
    """Everything a report shows, in the order in which it shows it."""

    title: str
    method: str
    verdict: str
    fails: bool | None  # whether the verdict fails the gate; None where no policy judged
    reasons: tuple[str, ...]
    comparisons: tuple[str, ...]
    languages: tuple[LanguageRow, ...]
    summary: tuple[SummaryRow, ...]
    noise: str
    size: Size | None
    layer_summary: str
    layers: tuple[LayerRow, ...]
    provenance: tuple[tuple[str, str], ...]
    configuration: str
    policy: str
    level: str
    signature: str
    notes: tuple[str, ...]
    checks: tuple[CheckRow, ...]
    waivers: tuple[WaiverRow, ...]
    groups: tuple[GroupRow, ...]
    trials: tuple[TrialRow, ...]
    sentences: tuple[SentenceList, ...]
    heat: Heat | None

    @property
    def is_failed(self) -> bool:
        """Whether the verdict fails the gate, or would fail one."""
        return self.verdict in ("FAIL", "UNKNOWN") if self.fails is None else self.fails

    @property
    def has_verdicts(self) -> bool:
        """Whether a gate judged each language by itself."""
        return any(row.verdict for row in self.languages)

    @property
    def interval_meaning(self) -> str:
        """What the interval of a language is; empty if there is none."""
        meaning = f"Intervals in [ ] are two-sided {self.level} intervals of the degradation."
        return meaning if self.has_intervals else ""

    @property
    def has_intervals(self) -> bool:
        """Whether any language has an interval."""
        return any(row.degradation.interval for row in self.languages)


def view(run: Mapping[str, Any]) -> View:
    """Arrange the content of `laaciq.json`, or the document of a gate, for a reader.

    Parameters
    ----------
    run : mapping
        Schema `inc-laaciq/run/1` or `inc-laaciq/gate/1`.

    Returns
    -------
    View
        Languages worst first, those without a finite number before all others, those not evaluated last.

    Raises
    ------
    IntegrityError
        If the schema is another one, or a section has the wrong type.
    """
    document = check_schema(run)
    languages = section(document, "languages")
    measured = {tag: section(languages, tag) for tag in sorted(languages, key=str)}
    others = section(document, "comparisons")
    comparisons = {name: section(others, name) for name in sorted(others)}
    decimals = numbers.decimals_for(entry.get("standard_error") for entry in measured.values())
    layers, layer_summary = layer_rows(sections(document, "layers"))
    judged = language_checks(document)
    order = sorted(measured, key=_order(measured))
    verdict = known_verdict(document.get("verdict"))
    return View(
        title=_title(document),
        method=_method(document),
        verdict=verdict,
        fails=None if (failing := failing_verdicts(document)) is None else verdict in failing,
        reasons=texts_of(document, "reasons"),
        comparisons=tuple(visible(name) for name in comparisons),
        languages=tuple(_language(tag, measured[tag], judged.get(tag), comparisons, decimals) for tag in order),
        summary=_summary(document, measured, comparisons, decimals) if measured else (),
        noise=_noise(document.get("expected_disparity"), decimals),
        size=_size(section(document, "bytes")),
        layer_summary=layer_summary,
        layers=layers,
        provenance=provenance(document),
        configuration=visible_lines(configuration(document)),
        policy=visible_lines(policy_text(document)),
        level=level(document),
        signature=visible(document.get("signature")),
        notes=texts_of(document, "notes"),
        checks=check_rows(document, decimals),
        waivers=waiver_rows(document),
        groups=group_rows(measured, decimals) if any("verdict" in entry for entry in measured.values()) else (),
        trials=trial_rows(document, decimals),
        sentences=sentence_lists(document, order, {tag: visible(entry.get("name")) for tag, entry in measured.items()}),
        heat=heat(document),
    )


def level(document: Document) -> str:
    """Confidence of the two-sided interval of a language, such as `95%`: that of the policy."""
    given = numbers.as_float(section(document, "policy").get("confidence"))
    return f"{100.0 * given:.6g}%" if given is not None and 0.0 < given < 1.0 else f"{100.0 * _CONFIDENCE:.6g}%"


def _title(document: Document) -> str:
    if document.get("schema") == GATE_SCHEMA:
        return visible(section(document, "candidate").get("name")) or "unnamed candidate"
    return visible(section(document, "model").get("name")) or "unnamed model"


def _method(document: Document) -> str:
    if document.get("schema") == GATE_SCHEMA:
        baseline = visible(section(document, "baseline").get("name")) or "an unnamed baseline"
        previous = section(document, "previous")
        named = visible(previous.get("name")) or "unnamed"
        return f"compared with {baseline}" + (f", previous release {named}" if previous else "")
    mode, reconcile = visible(document.get("mode")), visible(document.get("reconcile"))
    api = visible(document.get("api"))
    parts = [
        f"mode {mode}" if mode else "",
        f"reconciled by {reconcile}" if reconcile else "",
        f"through Neural Compressor's {api} API" if api else "",
    ]
    return ", ".join(part for part in parts if part)


def _order(measured: Mapping[str, Document]) -> Any:
    """Sort key: not finite, then largest degradation, then missing; ties by tag."""

    def key(tag: str) -> tuple[int, float, str]:
        entry = measured[tag]
        value = numbers.as_float(entry.get("degradation"))
        if "missing" in entry:
            return 2, 0.0, str(tag)
        return (1, -value, str(tag)) if value is not None and math.isfinite(value) else (0, 0.0, str(tag))

    return key


def _estimate(value: object, standard_error: object, decimals: int) -> Estimate:
    return Estimate(
        text=numbers.degradation(value, standard_error, decimals),
        value=_finite(value),
        standard_error=_finite(standard_error),
    )


def _finite(value: object) -> float | None:
    number = numbers.as_float(value)
    return number if number is not None and math.isfinite(number) else None


def _interval(estimate: Estimate, low: object, high: object, decimals: int) -> Estimate:
    ends = (_finite(low), _finite(high))
    if None in ends or estimate.value is None:
        return estimate
    # An interval says more than a standard error that nobody knows.
    text = estimate.text if estimate.standard_error is not None else estimate.text.split(" ")[0]
    return replace(estimate, text=text, interval=numbers.span(low, high, decimals), low=ends[0], high=ends[1])


def _bits(entry: Document) -> Bits:
    """Bits per byte as the document has them, or nats per byte in the other unit."""
    values = []
    for bits, nats in (("baseline_bits_per_byte", "baseline_loss"), ("bits_per_byte", "loss")):
        value, loss = _finite(entry.get(bits)), _finite(entry.get(nats))
        values.append(loss * _BITS if value is None and loss is not None else value)
    before, after = values
    return Bits(before=numbers.plain(before, 3), after=numbers.plain(after, 3), before_value=before, after_value=after)


def _language(
    tag: str, entry: Document, check: Document | None, comparisons: Mapping[str, Document], decimals: int
) -> LanguageRow:
    missing = visible(entry["missing"]) or "no reason was recorded" if "missing" in entry else ""
    numeric: Document = {} if missing else entry
    estimate = _estimate(numeric.get("degradation"), numeric.get("standard_error"), decimals)
    return LanguageRow(
        tag=visible(tag),
        name=visible(entry.get("name")) or visible(tag),
        script=visible(entry.get("script")),
        family=visible(entry.get("family")),
        groups=", ".join(texts_of(entry, "groups")),
        missing=missing,
        verdict=known_verdict(entry["verdict"]) if "verdict" in entry else "",
        is_waived=entry.get("waived") is True,
        limit=limit_text(check, decimals) if check is not None else "",
        bound=bound_npb(check, numeric) if check is not None else None,
        bits=_bits(numeric),
        relative_interval=numbers.relative_span(numeric.get("relative_low"), numeric.get("relative_high")),
        per_sentence=numbers.plain(numeric.get("per_sentence"), 3),
        fertility=numbers.plain(numeric.get("fertility"), 3),
        flip_rate=numbers.share(numeric.get("flip_rate")),
        kl=numbers.plain(numeric.get("kl"), 4),
        detectable=numbers.millinats(numeric.get("detectable"), decimals),
        baseline_loss=numbers.millinats(numeric.get("baseline_loss"), decimals),
        loss=numbers.millinats(numeric.get("loss"), decimals),
        degradation=_interval(estimate, numeric.get("low"), numeric.get("high"), decimals),
        relative_perplexity=numbers.percent(numeric.get("relative_perplexity")),
        against=tuple(_against(tag, numeric, other, decimals) for other in comparisons.values()),
        sentences=numbers.count(numeric.get("sentences")),
        tokens=numbers.count(numeric.get("tokens")),
        bytes=numbers.count(numeric.get("bytes")),
        documents=numbers.count(numeric.get("documents")),
        calibration_tokens=numbers.count(entry.get("calibration_tokens")),
    )


def _against(tag: str, entry: Document, comparison: Document, decimals: int) -> Against:
    other = section(section(comparison, "languages"), tag)
    theirs = _estimate(other.get("degradation"), other.get("standard_error"), decimals)
    ours = _finite(entry.get("degradation"))
    # A quotient by what may be zero says nothing: the denominator has to be clear of it.
    noise = _CLEAR_OF_ZERO * (theirs.standard_error or 0.0)
    if ours is None or theirs.value is None or theirs.value <= noise:
        return Against(degradation=theirs, ratio=numbers.UNKNOWN)
    return Against(degradation=theirs, ratio=numbers.ratio(ours / theirs.value))


def _summary(
    document: Document, measured: Mapping[str, Document], comparisons: Mapping[str, Document], decimals: int
) -> tuple[SummaryRow, ...]:
    worst = _worst(document, measured)
    tag = visible(document.get("worst_language")) or numbers.UNKNOWN
    name = visible(worst.get("name")) or tag
    relative = document.get("relative_disparity")
    points = "" if relative is None and document.get("schema") == GATE_SCHEMA else numbers.points(relative)

    def row(what: str, label: str, title: str, relative_perplexity: str) -> SummaryRow:
        return SummaryRow(
            label=label,
            title=title,
            degradation=_interval(
                _estimate(*_aggregate(document, what), decimals), *_aggregate_interval(document, what), decimals
            ),
            relative_perplexity=relative_perplexity,
            against=tuple(_against_aggregate(other, what, decimals) for other in comparisons.values()),
        )

    return (
        row("mean", "mean", "mean degradation", ""),
        row("worst", f"worst: {tag}", f"worst language: {name}", numbers.percent(worst.get("relative_perplexity"))),
        row("disparity", "disparity", "disparity of languages", points),
    )


def _noise(expected_disparity: object, decimals: int) -> str:
    if numbers.as_float(expected_disparity) is None:
        return ""
    expected = numbers.millinats(expected_disparity, decimals)
    return f"Sampling noise alone would give a disparity of about {expected} {numbers.UNIT}."


def _worst(parent: Document, languages: Document) -> Document:
    tag = parent.get("worst_language")
    return section(languages, tag) if isinstance(tag, str) else {}


def _aggregate_interval(document: Document, what: str) -> tuple[object, object]:
    if what == "worst":
        worst = section(document, "worst")
        return worst.get("low"), worst.get("high")
    return (document.get("disparity_low"), document.get("disparity_high")) if what == "disparity" else (None, None)


def _aggregate(parent: Document, what: str) -> tuple[object, object]:
    """Value and standard error of an aggregate of a run or of a comparison."""
    if what == "worst":
        worst = _worst(parent, section(parent, "languages"))
        return worst.get("degradation"), worst.get("standard_error")
    if what == "mean":
        return parent.get("mean_degradation"), parent.get("mean_standard_error")
    return parent.get("disparity"), parent.get("disparity_standard_error")


def _against_aggregate(comparison: Document, what: str, decimals: int) -> Against:
    found = section(section(comparison, "ratios"), what)
    return Against(
        degradation=_estimate(*_aggregate(comparison, what), decimals),
        ratio=numbers.ratio(found.get("ratio")),
        interval=numbers.interval(found.get("low"), found.get("high")),
    )


def _size(sizes: Document) -> Size | None:
    if not sizes:
        return None
    whole, layers = (
        f"{numbers.size(sizes.get(before))} to {numbers.size(sizes.get(after))}" if {before, after} & set(sizes) else ""
        for before, after in (("before", "after"), ("packed_layers_before", "packed_layers_after"))
    )
    return Size(whole=whole or numbers.UNKNOWN, layers=layers)

"""What every rendering shows, as texts: the numbers are written and the languages are put in order once, here.

Renderers lay these texts out and escape them for their format; none of them looks at the run itself.  All texts of
others have passed `visible`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from inc_laaciq.report import numbers
from inc_laaciq.report.characters import visible, visible_lines
from inc_laaciq.report.document import Document, check_schema, items, section, sections
from inc_laaciq.report.provenance import LayerRow, configuration, layer_rows, provenance

VERDICTS = ("PASS", "FAIL", "NOT-RUN")

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

# A degradation nearer to zero than this many standard errors cannot be divided by.
_CLEAR_OF_ZERO = 1.96


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A degradation as text, and in nats per byte for a plot (None: not a finite number)."""

    text: str
    value: float | None
    standard_error: float | None


@dataclass(frozen=True, kw_only=True)
class Against:
    """The same in a comparison, and the ratio to it; `interval` is empty where none was measured."""

    degradation: Estimate
    ratio: str
    interval: str = ""


@dataclass(frozen=True, kw_only=True)
class LanguageRow:
    """One language; `missing` says why there are no numbers, and is empty where there are."""

    tag: str
    name: str
    script: str
    missing: str
    baseline_loss: str
    loss: str
    degradation: Estimate
    relative_perplexity: str
    against: tuple[Against, ...]
    sentences: str
    tokens: str
    bytes: str
    calibration_tokens: str


@dataclass(frozen=True, kw_only=True)
class SummaryRow:
    """One figure over all languages; `label` is short, `title` is for where it stands alone."""

    label: str
    title: str
    degradation: Estimate
    relative_perplexity: str
    against: tuple[Against, ...]


@dataclass(frozen=True, kw_only=True)
class Size:
    """Bytes before and after: of the model, and of its quantized layers (empty if not recorded)."""

    whole: str
    layers: str


@dataclass(frozen=True, kw_only=True)
class View:
    """Everything a report shows, in the order in which it shows it."""

    title: str
    method: str
    verdict: str
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
    notes: tuple[str, ...]


def view(run: Mapping[str, Any]) -> View:
    """Arrange the content of `laaciq.json` for a reader.

    Parameters
    ----------
    run : mapping
        Content of `laaciq.json`, schema `inc-laaciq/run/1`.

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
    verdict = document.get("verdict")
    layers, layer_summary = layer_rows(sections(document, "layers"))
    return View(
        title=visible(section(document, "model").get("name")) or "unnamed model",
        method=_method(document),
        verdict=str(verdict) if verdict in VERDICTS else "UNKNOWN",
        reasons=_texts(document, "reasons"),
        comparisons=tuple(visible(name) for name in comparisons),
        languages=tuple(
            _language(tag, measured[tag], comparisons, decimals) for tag in sorted(measured, key=_order(measured))
        ),
        summary=_summary(document, measured, comparisons, decimals) if measured else (),
        noise=_noise(document.get("expected_disparity"), decimals),
        size=_size(section(document, "bytes")),
        layer_summary=layer_summary,
        layers=layers,
        provenance=provenance(document),
        configuration=visible_lines(configuration(document)),
        notes=_texts(document, "notes"),
    )


def _texts(document: Document, key: str) -> tuple[str, ...]:
    return tuple(text for text in (visible(item) for item in items(document, key)) if text)


def _method(document: Document) -> str:
    mode, reconcile = visible(document.get("mode")), visible(document.get("reconcile"))
    parts = [f"mode {mode}" if mode else "", f"reconciled by {reconcile}" if reconcile else ""]
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


def _language(tag: str, entry: Document, comparisons: Mapping[str, Document], decimals: int) -> LanguageRow:
    missing = visible(entry["missing"]) or "no reason was recorded" if "missing" in entry else ""
    numeric: Document = {} if missing else entry
    return LanguageRow(
        tag=visible(tag),
        name=visible(entry.get("name")) or visible(tag),
        script=visible(entry.get("script")),
        missing=missing,
        baseline_loss=numbers.millinats(numeric.get("baseline_loss"), decimals),
        loss=numbers.millinats(numeric.get("loss"), decimals),
        degradation=_estimate(numeric.get("degradation"), numeric.get("standard_error"), decimals),
        relative_perplexity=numbers.percent(numeric.get("relative_perplexity")),
        against=tuple(_against(tag, numeric, other, decimals) for other in comparisons.values()),
        sentences=numbers.count(numeric.get("sentences")),
        tokens=numbers.count(numeric.get("tokens")),
        bytes=numbers.count(numeric.get("bytes")),
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

    def row(what: str, label: str, title: str, relative_perplexity: str) -> SummaryRow:
        return SummaryRow(
            label=label,
            title=title,
            degradation=_estimate(*_aggregate(document, what), decimals),
            relative_perplexity=relative_perplexity,
            against=tuple(_against_aggregate(other, what, decimals) for other in comparisons.values()),
        )

    return (
        row("mean", "mean", "mean degradation", ""),
        row("worst", f"worst: {tag}", f"worst language: {name}", numbers.percent(worst.get("relative_perplexity"))),
        row("disparity", "disparity", "disparity of languages", numbers.points(document.get("relative_disparity"))),
    )


def _noise(expected_disparity: object, decimals: int) -> str:
    if numbers.as_float(expected_disparity) is None:
        return ""
    expected = numbers.millinats(expected_disparity, decimals)
    return f"Sampling noise alone would give a disparity of about {expected} {numbers.UNIT}."


def _worst(parent: Document, languages: Document) -> Document:
    tag = parent.get("worst_language")
    return section(languages, tag) if isinstance(tag, str) else {}


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

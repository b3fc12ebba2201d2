"""Rows of a report: what is shown of one language, and of one figure over all of them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A degradation as text, and in nats per byte for a plot (None: not a finite number).

    `low` and `high` are the ends of a two-sided interval, if one is known; `interval` is the same as text.
    """

    text: str
    value: float | None
    standard_error: float | None
    interval: str = ""
    low: float | None = None
    high: float | None = None

    @property
    def short(self) -> str:
        """Value with its interval, or with its standard error where there is no interval."""
        return f"{self.text.split(' ')[0]} {self.interval}" if self.interval else self.text


@dataclass(frozen=True, kw_only=True)
class Against:
    """The same in a comparison, and the ratio to it; `interval` is empty where none was measured."""

    degradation: Estimate
    ratio: str
    interval: str = ""


@dataclass(frozen=True, kw_only=True)
class Bits:
    """Loss before and after in bits per byte, as text and, where finite, as number."""

    before: str
    after: str
    before_value: float | None
    after_value: float | None


@dataclass(frozen=True, kw_only=True)
class LanguageRow:
    """One language; `missing` says why there are no numbers, and is empty where there are.

    `verdict` and `limit` are empty where no gate judged the language; `bound` is the limit as a degradation in nats
    per byte, for a plot.
    """

    tag: str
    name: str
    script: str
    family: str
    groups: str
    missing: str
    verdict: str
    is_waived: bool
    limit: str
    bound: float | None
    bits: Bits
    relative_interval: str
    per_sentence: str
    fertility: str
    flip_rate: str
    kl: str
    detectable: str
    baseline_loss: str
    loss: str
    degradation: Estimate
    relative_perplexity: str
    against: tuple[Against, ...]
    sentences: str
    tokens: str
    bytes: str
    documents: str
    calibration_tokens: str

    @property
    def outcome(self) -> str:
        """Verdict, and whether it holds by a waiver."""
        return f"{self.verdict} (waived)" if self.is_waived else self.verdict


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

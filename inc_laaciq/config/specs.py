"""The parts of a configuration, as frozen dataclasses that are checked once, when they are made.

The defaults of a configuration are the defaults here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from inc_laaciq.config import checks
from inc_laaciq.config.checks import check_fields
from inc_laaciq.config.policy import Policy
from inc_laaciq.errors import SpecError
from inc_laaciq.languages import canonical, canonical_languages

Approach = Literal["post_training_weight_only", "post_training_static_quant", "post_training_fp8_quant"]
Scheme = Literal["sym", "asym"]
Mode = Literal["paper", "fast", "balanced", "fair"]
Reconcile = Literal["mean", "natural", "minimax", "cvar"]
NanPolicy = Literal["error", "keep-fp"]
Tune = Literal["auto", "model", "blocks", "none"]
ActivationAlgorithm = Literal["la_aciq", "minmax", "kl"]
RangeReconcile = Literal["error", "max", "mean", "pooled"]
Fp8ScaleMethod = Literal["maxabs_pow2", "maxabs_arbitrary"]
Fp8Reconcile = Literal["max", "mean", "minimax", "error"]
Fp8Device = Literal["gaudi2", "gaudi3", "cpu"]

APPROACHES: tuple[Approach, ...] = get_args(Approach)
SCHEMES: tuple[Scheme, ...] = get_args(Scheme)
MODES: tuple[Mode, ...] = get_args(Mode)
RECONCILE: tuple[Reconcile, ...] = get_args(Reconcile)
NEED_TEXT: tuple[Mode, ...] = ("balanced", "fair")
"""Modes that compensate errors, for which they need second moments of the calibration text."""
NAN_POLICIES: tuple[NanPolicy, ...] = get_args(NanPolicy)
TUNE: tuple[Tune, ...] = get_args(Tune)
ACTIVATION_ALGORITHMS: tuple[ActivationAlgorithm, ...] = get_args(ActivationAlgorithm)
RANGE_RECONCILE: tuple[RangeReconcile, ...] = get_args(RangeReconcile)
FP8_SCALE_METHODS: tuple[Fp8ScaleMethod, ...] = get_args(Fp8ScaleMethod)
FP8_RECONCILE: tuple[Fp8Reconcile, ...] = get_args(Fp8Reconcile)
FP8_DEVICES: tuple[Fp8Device, ...] = get_args(Fp8Device)
LABELS_REFUSED: Mapping[Tune, str] = {
    tune: f"needs the model's predictions, and tune: {tune} does not look at them. Set tune to model, or labels to 0."
    for tune in ("blocks", "none")
}
LABELS = 0.1
"""Share of labels unless another is given: it lowered the mean of the loss in most of what `benchmarks` measured."""
MAX_SEED = 2**32 - 1

check_bits = checks.integer(2, 8)
check_seed = checks.integer(0, MAX_SEED)


@dataclass(frozen=True, kw_only=True)
class WeightSpec:
    """Grid of a layer's weights: integers, or FP8.

    Parameters
    ----------
    bits : int
        2 to 8.
    group_size : int
        Weights that share a scale: -1 for a whole output channel, or 8 or more.  Whether it divides a layer's
        in_features is known only with the model.
    scheme : "sym" or "asym"
    dtype : "int" or "fp8_e4m3"
        FP8 has 8 bits and one scale for the whole tensor, whatever else is said here.  A layer that stays in float has
        no WeightSpec: see `OpRule`.
    """

    bits: int = 4
    group_size: int = 32
    scheme: Scheme = "sym"
    dtype: Literal["int", "fp8_e4m3", "fp32"] = "int"

    def __post_init__(self) -> None:
        floating = {"fp32": "a layer that stays in float has no weight spec; use OpRule(weight=None)"}
        check_fields(
            self,
            bits=check_bits,
            group_size=checks.group_size,
            scheme=checks.word(SCHEMES),
            dtype=checks.word(("int", "fp8_e4m3"), refused=floating),
        )


@dataclass(frozen=True, kw_only=True)
class ActivationSpec:
    """Static grid of activations: one range per tensor.

    Parameters
    ----------
    bits : int
        8.
    scheme : "asym" or "sym"
    algorithm : "la_aciq", "minmax" or "kl"
        How the range is chosen; `minmax` and `kl` are INC's own.
    reconcile : "error", "max", "mean" or "pooled"
        How `la_aciq` makes one range for all languages.  "error": the one on which rounding loses least, in the mean of
        the languages, weighted by `LaaciqSpec.weights`.  The others are made of the ranges that four moments give each
        language: their union, so that none is clipped harder than it would be alone; the mean of their ends, weighted
        in the same way; or the range of all text together.
    """

    bits: int = 8
    scheme: Scheme = "asym"
    algorithm: ActivationAlgorithm = "la_aciq"
    reconcile: RangeReconcile = "error"

    def __post_init__(self) -> None:
        check_fields(
            self,
            bits=checks.integer(8, 8),
            scheme=checks.word(SCHEMES),
            algorithm=checks.word(ACTIVATION_ALGORITHMS),
            reconcile=checks.word(RANGE_RECONCILE),
        )

    @property
    def needs_counts(self) -> bool:
        """Whether values have to be counted to find the ranges."""
        return self.algorithm == "la_aciq" and self.reconcile == "error"


@dataclass(frozen=True, kw_only=True)
class Fp8Spec:
    """FP8 weights and inputs, each with one static scale per tensor, as a Gaudi computes with.

    Parameters
    ----------
    scale_method : "maxabs_pow2" or "maxabs_arbitrary"
        How INC rounds scales; those that a CPU has too, where the result is evaluated.
    reconcile : "max", "mean", "minimax" or "error"
        How one range is made from those of all languages.
    device : "gaudi2", "gaudi3" or "cpu"
        Where the ranges are for: what is reported of them and what `error` looks at differs.
    """

    scale_method: Fp8ScaleMethod = "maxabs_pow2"
    reconcile: Fp8Reconcile = "max"
    device: Fp8Device = "gaudi2"

    def __post_init__(self) -> None:
        check_fields(
            self,
            scale_method=checks.word(FP8_SCALE_METHODS),
            reconcile=checks.word(FP8_RECONCILE),
            device=checks.word(FP8_DEVICES),
        )


@dataclass(frozen=True, kw_only=True)
class OpRule:
    """Exception for the layers whose name matches.

    Parameters
    ----------
    pattern : str
        Regular expression that the whole module name must match, as in INC (`re.fullmatch`).  Of several rules that
        match, the last one counts.
    weight : WeightSpec or None
        None leaves the layers in float.
    """

    pattern: str
    weight: WeightSpec | None

    def __post_init__(self) -> None:
        check_fields(self, pattern=lambda value: checks.pattern(checks.text(value)))


@dataclass(frozen=True, kw_only=True)
class TextSpec:
    """Text by language, and how much of it.

    Parameters
    ----------
    texts : str or mapping
        Folder or file; or, for a data set, the arguments of `datasets.load_dataset` and the names of its columns.
    tokens_per_language : int
        0 takes all there is.
    seed : int
        Chooses which text is taken where there is more.
    aligned : bool
        Line i of every language is a translation of the same sentence; for evaluation only.
    """

    texts: str | Mapping[str, Any]
    tokens_per_language: int = 4096
    seed: int = 0
    aligned: bool = False

    def __post_init__(self) -> None:
        check_fields(self, tokens_per_language=checks.integer(0), seed=check_seed, aligned=checks.boolean)


@dataclass(frozen=True, kw_only=True)
class FairSpec:
    """How mode `fair` tunes codes and scales.

    Parameters
    ----------
    tune : "auto", "model", "blocks" or "none"
        The whole model at once, against the float model's predictions; block by block, against the float block's
        output as far as the predictions feel it, which needs no memory for steps of the whole model; or not at all.
        "auto" takes the whole model up to a thousand million weights, so that a configuration means the same on every
        machine.
    steps : int
        One row of text of every language each; 1 or more.
    tilt : float
        How much more the languages count that are further from the float model; 0 = all alike.
    sampled : int
        Rows of each language that the float model goes on with by itself, to tune on besides the calibration text;
        0 = none.  Only where the whole model is tuned.
    labels : float, or None
        Share of what is to be predicted on calibration text that the text's own next tokens have, from 0 to 1; the
        float model's predictions have the rest.  Only where the whole model is tuned; None is 0.1 there.
    """

    tune: Tune = "auto"
    steps: int = 240
    tilt: float = 4.0
    sampled: int = 120
    labels: float | None = None

    def __post_init__(self) -> None:
        check_fields(
            self,
            tune=checks.word(TUNE),
            steps=checks.integer(1),
            tilt=checks.at_least_zero,
            sampled=checks.integer(0),
            labels=lambda value: None if value is None else checks.fraction(value),
        )
        if self.labels and self.tune in LABELS_REFUSED:
            raise SpecError(f"FairSpec.labels={self.labels:g} {LABELS_REFUSED[self.tune]}")

    @property
    def label_share(self) -> float:
        """`labels`, or what None stands for: 0 where nothing looks at predictions."""
        if self.labels is not None:
            return self.labels
        return 0.0 if self.tune in LABELS_REFUSED else LABELS


@dataclass(frozen=True, kw_only=True)
class LaaciqSpec:
    """The `la_aciq:` section.

    Parameters
    ----------
    mode : "fair", "balanced", "fast" or "paper"
        How much work the solver does.
    reconcile : "mean", "natural", "minimax" or "cvar"
        For whom the scale that all languages share is chosen.
    weights : mapping of language to float
        Multiplies a language's say; a language that is not named has 1.
    shares : mapping of language to float, or None
        For `natural`: each language's fraction of the training text; None takes the sizes of the calibration text.
    languages : tuple of str, or None
        None takes every language that the text has.
    calibration, evaluation : TextSpec or None
    gate : Policy or None
        What the quantized model must keep.
    signed : bool
        Let a symmetric scale be negative, so that the extra level goes to the side that needs it.
    scaling : bool
        Scale outlier columns of the weights by powers of two, which the norm in front takes back exactly; needs
        calibration text, and is for weights only.
    damping : float
        Added to the Hessian's diagonal, as a fraction of its mean; between 0 and 1.
    refine : int
        Rounds in which scales and codes are looked at again after the error compensation, of modes `balanced` and
        `fair`; 0 = none.
    fair : FairSpec
        For mode `fair`.
    lm_head : bool
        Quantize the output layer too.
    nan : "error" or "keep-fp"
        What a layer with NaN in its weights gets.
    strict_lid : bool
        Refuse text whose language is not the one it is filed under, instead of warning.
    """

    mode: Mode = "balanced"
    reconcile: Reconcile = "mean"
    weights: Mapping[str, float] = field(default_factory=dict)
    shares: Mapping[str, float] | None = None
    languages: tuple[str, ...] | None = None
    calibration: TextSpec | None = None
    evaluation: TextSpec | None = None
    gate: Policy | None = None
    signed: bool = True
    scaling: bool = True
    damping: float = 0.01
    refine: int = 3
    fair: FairSpec = field(default_factory=FairSpec)
    lm_head: bool = False
    nan: NanPolicy = "error"
    strict_lid: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.fair, FairSpec):
            raise SpecError(f"LaaciqSpec.fair={self.fair!r} is a {type(self.fair).__name__}, not a FairSpec.")
        check_fields(
            self,
            mode=checks.word(MODES),
            reconcile=checks.word(RECONCILE),
            weights=_check_weights,
            shares=_check_shares,
            languages=_check_canonical,
            signed=checks.boolean,
            scaling=checks.boolean,
            damping=checks.open_fraction,
            refine=checks.integer(0, 100),
            lm_head=checks.boolean,
            nan=checks.word(NAN_POLICIES),
            strict_lid=checks.boolean,
        )
        if self.shares is not None and self.reconcile != "natural":
            raise SpecError(
                f"LaaciqSpec.shares has a meaning for reconcile='natural' only, not for {self.reconcile!r}."
            )


def _check_canonical(tags: Any) -> None:
    for tag in tags or ():
        if canonical(tag) != tag:
            raise SpecError(f"holds {tag!r}, which is not canonical. Write {canonical(tag)!r}.")
    canonical_languages(tags or ())


def _check_weights(weights: Any) -> None:
    _check_canonical(weights)
    values = [checks.at_least_zero(weight) for weight in weights.values()]
    if values and not any(values):
        raise SpecError("gives no language a weight above 0.")


def _check_shares(shares: Any) -> None:
    if shares is None:
        return
    _check_canonical(shares)
    total = sum(checks.fraction(share) for share in shares.values())
    # Shares are often given to two decimals: a sum that is off by rounding is no mistake.
    if not 0 < total <= 1.01:
        raise SpecError(f"sums to {total:g}. Shares are fractions of the training text: above 0 and at most 1 in all.")


@dataclass(frozen=True, kw_only=True)
class TuningSpec:
    """When INC's search ends: seconds (0 for no limit), trials, and the seed it uses."""

    timeout: int = 0
    max_trials: int = 100
    random_seed: int = 1978

    def __post_init__(self) -> None:
        check_fields(self, timeout=checks.integer(0), max_trials=checks.integer(1), random_seed=check_seed)

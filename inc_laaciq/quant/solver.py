"""From a float weight and per-language statistics to codes: the one entry point of the mathematics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import torch

from inc_laaciq.errors import NumericError, SpecError
from inc_laaciq.quant.gptq import compensate
from inc_laaciq.quant.grid import Grid, absmax_parameters, dequantize, to_groups
from inc_laaciq.quant.moments import LanguageMoments
from inc_laaciq.quant.objective import LayerObjective
from inc_laaciq.quant.reconcile import RECONCILE, reconcile_languages, risk
from inc_laaciq.quant.refine import refine
from inc_laaciq.quant.scale_search import Parameters, closed_form, paper_formula, round_groups, search_groups

Mode = Literal["paper", "fast", "balanced"]
MODES: tuple[Mode, ...] = ("paper", "fast", "balanced")
PAPER_BITS = (3, 4, 5)

# From this many weights a group has a distribution to speak of, and the closed form is as good as a search.
_CLOSED_FORM_GROUP = 512
_ROUNDS = {"paper": 8, "fast": 8, "balanced": 4}


@dataclass(frozen=True, kw_only=True)
class SolverSpec:
    """What to solve and for whom.

    Parameters
    ----------
    bits : int
        2 to 8.
    group_size : int
        Weights per scale along the input axis; -1 = one scale per output channel.
    scheme : {"sym", "asym"}
    mode : {"paper", "fast", "balanced"}
        "paper": the literal formula alpha = sigma (2.5 + 0.3 ln(1 + kurtosis)), for comparison, 3 to 5 bits.
        "fast": closed form per channel without statistics, short search otherwise.
        "balanced": error compensation with the search inside; needs full second moments.
    reconcile : {"mean", "natural", "minimax", "cvar"}
    signed : bool
        A symmetric scale may be negative, which hands the grid's extra level to the side that needs it.
    damping : float
        Share of the mean diagonal added to the second moment before it is inverted, in (0, 1).
    refine : int
        Rounds of refinement after the error compensation, of mode "balanced"; 0 = none.
    weights : mapping of language -> float
        Emphasis; 1 where a language is not named.
    shares : mapping of language -> float, or None
        Training shares for `natural`; None = the numbers of calibration tokens.
    """

    bits: int = 4
    group_size: int = 64
    scheme: Literal["sym", "asym"] = "sym"
    mode: Mode = "balanced"
    reconcile: str = "mean"
    signed: bool = True
    damping: float = 0.01
    refine: int = 3
    weights: Mapping[str, float] = field(default_factory=dict)
    shares: Mapping[str, float] | None = None

    def __post_init__(self) -> None:
        Grid(bits=self.bits, scheme=self.scheme)
        if self.mode not in MODES:
            raise SpecError(f"mode={self.mode!r} is unknown; it is one of {', '.join(MODES)}")
        if self.reconcile not in RECONCILE:
            raise SpecError(f"reconcile={self.reconcile!r} is unknown; it is one of {', '.join(RECONCILE)}")
        if not 0 < self.damping < 1:
            raise SpecError(f"damping={self.damping} is outside (0, 1); 0.01 is usual")
        if self.refine < 0:
            raise SpecError(f"refine={self.refine} is negative; 3 rounds are usual, 0 is none")
        if self.mode == "paper" and self.bits not in PAPER_BITS:
            raise SpecError(
                f"mode 'paper' at {self.bits} bits: its formula fits 4 bits only; its squared error is 1.1 to 1.3 "
                "times the optimum at 3 bits, 3 to 6 times at 6, 27 to 54 times at 8. Use mode 'fast' or 'balanced', "
                "or 3 to 5 bits"
            )

    @property
    def grid(self) -> Grid:
        """The integer grid of the codes."""
        return Grid(bits=self.bits, scheme=self.scheme)

    def shares_of(self, moments: Mapping[str, LanguageMoments]) -> Mapping[str, float] | None:
        """Share of each language for `natural`, by default its number of tokens; None for every other rule.

        Raises
        ------
        SpecError
            If `shares` lacks a language.
        """
        if self.reconcile != "natural":
            return None
        shares = self.shares or {tag: float(m.n) for tag, m in moments.items()}
        if missing := [tag for tag in moments if tag not in shares]:
            raise SpecError(f"reconcile 'natural' has no training share for {', '.join(missing)}; add them to shares")
        return shares


@dataclass(frozen=True, kw_only=True)
class QuantizedWeight:
    """Codes on a grid: x ~ scale * (code - zero_point).

    Parameters
    ----------
    codes : tensor, shape (out_features, in_features), int8 (sym) or uint8 (asym)
    scale : tensor, shape (out_features, n_groups), float32 holding fp16 values, in weight units
    zero_point : tensor, shape (out_features, n_groups), uint8, or None for sym
    grid : Grid
    group_size : int
        As asked for; -1 = per channel.
    errors : mapping of language -> float
        Relative output error for each language, dimensionless; empty without statistics, and after tuning by gradients.
    """

    codes: torch.Tensor
    scale: torch.Tensor
    zero_point: torch.Tensor | None
    grid: Grid
    group_size: int
    errors: Mapping[str, float] = field(default_factory=dict)

    def dequantize(self) -> torch.Tensor:
        """The weight that the codes stand for, shape (out_features, in_features), float32."""
        return _dequantize(self.codes, self.scale, self.zero_point)


def _dequantize(codes: torch.Tensor, scale: torch.Tensor, zero_point: torch.Tensor | None) -> torch.Tensor:
    groups = codes.reshape(*scale.shape, -1)
    return dequantize(groups, scale[..., None], None if zero_point is None else zero_point[..., None]).reshape(
        codes.shape
    )


def check_finite(weight: torch.Tensor) -> None:
    """Raise NumericError, with counts, if the weight holds NaN or infinity."""
    # The extrema of a matrix with NaN are NaN; looking at every weight first would take longer than rounding it.
    if not bool(torch.isfinite(torch.stack(torch.aminmax(weight))).all()):
        nan, inf = int(torch.isnan(weight).sum()), int(torch.isinf(weight).sum())
        raise NumericError(f"{nan} NaN and {inf} infinite values among {weight.numel()} weights")


def solve(
    weight: torch.Tensor, spec: SolverSpec, moments: Mapping[str, LanguageMoments] | None = None
) -> QuantizedWeight:
    """Quantize one weight so that its error answers to every language.

    Parameters
    ----------
    weight : tensor, shape (out_features, in_features), any floating dtype; not modified
    spec : SolverSpec
    moments : mapping of language -> LanguageMoments, or None
        Statistics of this layer's input.  None = data-free, for modes "paper" and "fast".

    Returns
    -------
    QuantizedWeight
        Never worse than absmax rounding on the objective: the reconciled output error with statistics, the
        squared error without.

    Raises
    ------
    SpecError
        If the group size does not divide in_features, or "balanced" has no full second moments.
    NumericError
        If the weight holds NaN or infinity.
    """
    return solve_from(weight, spec, moments)[0]


def solve_from(
    weight: torch.Tensor, spec: SolverSpec, moments: Mapping[str, LanguageMoments] | None = None
) -> tuple[QuantizedWeight, torch.Tensor]:
    """`solve`, and what the codes were rounded from.

    Returns
    -------
    QuantizedWeight
    tensor, shape (out_features, in_features), float32
        The weight, with the rounding errors of earlier columns made up for where the mode does that.
    """
    check_finite(weight)
    weight = weight.detach().float()
    groups = to_groups(weight, spec.group_size)
    if not moments:
        if spec.mode == "balanced":
            raise SpecError(
                "mode 'balanced' needs calibration text; give la_aciq.calibration.texts, or use mode 'fast'"
            )
        return _pack(spec, _round(groups, spec, None))
    objective = LayerObjective(weight, moments, weights=spec.weights, shares=spec.shares_of(moments))
    if spec.mode == "balanced" and not objective.is_full:
        raise SpecError("mode 'balanced' needs full second moments of every language; collect with full=True")

    def attempt(mixture: torch.Tensor) -> tuple[_Rounded, torch.Tensor]:
        if spec.mode == "balanced":
            rounded = _compensated(weight, objective.hessian(mixture), spec, groups.shape[2])
        else:
            rounded = _round(groups, spec, objective.diagonal(mixture).reshape(groups.shape[1:]))
        return rounded, objective.errors(rounded.dequantize() - weight)

    best, errors = reconcile_languages(attempt, len(objective.languages), spec.reconcile, _ROUNDS[spec.mode])
    absmax = _absmax(groups, spec)
    absmax_errors = objective.errors(absmax.dequantize() - weight)
    if not risk(errors, spec.reconcile) <= risk(absmax_errors, spec.reconcile):  # nor where it is NaN
        best, errors = absmax, absmax_errors
    return _pack(spec, best, errors=dict(zip(objective.languages, errors.tolist(), strict=True)))


class _Rounded(NamedTuple):
    codes: torch.Tensor
    scale: torch.Tensor
    zero_point: torch.Tensor | None
    target: torch.Tensor
    """What the codes were rounded from, shape (out_features, in_features)."""

    def dequantize(self) -> torch.Tensor:
        return _dequantize(self.codes, self.scale, self.zero_point)


def _round(groups: torch.Tensor, spec: SolverSpec, importance: torch.Tensor | None) -> _Rounded:
    """Codes by the rule of the mode, without error compensation."""
    if spec.mode == "paper":
        parameters = paper_formula(groups, spec.grid, importance)
    elif importance is None and groups.shape[2] >= _CLOSED_FORM_GROUP:
        parameters = closed_form(groups, spec.grid, None)
    else:
        parameters = search_groups(groups, spec.grid, importance, signed=spec.signed)
    return _codes(groups, spec, parameters)


def _codes(groups: torch.Tensor, spec: SolverSpec, parameters: Parameters) -> _Rounded:
    scale, zero_point = parameters
    codes = round_groups(groups, parameters, spec.grid)
    zero = None if zero_point is None else zero_point.squeeze(-1)
    return _Rounded(codes, scale.squeeze(-1), zero, groups.reshape(len(groups), -1))


def _absmax(groups: torch.Tensor, spec: SolverSpec) -> _Rounded:
    return _codes(groups, spec, absmax_parameters(groups, spec.grid, rounded=True))


def _compensated(weight: torch.Tensor, hessian: torch.Tensor, spec: SolverSpec, group_size: int) -> _Rounded:
    """Codes with error compensation, refined."""
    codes, scale, zero_point, target = compensate(
        weight, hessian, spec.grid, group_size, signed=spec.signed, damping=spec.damping
    )
    if spec.refine:
        codes, scale, target = refine(
            weight, hessian, spec.grid, codes, scale, zero_point, damping=spec.damping, rounds=spec.refine
        )
    return _Rounded(codes, scale, zero_point, target)


def _pack(
    spec: SolverSpec, rounded: _Rounded, errors: Mapping[str, float] | None = None
) -> tuple[QuantizedWeight, torch.Tensor]:
    packed = QuantizedWeight(
        codes=rounded.codes.to(spec.grid.code_dtype),
        scale=rounded.scale.float(),
        zero_point=None if rounded.zero_point is None else rounded.zero_point.to(torch.uint8),
        grid=spec.grid,
        group_size=spec.group_size,
        errors=errors or {},
    )
    return packed, rounded.target

"""A power of two for every input column, so that the columns of a group, which share a scale, have one size.

Outlier columns of a weight set the scale of their groups, and the columns beside them are rounded to nothing.  Scaling
the columns before they are rounded, W' = W diag(s) on inputs x / s, mends that, and costs nothing where s can be folded
into what comes before.  Candidates are those of activation-aware quantization, s = act^a and s = act^a / wmax^(1 - a),
rounded to powers of two; the one with the least output error, reconciled over languages, is taken.
Source: Lin et al. 2023, "AWQ" (arXiv 2306.00978).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch

from inc_laaciq.errors import SpecError
from inc_laaciq.quant.grid import dequantize, to_groups
from inc_laaciq.quant.moments import LanguageMoments
from inc_laaciq.quant.objective import LayerObjective
from inc_laaciq.quant.reconcile import risk
from inc_laaciq.quant.scale_search import round_groups, search_groups
from inc_laaciq.quant.solver import SolverSpec

GAIN = 0.1
"""Share of the output error that a scale must take away.  On recipes/small_bloom, which has no outlier columns, the
best candidate takes away 0.3 % at most, and on its variant with outlier columns 63 to 73 %."""

# Output channels that a candidate is judged on: all of them would cost more than the solver itself.
_CHANNELS = 128
# Inputs a hundred times as loud as the rest want a factor of 2: a larger one makes their columns outliers themselves.
_POWERS = (0.125, 0.25, 0.5)
_RATIO_POWERS = (0.0, 0.25, 0.5, 0.75)
_LARGEST = 10  # exponent


def column_scale(
    weights: Sequence[torch.Tensor],
    spec: SolverSpec | Sequence[SolverSpec],
    moments: Mapping[str, LanguageMoments],
) -> torch.Tensor | None:
    """Scale of the columns of layers that share their input.

    Parameters
    ----------
    weights : sequence of tensor, shape (out_features, in_features), any floating dtype; not modified
        One or more.
    spec : SolverSpec, or one for each weight
    moments : mapping of language -> LanguageMoments
        Statistics of the input; the diagonal is enough.

    Returns
    -------
    tensor, shape (in_features,), float32, or None
        Powers of two with a geometric mean of about 1; None if no candidate takes away a tenth of the output error.

    Raises
    ------
    SpecError
        If there is no weight, or not one spec for each, or no statistics.
    """
    specs = [spec] * len(weights) if isinstance(spec, SolverSpec) else list(spec)
    if not weights or len(specs) != len(weights):
        raise SpecError(f"a column scale needs a spec for each weight, got {len(weights)} weights and {len(specs)}")
    layers = [_Layer(weight, each, moments) for weight, each in zip(weights, specs, strict=True)]
    best, least = None, (1 - GAIN) * sum(layer.risk(None) for layer in layers)
    for scale in _candidates(layers):
        error = sum(layer.risk(scale) for layer in layers)
        if error < least:
            best, least = scale, error
    return best


class _Layer:
    """What a scale does to one layer, judged on some of its output channels."""

    def __init__(self, weight: torch.Tensor, spec: SolverSpec, moments: Mapping[str, LanguageMoments]) -> None:
        self.weight = weight.detach()[:: -(-len(weight) // _CHANNELS)].float()
        self.spec = spec
        self.objective = LayerObjective(self.weight, moments, weights=spec.weights, shares=spec.shares_of(moments))
        count = len(self.objective.languages)
        self.power = self.objective.diagonal(torch.full((count,), 1.0 / count))
        """Mean square of every input under the mixture of all languages, shape (in_features,)."""

    def risk(self, scale: torch.Tensor | None) -> float:
        """Output error, reconciled over languages, after a quick rounding of the scaled columns."""
        scale = torch.ones_like(self.power) if scale is None else scale
        groups = to_groups(self.weight * scale, self.spec.group_size)
        importance = (self.power / scale.square()).reshape(groups.shape[1:])
        parameters = search_groups(groups, self.spec.grid, importance, signed=False)
        codes = round_groups(groups, parameters, self.spec.grid).reshape(groups.shape)
        rounded = dequantize(codes, *parameters).reshape(self.weight.shape)
        return risk(self.objective.errors(rounded / scale - self.weight), self.spec.reconcile)


def _candidates(layers: Sequence[_Layer]) -> Iterator[torch.Tensor]:
    """Scales to try, each once; that of all ones is not among them."""
    act = torch.stack([_relative(layer.power.sqrt()) for layer in layers]).mean(0).log2()
    wmax = torch.stack([_relative(layer.weight.abs().amax(0)) for layer in layers]).amax(0).log2()
    exponents = [power * act for power in _POWERS]
    exponents += [power * act - (1 - power) * wmax for power in _RATIO_POWERS]
    tried = [torch.ones_like(act)]
    for exponent in exponents:
        scale = _powers_of_two(exponent)
        if not any(torch.equal(scale, other) for other in tried):
            tried.append(scale)
            yield scale


def _relative(size: torch.Tensor) -> torch.Tensor:
    """Sizes of columns as multiples of their mean: layers of different scale have the same say."""
    return size / size.mean().clamp_min(torch.finfo(size.dtype).tiny)


def _powers_of_two(exponent: torch.Tensor) -> torch.Tensor:
    """The nearest powers of two, with a geometric mean of about 1; a column of zeros, which has no size, is as most."""
    known = torch.isfinite(exponent)
    if not bool(known.any()):
        return torch.ones_like(exponent)
    middle = exponent[known].median()
    # About the median: most columns then have one and the same factor, and only those that stand out another.
    steps = torch.where(known, exponent - middle, 0.0).round().clamp(-_LARGEST, _LARGEST)
    return torch.exp2(steps - steps.mean().round())

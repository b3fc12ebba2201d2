"""What a layer's quantization error costs each language, and how those costs become one objective.

The cost of replacing W by W + E for one language is its mean squared output error tr(E H E^T), with H that
language's second moment of the layer's input.  It is divided by the language's output energy tr(W H W^T), so
that a language with large activations does not outvote the others, and multiplied by the user's weight.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch

from inc_laaciq.errors import NumericError, SpecError
from inc_laaciq.quant.moments import LanguageMoments

_BLOCK = 512


def _gram(error: torch.Tensor) -> torch.Tensor:
    """E^T E with what is above the diagonal added to what is below, shape (in_features, in_features).

    Its sum of products with a symmetric matrix is that of E^T E, at half the cost.
    """
    columns = error.T.contiguous()
    gram = torch.zeros(2 * (len(columns),))
    for start in range(0, len(columns), _BLOCK):
        block = columns[start : start + _BLOCK]
        below = columns[start + _BLOCK :]
        gram[start : start + _BLOCK, start : start + _BLOCK] = block @ block.T
        torch.mul(below @ block.T, 2.0, out=gram[start + _BLOCK :, start : start + _BLOCK])
    return gram


class LayerObjective:
    """Normalised output error of one layer, by language.

    Parameters
    ----------
    weight : tensor, shape (out_features, in_features), float32
    moments : mapping of language -> LanguageMoments
        Statistics of this layer's input; at least one language.
    weights : mapping of language -> float
        The user's emphasis; languages that it does not name have weight 1.
    shares : mapping of language -> float, or None
        Given: languages are pooled by these shares without normalising by energy (`reconcile: natural`).
    """

    def __init__(
        self,
        weight: torch.Tensor,
        moments: Mapping[str, LanguageMoments],
        *,
        weights: Mapping[str, float] | None = None,
        shares: Mapping[str, float] | None = None,
    ) -> None:
        if not moments:
            raise SpecError("the objective of a layer needs statistics of at least one language, got none")
        self.languages = tuple(moments)
        self._moments = [moments[tag] for tag in self.languages]
        self.is_full = all(m.cross is not None for m in self._moments)
        emphasis = torch.tensor([float((weights or {}).get(tag, 1.0)) for tag in self.languages])
        if not bool((emphasis >= 0).all()) or not float(emphasis.sum()) > 0:
            raise SpecError(f"language weights must be >= 0 and not all zero, got {dict(weights or {})}")
        emphasis = emphasis / emphasis.mean()
        energy = self._costs(weight)
        if not bool(torch.isfinite(energy).all()):
            bad = [tag for tag, value in zip(self.languages, energy.tolist(), strict=True) if not math.isfinite(value)]
            raise NumericError(
                f"the layer's output has no finite energy on {', '.join(bad)}: its inputs or weights are too large "
                "for float32. Check the model on that text, or leave the layer in float"
            )
        if shares is None:
            # A language that this layer answers with zeros has no error to normalise: it takes no part.
            self._factor = torch.where(energy > 0, emphasis / energy.clamp_min(torch.finfo(energy.dtype).tiny), 0.0)
        else:
            share = torch.tensor([float(shares[tag]) for tag in self.languages])
            pooled = float((share * energy).sum() / share.sum())
            self._factor = emphasis * share / share.mean() / pooled if pooled > 0 else torch.zeros_like(share)

    def _costs(self, error: torch.Tensor) -> torch.Tensor:
        """tr(E H E^T) of every language, shape (n_languages,), through one Gram matrix of E."""
        if not self.is_full:
            power = error.square().sum(0)
            return torch.stack([torch.dot(power, m.diagonal) for m in self._moments])
        gram = _gram(error).flatten()
        return torch.stack([torch.dot(gram, m.second_moment.flatten()) for m in self._moments])

    def errors(self, error: torch.Tensor) -> torch.Tensor:
        """Weighted relative output error of every language, shape (n_languages,), dimensionless, >= 0."""
        return self._costs(error) * self._factor

    def diagonal(self, mixture: torch.Tensor) -> torch.Tensor:
        """Importance of each input column under a mixture of languages, shape (in_features,), >= 0."""
        factor = mixture * self._factor
        return torch.stack([f * m.diagonal for f, m in zip(factor, self._moments, strict=True)]).sum(0)

    def hessian(self, mixture: torch.Tensor) -> torch.Tensor:
        """Mixed second moment under a mixture of languages, shape (in_features, in_features)."""
        if not self.is_full:
            raise SpecError("error compensation needs the full second moment; collect with full=True")
        sums = {tag: m.cross for tag, m in zip(self.languages, self._moments, strict=True) if m.cross is not None}
        return self.mixed(mixture, sums)

    def mixed(self, mixture: torch.Tensor, sums: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Mean over tokens of a statistic, under a mixture of languages that is normalised as the objective is.

        Parameters
        ----------
        sums : mapping of language -> tensor, shape (in_features, in_features)
            Sums over the tokens of each language.
        """
        mixed = torch.zeros(2 * (self._moments[0].in_features,))
        # In place: a copy for each language would be more memory than all that the solver takes.
        for factor, tag, m in zip((mixture * self._factor).tolist(), self.languages, self._moments, strict=True):
            mixed.add_(sums[tag], alpha=factor / m.n)
        return mixed

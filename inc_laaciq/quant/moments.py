"""Per-language statistics of one layer's input, kept as sums and extrema so that they merge exactly.

Statistics of two batches, shards, machines or runs add up to those of the whole; a language that is
added later costs only its own tokens.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce

import torch

from inc_laaciq.errors import NumericError, SpecError
from inc_laaciq.quant.activation import ActivationMoments
from inc_laaciq.quant.value_counts import count_values

# Above this magnitude the fourth power leaves float32, so the sums of the block are taken in float64.
_LARGE = 1e8
# Values of a block: 256 kB of float32.
_BLOCK = 1 << 16


@dataclass(frozen=True, kw_only=True)
class LanguageMoments:
    """Sums over the tokens of one language, for the input of one layer.

    Parameters
    ----------
    n : int
        Tokens seen; >= 1.
    total : tensor, shape (in_features,), float64
        Sum of x.
    squares : tensor, shape (in_features,), float64
        Sum of x squared: the diagonal of the second moment, times `n`.
    cross : tensor, shape (in_features, in_features), float32, or None
        Sum of x x^T; None where only the diagonal was asked for.
    counts : tensor, shape (BINS,), int64, or None
        Values in each bin, all features together; None where they were not asked for.
    minimum, maximum : tensor, shape (in_features,), float32
        Extrema of each feature.
    cubes, fourths : float
        Sums of x**3 and x**4 over tokens and features.
    """

    n: int
    total: torch.Tensor
    squares: torch.Tensor
    minimum: torch.Tensor
    maximum: torch.Tensor
    cubes: float
    fourths: float
    cross: torch.Tensor | None = None
    counts: torch.Tensor | None = None

    @classmethod
    def of(cls, x: torch.Tensor, *, full: bool = False, counted: bool = False) -> LanguageMoments:
        """Statistics of a batch.

        Parameters
        ----------
        x : tensor, shape (..., in_features)
            Inputs of the layer, any floating dtype; half precision is widened before it is summed.
        full : bool
            Also keep the full second moment (for error compensation).
        counted : bool
            Also count the values (for a static range of the least error).

        Raises
        ------
        SpecError
            If `x` holds no token.
        NumericError
            If `x` holds NaN or infinity.
        """
        x = x.detach().reshape(-1, x.shape[-1]).float()
        if not len(x):
            raise SpecError("statistics of a batch need at least one token, got none")
        blocks = torch.split(x, max(1, _BLOCK // x.shape[1]))
        parts = [_Sums(block) for block in blocks]
        minimum = torch.stack([part.minimum for part in parts]).amin(0)
        maximum = torch.stack([part.maximum for part in parts]).amax(0)
        if not bool((torch.isfinite(minimum) & torch.isfinite(maximum)).all()):
            bad = int((~torch.isfinite(x)).any(dim=1).sum())
            raise NumericError(f"{bad} of {len(x)} tokens have NaN or infinite activations")
        return cls(
            n=len(x),
            total=torch.stack([part.total for part in parts]).double().sum(0),
            squares=torch.stack([part.squares for part in parts]).double().sum(0),
            minimum=minimum,
            maximum=maximum,
            cubes=sum(part.cubes for part in parts),
            fourths=sum(part.fourths for part in parts),
            cross=x.T @ x if full else None,
            counts=torch.stack([count_values(block) for block in blocks]).sum(0) if counted else None,
        )

    def __add__(self, other: LanguageMoments) -> LanguageMoments:
        """Statistics of both token sets together; what only one of them has is not kept."""
        if self.total.shape != other.total.shape:
            raise SpecError(
                f"cannot merge statistics of {len(self.total)} features with statistics of {len(other.total)}: "
                "they belong to different layers"
            )
        cross = self.cross + other.cross if self.cross is not None and other.cross is not None else None
        counts = self.counts + other.counts if self.counts is not None and other.counts is not None else None
        return LanguageMoments(
            n=self.n + other.n,
            total=self.total + other.total,
            squares=self.squares + other.squares,
            minimum=torch.minimum(self.minimum, other.minimum),
            maximum=torch.maximum(self.maximum, other.maximum),
            cubes=self.cubes + other.cubes,
            fourths=self.fourths + other.fourths,
            cross=cross,
            counts=counts,
        )

    @property
    def in_features(self) -> int:
        """Features of the layer's input."""
        return len(self.total)

    @property
    def diagonal(self) -> torch.Tensor:
        """Mean of x squared for each feature, shape (in_features,), float32."""
        return (self.squares / self.n).float()

    @property
    def second_moment(self) -> torch.Tensor:
        """Mean of x x^T, shape (in_features, in_features), float32.

        Raises
        ------
        SpecError
            If only the diagonal was collected.
        """
        if self.cross is None:
            raise SpecError("the full second moment was not collected; collect with full=True")
        return self.cross / self.n

    @property
    def activation(self) -> ActivationMoments:
        """The same statistics over all features together, for a per-tensor activation range."""
        return ActivationMoments(
            n=self.n * self.in_features,
            s1=float(self.total.sum()),
            s2=float(self.squares.sum()),
            s3=self.cubes,
            s4=self.fourths,
            minimum=float(self.minimum.min()),
            maximum=float(self.maximum.max()),
            counts=None if self.counts is None else self.counts.numpy(),
        )


class _Sums:
    """Sums and extrema of a block of rows that stays in the processor's cache.

    Five passes over memory would cost as much as the layer itself; `aminmax` over rows alone would, so it is not used.
    """

    def __init__(self, block: torch.Tensor) -> None:
        self.minimum, self.maximum = block.amin(0), block.amax(0)
        if float(torch.maximum(self.maximum, -self.minimum).max()) > _LARGE:
            block = block.double()
        squared = block * block
        self.total, self.squares = block.sum(0), squared.sum(0)
        self.cubes = float(torch.dot(squared.flatten(), block.flatten()))
        self.fourths = float(torch.dot(squared.flatten(), squared.flatten()))


def merge(parts: Iterable[LanguageMoments]) -> LanguageMoments:
    """Statistics of all parts together; at least one part is needed."""
    items = list(parts)
    if not items:
        raise SpecError("nothing to merge: no statistics were given")
    return reduce(LanguageMoments.__add__, items)

"""How large the values of a tensor are: counts by binary exponent, which say what a floating-point format loses.

FP8 keeps the same number of digits over its whole normal range, so neither kurtosis nor a histogram of equal steps
tells much about it.  What matters is how many values lie below the smallest normal number, and how many beyond the
largest: that is what counts by octave tell, in 80 integers, whichever scale is chosen later.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from inc_laaciq.errors import NumericError, SpecError

# Octave i holds magnitudes in [2**(LOWEST + i), 2**(LOWEST + i + 1)); what is outside is counted in the nearest one.
LOWEST = -48
OCTAVES = 80


@dataclass(frozen=True, kw_only=True)
class Magnitudes:
    """Counts of the magnitudes of one language's values at one place in the model; they add up over batches.

    Parameters
    ----------
    n : int
        Values seen, zeros among them; >= 1.
    squares : float
        Sum of x**2.
    largest : float
        Largest magnitude.
    counts : tuple of int
        Values other than zero in each of the `OCTAVES` octaves from 2**`LOWEST` on.
    """

    n: int
    squares: float
    largest: float
    counts: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.counts) != OCTAVES or min(self.counts) < 0 or not self.n >= 1 or sum(self.counts) > self.n:
            raise SpecError(f"counts of magnitudes must be {OCTAVES} numbers >= 0 that sum to at most n={self.n}.")

    @classmethod
    def of(cls, x: torch.Tensor) -> Magnitudes:
        """Counts of a tensor of any shape and floating type.

        Raises
        ------
        SpecError
            If `x` is empty.
        NumericError
            If `x` holds NaN or infinity.

        Examples
        --------
        >>> found = Magnitudes.of(torch.tensor([0.0, 0.75, -3.0]))
        >>> found.n, found.largest, {LOWEST + i: count for i, count in enumerate(found.counts) if count}
        (3, 3.0, {-1: 1, 1: 1})
        """
        values = x.detach().flatten().float()
        if not values.numel():
            raise SpecError("counts of magnitudes need at least one value, got none")
        if not bool(torch.isfinite(values).all()):
            raise NumericError(f"{int((~torch.isfinite(values)).sum())} of {values.numel()} values are NaN or infinite")
        _, exponents = torch.frexp(values[values != 0])  # x = m * 2**e with m in [0.5, 1)
        octaves = (exponents.long() - 1 - LOWEST).clamp(0, OCTAVES - 1)
        return cls(
            n=values.numel(),
            squares=float(values.double().square().sum()),
            largest=float(values.abs().max()),
            counts=tuple(torch.bincount(octaves, minlength=OCTAVES).tolist()),
        )

    def __add__(self, other: Magnitudes) -> Magnitudes:
        """Counts of both sets of values together."""
        return Magnitudes(
            n=self.n + other.n,
            squares=self.squares + other.squares,
            largest=max(self.largest, other.largest),
            counts=tuple(a + b for a, b in zip(self.counts, other.counts, strict=True)),
        )

    def share_below(self, threshold: float) -> float:
        """Share of the values other than zero that are smaller than `threshold` in magnitude.

        Exact where `threshold` is a power of two, as with INC's power-of-two scales; else values are taken to be spread
        evenly over the octave that holds it.  0 if all values are zero.
        """
        total = sum(self.counts)
        if not total:
            return 0.0
        low, high = octave_bounds()
        inside = np.clip((threshold - low) / (high - low), 0.0, 1.0)
        return float(np.dot(np.asarray(self.counts, dtype=np.float64), inside) / total)


def octave_bounds() -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Lower and upper bound of every octave, each of shape (`OCTAVES`,)."""
    low = 2.0 ** np.arange(LOWEST, LOWEST + OCTAVES)
    return low, 2 * low

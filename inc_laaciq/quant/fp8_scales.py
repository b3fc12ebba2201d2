"""Scales of FP8 tensors as Neural Compressor makes them from largest magnitudes.

Nothing here runs on an accelerator: it is the arithmetic that decides whether two ranges give the same scale there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from inc_laaciq.errors import SpecError

# Of E4M3, as multiples of the scale.
SMALLEST_NORMAL = 2.0**-6
SMALLEST_SUBNORMAL = 2.0**-9
# What Neural Compressor leaves above the largest input that it measured.
INPUT_BACKOFF = 0.25

# Gaudi 2 gives the largest exponent to infinity and NaN, so its largest number is smaller.
LARGEST = {"cpu": 448.0, "gaudi2": 240.0, "gaudi3": 448.0}
METHODS = ("maxabs_arbitrary", "maxabs_pow2", "maxabs_hw")
# Exponents of two of the scales that a Gaudi multiplies by for nothing: lowest, highest, step.
_HARDWARE = {"gaudi2": (-8, 4, 4), "gaudi3": (-55, 7, 1)}


@dataclass(frozen=True, kw_only=True)
class Fp8Target:
    """Where FP8 is computed and how scales are rounded.

    Parameters
    ----------
    device : {"cpu", "gaudi2", "gaudi3"}
    method : {"maxabs_arbitrary", "maxabs_pow2", "maxabs_hw"}
        Neural Compressor's `scale_method`; `maxabs_hw` needs a Gaudi.

    Raises
    ------
    SpecError
        If one of them is unknown, or they do not go together.
    """

    device: str
    method: str

    def __post_init__(self) -> None:
        if self.device not in LARGEST:
            raise SpecError(f"device={self.device!r} is unknown. Use one of {', '.join(LARGEST)}.")
        if self.method not in METHODS:
            raise SpecError(f"scale_method={self.method!r} is unknown here. Use one of {', '.join(METHODS)}.")
        if self.method == "maxabs_hw" and self.device not in _HARDWARE:
            raise SpecError(f"scale_method='maxabs_hw' rounds to what a Gaudi has, and device={self.device!r} is none.")

    @property
    def largest(self) -> float:
        """Largest number of E4M3 on the device, as a multiple of the scale."""
        return LARGEST[self.device]

    def scale(self, maxabs: float, backoff: float = INPUT_BACKOFF) -> float:
        """Scale that Neural Compressor gives to a tensor whose largest magnitude is `maxabs`.

        Parameters
        ----------
        maxabs : float
            >= 0; 0 gives 0, as in Neural Compressor.
        backoff : float
            Share of the range that `maxabs` takes.

        Notes
        -----
        In double precision.  Neural Compressor computes in the model's own type, so at the edge of a power of two it
        may take the next one.

        Examples
        --------
        >>> Fp8Target(device="cpu", method="maxabs_pow2").scale(3.886)
        0.0625
        """
        scale = maxabs / (self.largest * backoff)
        if scale == 0 or self.method == "maxabs_arbitrary":
            return scale
        exponent = math.ceil(math.log2(scale))
        if self.method == "maxabs_hw":
            lowest, highest, step = _HARDWARE[self.device]
            exponent = min(max(math.ceil(exponent / step) * step, lowest), highest)
        return 2.0**exponent


def targets(device: str) -> tuple[Fp8Target, ...]:
    """Every rounding of scales that is possible on a device."""
    return tuple(
        Fp8Target(device=device, method=method) for method in METHODS if method != "maxabs_hw" or device in _HARDWARE
    )

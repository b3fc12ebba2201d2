"""An axis in percent of the width, which fits a desktop and a phone and needs no script."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

_MAX_TICKS = 8
# Share of the width that is kept free at either end, in percent, so that no mark is cut.
_MARGIN = 3.0


@dataclass(frozen=True, kw_only=True)
class Tick:
    """A grid line and its number."""

    x: str
    label: str
    is_zero: bool


class Axis:
    """From numbers to percent of the width.

    Parameters
    ----------
    ends : iterable of float
        Everything that has to fit; finite.
    scale : float
        What a label is, as a multiple of the number.
    include_zero : bool
        Whether zero has to be on the axis.
    """

    def __init__(self, ends: Iterable[float], *, scale: float = 1.0, include_zero: bool = True) -> None:
        given = [*ends, *([0.0] if include_zero else [])]
        self._scale = scale
        self._low, self._high = min(given), max(given)
        if self._high - self._low < 1e-9:  # all alike: any width will do
            self._low, self._high = self._low - 0.001, self._high + 0.001

    def place(self, number: float) -> str:
        """Where a number stands, such as `12.50%`."""
        share = (number - self._low) / (self._high - self._low)
        return f"{_MARGIN + (100.0 - 2.0 * _MARGIN) * share:.2f}%"

    def holds(self, number: float) -> bool:
        """Whether a number is on the axis."""
        return self._low <= number <= self._high

    def ticks(self) -> tuple[Tick, ...]:
        """At most nine round numbers."""
        low, high = self._scale * self._low, self._scale * self._high
        rough = (high - low) / (_MAX_TICKS - 1)
        magnitude = 10.0 ** math.floor(math.log10(rough))
        step = magnitude * next(factor for factor in (1, 2, 5, 10) if factor * magnitude >= rough * (1 - 1e-9))
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        return tuple(
            Tick(x=self.place(k * step / self._scale), label=f"{k * step:.6g}", is_zero=k == 0)
            for k in range(first, last + 1)
        )

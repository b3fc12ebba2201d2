"""What Neural Compressor's packed layers cannot carry, known without importing it."""

from __future__ import annotations

from inc_laaciq.config import WeightSpec
from inc_laaciq.errors import SpecError


def check_carried(name: str, weight: WeightSpec) -> None:
    """Refuse a grid that Neural Compressor would unpack wrongly.

    Raises
    ------
    SpecError
        For 8-bit asymmetric weights: unpacking subtracts the zero point from the code in int8, which overflows.
    """
    if weight.bits == 8 and weight.scheme == "asym":
        raise SpecError(
            f"layer {name!r}: Neural Compressor unpacks 8-bit asymmetric weights wrongly (codes minus zero point "
            "overflow int8). Use scheme: sym for 8 bits"
        )

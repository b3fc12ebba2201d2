"""Hypothesis strategies for quantization: grids, and weights of the kinds that break quantizers."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from inc_laaciq.quant.grid import Grid

bits = st.integers(2, 8)


@st.composite
def grids(draw: st.DrawFn, *, schemes: tuple[str, ...] = ("sym", "asym"), narrow: bool | None = None) -> Grid:
    """Any integer grid; `narrow` True or False fixes that choice."""
    scheme = draw(st.sampled_from(schemes))
    is_narrow = scheme == "sym" and (draw(st.booleans()) if narrow is None else narrow)
    return Grid(bits=draw(bits), scheme=scheme, narrow_range=is_narrow)


@st.composite
def weights(draw: st.DrawFn, *, min_size: int = 1) -> torch.Tensor:
    """Float32 [rows, group]: rows of zeros, single outliers, one-sided rows, magnitudes from 1e-6 to 1e4, odd sizes."""
    rows, size = draw(st.integers(1, 4)), draw(st.integers(min_size, max(33, min_size)))
    elements = st.floats(-4.0, 4.0, width=32, allow_subnormal=False)
    values = draw(hnp.arrays(np.float32, (rows, size), elements=elements))
    for row in values:
        kind = draw(st.sampled_from(["plain", "zero", "outlier", "positive", "negative", "mixed"]))
        if kind == "zero":
            row[:] = 0.0
        elif kind == "outlier":
            row[draw(st.integers(0, size - 1))] = draw(st.sampled_from([-1e2, 1e2]))
        elif kind == "positive":
            np.abs(row, out=row)
        elif kind == "negative":
            row[:] = -np.abs(row)
        elif kind == "mixed":
            row *= np.float32(10.0) ** np.resize(np.array([-5, 0, 2], dtype=np.float32), size)
        row *= np.float32(draw(st.sampled_from([1e-2, 1.0, 1e2])))
    return torch.from_numpy(values)

"""Find NaN and infinity in a state dict before they spread through every statistic."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def find_nonfinite(state: Mapping[str, Tensor]) -> dict[str, int]:
    """Count the values that are NaN or infinite, by tensor.

    Parameters
    ----------
    state : mapping of str to Tensor
        Any shapes and dtypes, such as `model.state_dict()`; left as it is.

    Returns
    -------
    dict
        Tensor name -> count, for the tensors that have any; the order of `state`.
    """
    import torch

    counts = {}
    for name, tensor in state.items():
        if tensor.is_floating_point() or tensor.is_complex():
            # torch has no isfinite for the 8-bit floats; casting up keeps NaN and infinity.
            values = tensor.float() if tensor.element_size() == 1 else tensor
            bad = values.numel() - int(torch.isfinite(values).sum())
            if bad:
                counts[name] = bad
    return counts

"""Fill a model with exactly the tensors that a file of ours holds for it."""

from __future__ import annotations

import warnings
from pathlib import Path

from safetensors.torch import load_file
from torch import nn

from inc_laaciq.checkpoint.foreign import foreign_errors
from inc_laaciq.errors import IntegrityError


def restore(skeleton: nn.Module, file: Path) -> nn.Module:
    """Give the model its tensors, and put it in evaluation mode.

    Parameters
    ----------
    skeleton : nn.Module
        The architecture, with the layers that the file was written from; changed and returned.
    file : Path
        Safetensors; tied weights once.

    Raises
    ------
    IntegrityError
        If the file does not hold exactly the tensors that the model needs, in their shapes.
    """
    with foreign_errors(f"{file}: it does not fit the model", kind=IntegrityError), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = skeleton.load_state_dict(load_file(str(file)), strict=False)
    tied = set(getattr(skeleton, "_tied_weights_keys", None) or ())
    missing = [name for name in result.missing_keys if name not in tied]
    if missing or result.unexpected_keys:
        raise IntegrityError(
            f"{file}: it does not fit the model. Missing: {missing or 'nothing'}; unexpected: "
            f"{list(result.unexpected_keys) or 'nothing'}. Write the output again with `inc-laaciq quantize`"
        )
    if callable(tie := getattr(skeleton, "tie_weights", None)):
        tie()
    return skeleton.eval()

"""A file of tensors fits the model that it is for, or is refused with what does not fit."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from inc_laaciq.backends.restoring import restore
from inc_laaciq.errors import IntegrityError


def test_tensors_are_given_and_the_model_evaluates(tmp_path):
    tensors = {"weight": torch.arange(6.0).reshape(2, 3), "bias": torch.ones(2)}
    save_file(tensors, tmp_path / "a.safetensors")
    restored = restore(nn.Linear(3, 2), tmp_path / "a.safetensors")
    assert not restored.training
    assert {name: value.tolist() for name, value in restored.state_dict().items()} == {
        name: value.tolist() for name, value in tensors.items()
    }


@pytest.mark.parametrize(
    ("tensors", "told"),
    [
        ({"weight": torch.ones(2, 3)}, r"Missing: \['bias'\]; unexpected: nothing"),
        ({"weight": torch.ones(2, 3), "bias": torch.ones(2), "more": torch.ones(1)}, r"unexpected: \['more'\]"),
        ({"weight": torch.ones(2, 4), "bias": torch.ones(2)}, "size mismatch for weight"),
    ],
)
def test_what_does_not_fit_is_told(tensors, told, tmp_path):
    save_file(tensors, tmp_path / "a.safetensors")
    with pytest.raises(IntegrityError, match=f"it does not fit the model.*{told}"):
        restore(nn.Linear(3, 2), tmp_path / "a.safetensors")


def test_a_damaged_file_is_told(tmp_path):
    (tmp_path / "a.safetensors").write_bytes(b"nothing")
    with pytest.raises(IntegrityError, match="it does not fit the model"):
        restore(nn.Linear(3, 2), tmp_path / "a.safetensors")

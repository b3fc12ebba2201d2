"""What an export wrote into a model of itself, read with OpenVINO's own calls."""

from __future__ import annotations

from typing import Any


def read_stamp(model: Any, key: str) -> str | None:
    """A fact; None if it is not there."""
    path = ["inc_laaciq", *key.split(".")]
    return model.get_rt_info(path).astype(str) if model.has_rt_info(path) else None

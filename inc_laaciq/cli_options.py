"""Options that several commands have: how a model is loaded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

_LOADING = (
    click.option(
        "--trust-remote-code", is_flag=True, help="Run code that comes with the model. A hub id then needs --revision."
    ),
    click.option("--revision", metavar="COMMIT", help="Commit of a hub id, 40 hexadecimal digits."),
    click.option(
        "--allow-pickle", is_flag=True, help="Also read .bin weights (weights only, never code). Safetensors are safer."
    ),
)


def loading(command: F) -> F:
    """Options for what is given to `load_model`."""
    for option in reversed(_LOADING):
        command = option(command)
    return command

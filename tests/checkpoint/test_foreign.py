from __future__ import annotations

import pytest

from inc_laaciq.checkpoint.foreign import foreign_errors
from inc_laaciq.errors import IntegrityError, ModelError, ResourceError


class OddError(Exception):
    """Derived from nothing that could be listed."""


@pytest.mark.parametrize("error", [OddError("a\n  b"), Exception("a b"), ValueError("a b"), OSError("a b")], ids=repr)
def test_any_error_becomes_one_of_ours(error: Exception) -> None:
    message = rf"x: cannot load: {type(error).__name__}: a b$"
    with pytest.raises(ModelError, match=message) as caught, foreign_errors("x: cannot load"):
        raise error
    assert caught.value.__cause__ is error


def test_our_own_errors_pass() -> None:
    with pytest.raises(ResourceError, match=r"^mine$"), foreign_errors("x", kind=IntegrityError):
        raise ResourceError("mine")


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried")]
)
def test_memory(error: Exception) -> None:
    with pytest.raises(ResourceError, match="x: not enough memory"), foreign_errors("x"):
        raise error


def test_an_interrupt_is_no_error() -> None:
    with pytest.raises(KeyboardInterrupt), foreign_errors("x"):
        raise KeyboardInterrupt


def test_a_long_reason_is_cut() -> None:
    with pytest.raises(ModelError, match=r"^x: ValueError: y{300}$"), foreign_errors("x"):
        raise ValueError("y" * 10_000)

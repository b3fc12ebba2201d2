"""The public surface: sorted, complete, and every name resolves."""

from __future__ import annotations

import pytest

import inc_laaciq
from inc_laaciq import errors


def test_names_are_sorted_and_resolve():
    assert inc_laaciq.__all__ == sorted(inc_laaciq.__all__)
    for name in inc_laaciq.__all__:
        assert getattr(inc_laaciq, name) is not None


def test_every_error_is_exported():
    tree = {name for name, kind in vars(errors).items() if isinstance(kind, type)}
    assert tree <= set(inc_laaciq.__all__)


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = inc_laaciq.no_such_name


@pytest.mark.parametrize(
    ("kind", "code"),
    [("SpecError", 2), ("DataError", 2), ("ResourceError", 1), ("BackendError", 1), ("MismatchError", 5)],
)
def test_errors_carry_their_exit_code(kind, code):
    assert getattr(errors, kind).exit_code == code
    assert issubclass(getattr(errors, kind), errors.LaaciqError)

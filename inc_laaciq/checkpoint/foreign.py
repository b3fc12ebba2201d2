"""Turn whatever transformers, tokenizers and torch raise into this package's errors."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from inc_laaciq.errors import LaaciqError, ModelError, ResourceError


@contextlib.contextmanager
def foreign_errors(what: str, *, kind: type[LaaciqError] = ModelError) -> Iterator[None]:
    """Raise `kind`, saying `what` went wrong and why, for any exception of the block; the cause is kept.

    A file from a stranger can make these libraries raise anything: tokenizers raises plain Exception, huggingface_hub a
    validation error of its own, remote code whatever it likes.  Nothing is passed over: each is raised again.

    Raises
    ------
    ResourceError
        If the memory was not enough.
    """
    try:
        yield
    except LaaciqError:
        raise
    except Exception as error:
        # torch reports a failed allocation as a RuntimeError.
        if isinstance(error, MemoryError) or "can't allocate memory" in str(error):
            raise ResourceError(
                f"{what}: not enough memory. Close other programs, or use a machine with more of it."
            ) from error
        reason = " ".join(str(error).split())
        raise kind(f"{what}: {type(error).__name__}: {reason[:300]}") from error

"""Which language the text comes from that a model is being run on.

Neural Compressor calls a calibration function with the model and nothing else, so a hook inside the model cannot be
told the language of a batch by an argument.  The caller says it around the call instead, and the hooks ask here.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

from inc_laaciq.languages import canonical

_current: ContextVar[str | None] = ContextVar("inc_laaciq_calibration_language", default=None)


@contextlib.contextmanager
def calibration_language(tag: str) -> Iterator[str]:
    """Say of which language the batches are that are run inside the block.

    Blocks nest, and the innermost one counts.  A block holds in its own thread: start one in every thread that runs the
    model.

    Parameters
    ----------
    tag : str
        As `inc_laaciq.languages.canonical` takes them.

    Yields
    ------
    str
        The canonical tag.

    Raises
    ------
    SpecError
        If `tag` names no known language.

    Examples
    --------
    >>> with calibration_language("swh"):
    ...     current_language()
    'sw'
    """
    language = canonical(tag)
    token = _current.set(language)
    try:
        yield language
    finally:
        _current.reset(token)


def current_language() -> str | None:
    """Canonical tag of the innermost `calibration_language` block; None outside of any."""
    return _current.get()

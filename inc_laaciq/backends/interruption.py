"""Signals wait while foreign code runs that may not survive an exception in its middle."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Ctrl-C and SIGTERM take effect when the block is done.

    OpenVINO's converter calls back into Python from C++, where an exception that a signal's handler raises may be lost,
    or end the process before anything is cleaned up.
    """
    if threading.current_thread() is not threading.main_thread():  # others get no signals, and may set no handlers
        yield
        return
    waiting: list[int] = []

    def remember(number: int, _frame: FrameType | None) -> None:
        waiting.append(number)

    # None: set by other code than Python, which could not be put back.
    before = {number: handler for number in _SIGNALS if (handler := signal.getsignal(number)) is not None}
    for number in before:
        signal.signal(number, remember)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if waiting:
            signal.raise_signal(waiting[0])

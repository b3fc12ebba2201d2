"""A signal that comes in the middle takes effect at the end."""

from __future__ import annotations

import signal
import threading

import pytest

from inc_laaciq.backends.interruption import uninterrupted


@pytest.fixture(autouse=True)
def _handler():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background may ignore it
    yield
    signal.signal(signal.SIGINT, before)


def test_a_signal_waits_for_the_end():
    reached = []

    def work():
        with uninterrupted():
            signal.raise_signal(signal.SIGINT)  # to this thread; `os.kill` may reach another, and Python hears later
            reached.append("end")
        reached.append("behind it")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert reached == ["end"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_without_a_signal_nothing_is_changed():
    before = signal.getsignal(signal.SIGTERM)
    with uninterrupted():
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before


def test_an_error_puts_handlers_back():
    with pytest.raises(ValueError, match="foreign"), uninterrupted():
        raise ValueError("foreign")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_other_threads_set_no_handlers():
    seen = []

    def work():
        with uninterrupted():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [signal.default_int_handler]

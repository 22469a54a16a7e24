"""Ctrl-C around calls into librdkafka: held back until the call is over, and never lost."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from orchestrator.kafka.interrupt import uninterrupted


def test_it_is_raised_after_the_block() -> None:
    reached = []
    with pytest.raises(KeyboardInterrupt), uninterrupted():
        os.kill(os.getpid(), signal.SIGINT)
        reached.append("the end of the block")
    assert reached
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_it_wins_over_an_error_of_the_block() -> None:
    with pytest.raises(KeyboardInterrupt), uninterrupted():
        os.kill(os.getpid(), signal.SIGINT)
        raise SystemError("returned NULL without setting an exception")


def test_without_a_signal_nothing_happens() -> None:
    with pytest.raises(ZeroDivisionError), uninterrupted():
        raise ZeroDivisionError
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_handler_of_somebody_else_is_left_alone() -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _frame: heard.append(number))
    try:
        with uninterrupted():
            os.kill(os.getpid(), signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)
    assert heard == [signal.SIGINT]


def test_other_threads_are_not_touched() -> None:
    seen: list[object] = []

    def inside() -> None:
        with uninterrupted():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=inside)
    thread.start()
    thread.join()
    assert seen == [signal.default_int_handler]

"""Ctrl-C around a call into librdkafka.

confluent-kafka 2.16 checks for signals inside of `poll`, `consume` and `flush`; a KeyboardInterrupt raised there
comes out as "SystemError: returned NULL without setting an exception" now and then. So the signal is only noted
while such a call runs, and raised right after it. Calls inside have to be short: Ctrl-C waits for them.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Hold KeyboardInterrupt back until the end of the block.

    Does nothing in other threads than the main one, or where somebody else handles SIGINT: those calls are
    never interrupted.
    """
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    noted = False

    def note(_number: int, _frame: FrameType | None) -> None:
        nonlocal noted
        noted = True

    signal.signal(signal.SIGINT, note)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if noted:
            raise KeyboardInterrupt

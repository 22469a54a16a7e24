"""Signals and standard streams of the process of `kpipe up`."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def keep_standard_streams() -> None:
    """Started with a standard stream closed, a pipe to a child would get its number, and the child lose it."""
    while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(fd)


@contextlib.contextmanager
def signals_end_it() -> Iterator[None]:
    """Until the event loop takes them over, signals end the process through its `finally` blocks."""

    def end(number: int, _frame: FrameType | None) -> None:
        sys.exit(128 + number)

    before = {number: signal.signal(number, end) for number in heeded_signals()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def heeded_signals() -> list[signal.Signals]:
    """Whoever started us with a signal ignored (nohup, a shell's background job) wants it ignored."""
    return [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]

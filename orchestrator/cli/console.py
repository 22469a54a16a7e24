"""The terminal of `kpipe up`: lines of many children and of kpipe itself, in one order, never in anybody's way.

A thread writes; whoever has something to show only puts it into a queue. So a terminal that is stopped (Ctrl-S), slow
or gone holds up neither the handlers nor their supervisor. What the queue cannot take is left out here, with a line
that says so; the logs under `.kpipe/logs` have everything.
"""

from __future__ import annotations

import os
import select
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

from orchestrator.cli import present
from orchestrator.cli.present import Style
from orchestrator.supervisor.lines import Line

#: Bytes that may wait for a slow terminal before output of handlers is left out.
ROOM = 8_000_000
#: Seconds that a terminal gets at the end for what still waits, since it last took something.
PATIENCE = 2.0
#: kpipe's own name in front of its lines.
SELF = "kpipe"

_STDOUT, _STDERR = 1, 2
_COLORS: tuple[Style, ...] = ("cyan", "yellow", "green", "magenta", "blue")


class Console:
    """Lines go to stdout, what kpipe says to stderr.

    `gone` is called, in the writing thread, when nobody reads stdout any more.
    """

    def __init__(self, names: Sequence[str], gone: Callable[[], None], *, room: int = ROOM) -> None:
        self._gone = gone
        self._room = room
        self._width = max(map(len, (*names, SELF)))
        self._colors = {name: _COLORS[at % len(_COLORS)] for at, name in enumerate(names)}
        self._prefixes = {name: self._prefix(name) for name in names}
        self._queue: deque[tuple[int, bytes]] = deque()
        self._waiting = 0
        self._left_out = 0
        self._closing = False
        self._closed: set[int] = set()
        self._progress = time.monotonic()
        self._change = threading.Condition()
        self._thread = threading.Thread(target=self._write_all, name="kpipe-console", daemon=True)
        self._thread.start()

    def lines(self, name: str, lines: Sequence[Line]) -> None:
        """Output of a child."""
        prefix = self._prefixes[name]
        text = "".join(f"{prefix}{line.text}{' …' if line.partial else ''}\n" for line in lines)
        self.output(text, len(lines))

    def output(self, text: str, lines: int = 1) -> None:
        """Data: to stdout, unless there is no room for it."""
        data = text.encode("utf-8", "backslashreplace")
        with self._change:
            if self._waiting + len(data) > self._room:
                self._left_out += lines
                return
            if self._left_out:
                self._tell_left_out()
            self._put(_STDOUT, data)

    def say(self, text: str, *styles: Style) -> None:
        """What kpipe has to say, in one or several lines: to stderr. It always has room."""
        prefix = present.paint(f"{SELF:<{self._width}} | ", "bold", stream=sys.stderr)
        shown = "".join(
            f"{prefix}{present.paint(present.safe(line), *styles, stream=sys.stderr)}\n" for line in text.split("\n")
        )
        with self._change:
            self._put(_STDERR, shown.encode("utf-8", "backslashreplace"))

    def close(self) -> None:
        """Write what waits, as long as somebody takes it."""
        with self._change:
            if self._left_out:
                self._tell_left_out()
            self._closing = True
            self._progress = time.monotonic()
            self._change.notify()
        while self._thread.is_alive() and time.monotonic() - self._progress < PATIENCE:
            self._thread.join(0.05)

    def _prefix(self, name: str) -> str:
        return present.paint(f"{name:<{self._width}} | ", self._colors[name], stream=sys.stdout)

    def _tell_left_out(self) -> None:
        missing, self._left_out = self._left_out, 0
        self._put(
            _STDERR, f"{SELF:<{self._width}} | … {missing} lines are not shown here; .kpipe/logs has them\n".encode()
        )

    def _put(self, fd: int, data: bytes) -> None:
        if fd not in self._closed:
            self._queue.append((fd, data))
            self._waiting += len(data)
            self._change.notify()

    def _write_all(self) -> None:
        while True:
            with self._change:
                while not self._queue and not self._closing:
                    self._change.wait()
                if not self._queue:
                    return
                fd, data = self._queue.popleft()
            self._write(fd, data)
            with self._change:
                self._waiting -= len(data)

    def _write(self, fd: int, data: bytes) -> None:
        left = memoryview(data)
        try:
            while left and fd not in self._closed:
                try:
                    left = left[os.write(fd, left[:65_536]) :]
                except BlockingIOError:  # somebody else made this terminal non-blocking
                    select.select((), (fd,), (), PATIENCE)
                    continue
                self._progress = time.monotonic()
        except OSError:  # EPIPE of a pipe, EIO of a terminal that was closed
            self._closed.add(fd)
            if fd == _STDOUT:
                self._gone()

"""The terminal of `kpipe up`: lines of many children and of kpipe itself, never in anybody's way.

Threads write; whoever has something to show only puts it into a queue. So a terminal that is stopped (Ctrl-S), slow or
gone holds up neither the handlers nor their supervisor. Output that a queue has no room for is left out, with a line
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

from orchestrator.cli.render import output as present
from orchestrator.cli.render.output import Style
from orchestrator.supervisor.logs.lines import Line

#: Bytes that may wait for a slow reader before output of handlers is left out.
ROOM = 8_000_000
#: Seconds that a reader gets at the end for what still waits, since it last took something.
PATIENCE = 2.0
#: kpipe's own name in front of its lines.
SELF = "kpipe"

_STDOUT, _STDERR = 1, 2
_COLORS: tuple[Style, ...] = ("cyan", "yellow", "green", "magenta", "blue")


class UpTerminal:
    """Lines of children go to stdout, what kpipe says to stderr.

    `gone` is called, in a writing thread, when nobody reads stdout any more.
    """

    def __init__(self, names: Sequence[str], gone: Callable[[], None], *, room: int = ROOM) -> None:
        self._room = room
        self._width = max(map(len, (*names, SELF)))
        self._prefixes = {
            name: present.paint(f"{name:<{self._width}} | ", _COLORS[at % len(_COLORS)], stream=sys.stdout)
            for at, name in enumerate(names)
        }
        self._left_out = 0
        self._out = Writer(lambda fd: gone() if fd == _STDOUT else None)
        # Where both are the same terminal, what was said first is to be read first.
        self._err = self._out if _same(_STDOUT, _STDERR) else Writer(lambda fd: None)

    def lines(self, name: str, lines: Sequence[Line]) -> None:
        """Output of a child."""
        # One that was scaled up later is not among those that were named.
        prefix = self._prefixes.get(name) or f"{name:<{self._width}} | "
        self.output("".join(f"{prefix}{line.text}{' …' if line.partial else ''}\n" for line in lines), len(lines))

    def output(self, text: str, lines: int = 1) -> None:
        """Data: to stdout, unless too much waits for that already."""
        if self._out.waiting > self._room:
            self._left_out += lines
            return
        self._tell_left_out()
        self._out.put(_STDOUT, text)

    def say(self, text: str, *styles: Style) -> None:
        """What kpipe has to say, in one or several lines: to stderr."""
        prefix = present.paint(f"{SELF:<{self._width}} | ", "bold", stream=sys.stderr)
        painted = (present.paint(present.safe(line), *styles, stream=sys.stderr) for line in text.split("\n"))
        self._err.put(_STDERR, "".join(f"{prefix}{line}\n" for line in painted))

    def flush(self) -> None:
        """Return when what was said is written, or nothing of it was taken for a while."""
        self._err.flush()

    def close(self) -> None:
        """Write what waits, as long as somebody takes it."""
        self._tell_left_out()
        self._out.close()
        if self._err is not self._out:
            self._err.close()

    def _tell_left_out(self) -> None:
        if self._left_out:
            missing, self._left_out = self._left_out, 0
            self.say(f"… {missing} lines are not shown here: their reader is too slow; .kpipe/logs has them", "yellow")


class Writer:
    """Writes to file descriptors in the order of `put`, in a thread. `gone` hears of those that nobody reads."""

    def __init__(self, gone: Callable[[int], None]) -> None:
        self._gone = gone
        self._queue: deque[tuple[int, bytes]] = deque()
        self._waiting = 0
        self._closing = False
        self._dead: set[int] = set()
        self._progress = time.monotonic()
        self._change = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="kpipe-console", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Bytes that are not written yet."""
        return self._waiting

    def put(self, fd: int, text: str) -> None:
        data = text.encode("utf-8", "backslashreplace")
        with self._change:
            if fd not in self._dead:
                self._queue.append((fd, data))
                self._waiting += len(data)
                self._change.notify()

    def flush(self) -> None:
        """Return when everything is written, or nothing of it was taken for a while."""
        self._progress = time.monotonic()
        while self._waiting and time.monotonic() - self._progress < PATIENCE:
            time.sleep(0.005)

    def close(self) -> None:
        """Return when everything is written, or nothing of it was taken for a while."""
        with self._change:
            self._closing = True
            self._progress = time.monotonic()
            self._change.notify()
        while self._thread.is_alive() and time.monotonic() - self._progress < PATIENCE:
            self._thread.join(0.05)

    def _run(self) -> None:
        while True:
            with self._change:
                while not self._queue and not self._closing:
                    self._change.wait()
                if not self._queue:
                    return
                fd, data = self._queue.popleft()
            self._write(fd, memoryview(data))
            with self._change:
                self._waiting -= len(data)

    def _write(self, fd: int, left: memoryview) -> None:
        try:
            while left and fd not in self._dead:
                try:
                    left = left[os.write(fd, left[:65_536]) :]
                except BlockingIOError:  # somebody else made this terminal non-blocking
                    select.select((), (fd,), (), PATIENCE)
                    continue
                self._progress = time.monotonic()
        except OSError:  # EPIPE of a pipe, EIO of a terminal that was closed
            self._dead.add(fd)
            self._gone(fd)


def _same(one: int, other: int) -> bool:
    try:
        return os.path.samestat(os.fstat(one), os.fstat(other))
    except OSError:
        return False

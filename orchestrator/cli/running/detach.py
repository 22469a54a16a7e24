"""`kpipe up -d`: the same `up` in a session of its own, which outlives the terminal and this command.

The command forks before anything heavy is loaded. The child goes on as `up` does. What it says goes to a file without
a name, which the parent shows on stderr; at the hand-over the child lets go of it, and from then on its words are in
`.kpipe/logs/_up.log` only. Through a pipe the parent hears how far the child is.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO

from orchestrator.errors import WaitTimeout
from orchestrator.operations.readiness import Deadline

_STARTED, _READY, _UNREADY = b"s", b"r", b"u"
_TICK = 0.05


@dataclass(frozen=True)
class HandoverPipe:
    """The child's end (a `up.reporting.Handover`): how it tells the parent how far it is."""

    fd: int
    until_ready: bool

    def started(self) -> None:
        """Kafka, topics and processes are there."""
        self._tell(_STARTED)
        if not self.until_ready:
            self._let_go()

    def settled(self, ready: bool) -> None:
        """Every handler is ready, or one of them will not be."""
        self._tell(_STARTED + (_READY if ready else _UNREADY))
        self._let_go()

    def _tell(self, word: bytes) -> None:
        with contextlib.suppress(BrokenPipeError):  # nobody waits any more
            os.write(self.fd, word)

    def _let_go(self) -> None:
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, sys.stderr.fileno())
        os.close(null)


@dataclass
class Detached:
    """The parent's end."""

    pid: int
    _pipe: int
    _words: IO[bytes]
    _heard: bytes = b""
    _shown: int = 0
    exit_code: int | None = None

    @property
    def is_ready(self) -> bool:
        """Whether all handlers have become ready, as far as was heard."""
        return _READY in self._heard

    def wait_started(self, deadline: Deadline) -> None:
        """Return when it runs, or has ended (`exit_code`). Ctrl-C before that ends it, too. Raises `WaitTimeout`."""
        try:
            self._until(lambda: _STARTED in self._heard, deadline)
        except KeyboardInterrupt:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGTERM)
            self._until(lambda: False, Deadline(float("inf")))
            raise

    def wait_settled(self, deadline: Deadline) -> None:
        """Return when all handlers are ready, one cannot get ready, or it has ended. Raises `WaitTimeout`."""
        self._until(lambda: _READY in self._heard or _UNREADY in self._heard, deadline)

    def _until(self, true: Callable[[], bool], deadline: Deadline) -> None:
        """Show what it says until `true`, or until it has ended."""
        while not true() and self.exit_code is None:
            self._show()
            if deadline.left <= 0:
                raise WaitTimeout(
                    f"not ready within {deadline.seconds:g} s", "it goes on; `kpipe ps` shows what is missing"
                )
            self._hear()
        self._show()

    def _hear(self) -> None:
        if select.select([self._pipe], [], [], _TICK)[0]:
            word = os.read(self._pipe, 64)
            self._heard += word
            if not word:
                self._ended()

    def _ended(self) -> None:
        _, status = os.waitpid(self.pid, 0)
        code = os.waitstatus_to_exitcode(status)
        self.exit_code = code if code >= 0 else 128 - code

    def _show(self) -> None:
        new = os.pread(self._words.fileno(), 1_000_000, self._shown)
        self._shown += len(new)
        sys.stderr.buffer.write(new)
        sys.stderr.flush()


def detach(*, until_ready: bool) -> Detached | HandoverPipe:
    """Fork. The parent gets a `Detached`, the child, which has a session of its own by then, a `HandoverPipe`."""
    reading, writing = os.pipe()
    words = tempfile.TemporaryFile()  # noqa: SIM115 - for as long as both processes want it
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    pid = os.fork()
    if pid:
        os.close(writing)
        return Detached(pid, reading, words)
    os.close(reading)
    os.setsid()
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    os.dup2(words.fileno(), 2)
    return HandoverPipe(writing, until_ready)

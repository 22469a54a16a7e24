"""A program that answers lines: a child process with requests on its fd 3 and replies on its fd 4. DESIGN section 6.

Rules:
- Nothing here blocks on a full or an empty pipe: `exchange` writes what fits and reads what is there.
- The program's stdin is empty; its stdout and stderr stay its own and become the worker's log. The end of stderr is
  kept for whoever has to say why it died.
- It runs behind a shim: nothing of it outlives the worker, however that dies, and `kill` ends all that it started.
- A line over `longest` bytes is no line: the rest of what the program says cannot be trusted.
"""

from __future__ import annotations

import array
import errno
import fcntl
import os
import select
import signal
import subprocess
import sys
import termios
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from orchestrator import shim
from orchestrator.errors import HandlerError
from orchestrator.outside import shown

IN_FD, OUT_FD = "KPIPE_IN_FD", "KPIPE_OUT_FD"
#: The longest line that a program may say (bytes): any value that Kafka takes by default fits many times.
LONGEST_LINE = 64 * 1024 * 1024
_SHIM = Path(shim.__file__)
_CHUNK = 1 << 20
_TAIL_BYTES = 4_096
#: A shim that was asked to kill needs no longer than this (seconds).
_KILL_SECONDS = 5.0


class ProgramExit(NamedTuple):
    """How a program ended: by its own `code` or by a `signal` (both None: nobody saw it), with its last words."""

    code: int | None
    signal: int | None
    stderr: str

    @property
    def text(self) -> str:
        """`exit code 3`, `signal SIGSEGV`."""
        if self.signal is not None:
            return f"signal {_signal_name(self.signal)}"
        return "ended unseen" if self.code is None else f"exit code {self.code}"


class Program:
    """One running program. For use by one thread, save `kill` and `wake`."""

    def __init__(self, argv: Sequence[str], cwd: Path, env: Mapping[str, str], *, longest: int = LONGEST_LINE) -> None:
        """Start it. Raises HandlerError when there is no such program, OSError when the system refuses."""
        self._longest = longest
        self._unsent: deque[memoryview] = deque()
        self._unread = bytearray()
        self._searched = 0
        self._said: deque[bytes] = deque()
        self._tail = _Tail()
        #: No further line will come: it closed its end, ended, or said a line that was too long.
        self.closed = False
        #: What was wrong with what it said, in a sentence.
        self.garbage = ""
        self._exit: ProgramExit | None = None
        self._written = self._taken = 0
        self._start(list(argv), cwd, env)

    def _start(self, argv: list[str], cwd: Path, env: Mapping[str, str]) -> None:
        pipes = [os.pipe() for _ in range(5)]
        (control, self._control), (self._report, report), (requests, self._in), (self._out, replies), (errs, err) = (
            pipes
        )
        self._wake_read, self._wake_write = os.pipe()
        theirs = (control, report, requests, replies, err)
        try:
            self._shim = subprocess.Popen(
                [
                    sys.executable,
                    "-I",
                    "-S",
                    str(_SHIM),
                    str(control),
                    str(report),
                    "group",
                    f"{requests},{replies}",
                    *argv,
                ],
                stdin=subprocess.DEVNULL,
                stderr=err,
                cwd=cwd,
                env={**env, IN_FD: "3", OUT_FD: "4"},
                pass_fds=(control, report, requests, replies),
                start_new_session=True,
            )
        except BaseException:
            for fd in (self._control, self._report, self._in, self._out, errs, self._wake_read, self._wake_write):
                os.close(fd)
            raise
        finally:
            for fd in theirs:
                os.close(fd)
        for fd in (self._in, self._out, self._wake_read, self._wake_write):
            os.set_blocking(fd, False)
        self._tail.follow(errs)
        self._said_by_shim = b""
        self._hear_start(argv[0])

    def _hear_start(self, name: str) -> None:
        while b"\n" not in self._said_by_shim:
            data = os.read(self._report, 512)
            if not data:
                break
            self._said_by_shim += data
        word, _, value = self._said_by_shim.partition(b"\n")[0].partition(b" ")
        if word == b"cannot":
            self.kill()
            self.wait()
            number = int(value)
            why = "was not found" if number == errno.ENOENT else f"cannot be run: {os.strerror(number)}"
            raise HandlerError(f"the command {shown(name)!r} {why}", "paths are relative to the pipeline file's folder")
        self.pid = int(value) if word == b"pid" else 0

    # -- talking --------------------------------------------------------------------------------------------------

    def send(self, line: bytes) -> None:
        """Queue one line (with its newline); `exchange` writes it."""
        self._unsent.append(memoryview(line))

    @property
    def unsent(self) -> int:
        """How many queued lines are not written whole."""
        return len(self._unsent)

    @property
    def taken(self) -> int:
        """How many bytes of what was sent the program has read, as far as that can be told; never too few."""
        if self._in < 0:
            return self._taken
        unread = array.array("i", [0])
        try:
            # On Linux the writer's end of a pipe knows it, even when the reader is gone; elsewhere it says 0.
            fcntl.ioctl(self._in, termios.FIONREAD, unread)
        except OSError:
            return self._written
        return self._written - unread[0]

    @property
    def unfinished(self) -> int:
        """Bytes of a line that it has begun to say."""
        return len(self._unread)

    def exchange(self, timeout: float | None) -> list[bytes]:
        """Write and read until a line has come, `wake` was called, the program closed, or `timeout` seconds passed.

        Returns the lines that are there, without their newlines; none when nothing came.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self._said and not self.closed:
            poll = select.poll()
            poll.register(self._out, select.POLLIN)
            poll.register(self._wake_read, select.POLLIN)
            if self._unsent:
                poll.register(self._in, select.POLLOUT)
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            ready = dict(poll.poll(None if left is None else left * 1000))
            if self._in in ready:
                self._write()
            if self._out in ready:
                self._read()
            if self._wake_read in ready:
                os.read(self._wake_read, 4096)
                break
            if not ready:
                break
        said = list(self._said)
        self._said.clear()
        return said

    def wake(self) -> None:
        """End a wait in `exchange`, from any thread."""
        try:
            os.write(self._wake_write, b"w")
        except (BlockingIOError, OSError):
            pass  # full: it will wake anyway; closed: nobody waits

    def _write(self) -> None:
        try:
            while self._unsent:
                written = os.writev(self._in, list(self._unsent)[:512])
                self._written += written
                while written and self._unsent:
                    head = self._unsent[0]
                    if written < len(head):
                        self._unsent[0] = head[written:]
                        return
                    written -= len(head)
                    self._unsent.popleft()
        except BlockingIOError:
            pass
        except BrokenPipeError:
            # It may still say something about what it was given before.
            self._unsent.clear()

    def _read(self) -> None:
        try:
            data = os.read(self._out, _CHUNK)
        except BlockingIOError:
            return
        if not data:
            self.closed = True
            return
        self._unread += data
        end = self._unread.rfind(b"\n", self._searched)
        if end >= 0:
            self._said.extend(bytes(self._unread[:end]).split(b"\n"))
            del self._unread[: end + 1]
        self._searched = len(self._unread)
        if len(self._unread) > self._longest:
            self.garbage = f"a line of more than {self._longest} bytes"
            self.closed = True

    # -- ending ---------------------------------------------------------------------------------------------------

    def close_input(self) -> None:
        """End of file on its fd 3: a program that reads lines ends by itself."""
        if self._in >= 0:
            self._taken = self.taken
            os.close(self._in)
            self._in = -1

    def kill(self) -> None:
        """SIGKILL for it and all that it started. Safe from any thread, and after its end."""
        if self._exit is not None:
            return  # the pipe's number may be somebody else's by now
        try:
            os.write(self._control, b"K")
        except (BrokenPipeError, OSError):
            pass

    def wait(self, timeout: float = _KILL_SECONDS) -> ProgramExit:
        """How it ended, once it has: after `kill`, or when it is `closed`. Killed after `timeout` seconds.

        To be called once the program is no longer needed: its pipes are closed.
        """
        if self._exit is None:
            self._exit = self._reap(timeout)
        return self._exit

    def _reap(self, timeout: float) -> ProgramExit:
        self.close_input()
        try:
            self._shim.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            self._shim.wait()
        code = number = None
        while data := os.read(self._report, 512):
            self._said_by_shim += data
        for line in self._said_by_shim.split(b"\n"):
            word, _, value = line.partition(b" ")
            code = int(value) if word == b"exit" else code
            number = int(value) if word == b"signal" else number
        for fd in (self._control, self._report, self._out, self._wake_read, self._wake_write):
            os.close(fd)
        return ProgramExit(code, number, self._tail.text())


class _Tail:
    """Passes a program's stderr on to our own, and remembers its end."""

    def __init__(self) -> None:
        self._kept = b""
        self._thread: threading.Thread | None = None

    def follow(self, fd: int) -> None:
        self._thread = threading.Thread(target=self._run, args=(fd,), name="stderr", daemon=True)
        self._thread.start()

    def text(self) -> str:
        """What was kept, once the program is gone."""
        if self._thread is not None:
            self._thread.join(1.0)
        return self._kept.decode("utf-8", "replace").strip()

    def _run(self, fd: int) -> None:
        with os.fdopen(fd, "rb", buffering=0) as pipe:
            while data := pipe.read(65_536):
                self._kept = (self._kept + data)[-_TAIL_BYTES:]
                sys.stderr.buffer.write(data)
                sys.stderr.buffer.flush()


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)

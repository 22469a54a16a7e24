"""Running `kpipe` the way a person or a script does: as a program, with pipes or on a terminal."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

KPIPE = str(Path(sys.executable).with_name("kpipe"))
#: What decides about colours and files is taken from the test alone.
_LEFT_OUT = ("NO_COLOR", "FORCE_COLOR", "KAFKA_BOOTSTRAP", "KPIPE_ENV")


class Done(NamedTuple):
    """How a run of `kpipe` ended."""

    code: int
    out: str
    err: str


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in _LEFT_OUT}
    return {**kept, "TERM": "xterm-256color", **(extra or {})}


def kpipe(
    folder: Path, *words: str, env: Mapping[str, str] | None = None, stdin: bytes = b"", timeout: float = 60
) -> Done:
    """Run to the end, with pipes for all three streams."""
    done = raw(folder, *words, env=env, stdin=stdin, timeout=timeout)
    return Done(done.returncode, done.stdout.decode(), done.stderr.decode())


def raw(
    folder: Path, *words: str, env: Mapping[str, str] | None = None, stdin: bytes = b"", timeout: float = 60
) -> subprocess.CompletedProcess[bytes]:
    """The same with bytes."""
    return subprocess.run(
        [KPIPE, *words],
        cwd=folder,
        env=environment(env),
        input=stdin,
        capture_output=True,
        timeout=timeout,
        check=False,
    )


def on_terminal(
    folder: Path,
    *words: str,
    env: Mapping[str, str] | None = None,
    heard: Callable[[bytes], None] = lambda _: None,
) -> tuple[int, bytes]:
    """Run with a terminal as stdout and stderr; what the terminal was sent, which `heard` gets as it comes."""
    ours, theirs = pty.openpty()
    child = subprocess.Popen(
        [KPIPE, *words], cwd=folder, env=environment(env), stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    try:
        sent = b""
        while data := _read(ours):
            sent += data
            heard(data)
        return child.wait(60), sent
    finally:
        os.close(ours)


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65_536)
    except OSError:  # Linux: EIO once nobody holds the other side any more
        return b""


class Running:
    """A `kpipe` that goes on, with its stdout read line by line."""

    def __init__(self, child: subprocess.Popen[bytes]) -> None:
        self.child = child
        self._seen = b""

    def line(self, seconds: float = 15) -> str:
        """The next line of stdout. Fails when none comes in time."""
        assert self.child.stdout is not None
        deadline = time.monotonic() + seconds
        while b"\n" not in self._seen:
            ready, _, _ = select.select([self.child.stdout], [], [], max(0.0, deadline - time.monotonic()))
            chunk = os.read(self.child.stdout.fileno(), 65_536) if ready else b""
            assert chunk, f"no line within {seconds} s, only {self._seen!r}"
            self._seen += chunk
        line, _, self._seen = self._seen.partition(b"\n")
        return line.decode()

    def interrupt(self) -> int:
        """Ctrl-C, and the exit code."""
        self.child.send_signal(signal.SIGINT)
        return self.child.wait(10)


@contextmanager
def running(folder: Path, *words: str, env: Mapping[str, str] | None = None) -> Iterator[Running]:
    """`kpipe` in the background; it does not outlive the block."""
    child = subprocess.Popen(
        [KPIPE, *words],
        cwd=folder,
        env=environment(env),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        yield Running(child)
    finally:
        child.kill()
        child.communicate()


def eventually(what: Callable[[], bool], seconds: float = 15) -> None:
    """Poll until `what` holds. Fails after `seconds`."""
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, f"did not happen within {seconds} s"
        time.sleep(0.05)

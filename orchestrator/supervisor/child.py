"""One process behind its shim, and the pipes to it, on the event loop.

Rules of this file:
- The shim's process id is reaped in `_finish` only, after the last signal that may go to it.
- Everything the child wrote is read before its end is told.
- No read and no write blocks: a child can be silent, loud, or gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from orchestrator import shim
from orchestrator.outside import shown
from orchestrator.supervisor.logs.pipes import Inlet, Outlet, Pipes
from orchestrator.supervisor.spec import CONFIG_FD, STATUS_FD, ChildExit, ChildSpec, StartRefusal

_SHIM = Path(shim.__file__)


@dataclass(frozen=True, slots=True)
class Ears:
    """Who hears what: raw bytes of the three streams, the process id, a refusal to start, and the end."""

    output: Callable[[bytes], None]
    errors: Callable[[bytes], None]
    status: Callable[[bytes], None]
    started: Callable[[int], None]
    refused: Callable[[StartRefusal], None]
    ended: Callable[[ChildExit], None]


class Child:
    """A started child. `terminate` and `kill` ask for its end, `Ears.ended` tells it, once."""

    def __init__(self, spec: ChildSpec, ears: Ears, loop: asyncio.AbstractEventLoop) -> None:
        """Start it. Raises `OSError` when the system has no room for another process or pipe."""
        self._spec = spec
        self._ears = ears
        self._exit = ChildExit()
        self._refusal: StartRefusal | None = None
        self._report = b""
        pipes = Pipes()
        try:
            self._shim = _start(spec, pipes)
        except BaseException:
            pipes.close()
            raise
        pipes.close_theirs()
        self._control: int | None = pipes.ours["control"]
        self._outlet = Outlet(loop, pipes.ours["config"], spec.config) if spec.config is not None else None
        self._streams = [Inlet(loop, pipes.ours["stdout"], ears.output), Inlet(loop, pipes.ours["stderr"], ears.errors)]
        if spec.reports:
            self._streams.append(Inlet(loop, pipes.ours["status"], ears.status))
        self._reports = Inlet(loop, pipes.ours["report"], self._reported, self._finish)

    def terminate(self) -> None:
        """SIGTERM."""
        self._command(b"T")

    def kill(self) -> None:
        """SIGKILL for it and for everything that it started."""
        self._command(b"K")

    def abandon(self) -> None:
        """Kill the shim itself and be done, whatever the child does: it is stuck in the kernel, or its shim is."""
        if self._control is not None:
            os.kill(self._shim.pid, signal.SIGKILL)
            _sweep(self._shim.pid)
            self._finish()

    def _command(self, command: bytes) -> None:
        if self._control is not None:
            with contextlib.suppress(BrokenPipeError):  # It is just ending.
                os.write(self._control, command)

    def _reported(self, data: bytes) -> None:
        *lines, self._report = (self._report + data).split(b"\n")
        for line in lines:
            word, _, value = line.partition(b" ")
            number = int(value)
            if word == b"pid":
                self._ears.started(number)
            elif word == b"exit":
                self._exit = ChildExit(code=number)
            elif word == b"signal":
                self._exit = ChildExit(signal=number)
            elif word == b"cannot":
                self._refusal = _no_such_program(self._spec, number)

    def _finish(self) -> None:
        """The shim is gone, and with it the program: read what is left, reap, tell."""
        if self._control is None:
            return
        os.close(self._control)
        self._control = None
        if self._exit == ChildExit() and self._refusal is None:
            _sweep(self._shim.pid)
        self._shim.wait()
        if self._outlet is not None:
            self._outlet.close()
        for stream in (*self._streams, self._reports):
            stream.drain()
            stream.close()
        if self._refusal is not None:
            self._ears.refused(self._refusal)
        self._ears.ended(self._exit)


def _start(spec: ChildSpec, pipes: Pipes) -> subprocess.Popen[bytes]:
    env = {name: value for name, value in spec.env.items() if name not in (CONFIG_FD, STATUS_FD)}
    control, report = pipes.open("control", child_writes=False), pipes.open("report", child_writes=True)
    inherited = [control, report]
    if spec.config is not None:
        inherited.append(pipes.open("config", child_writes=False))
        env[CONFIG_FD] = str(inherited[-1])
    if spec.reports:
        inherited.append(pipes.open("status", child_writes=True))
        env[STATUS_FD] = str(inherited[-1])
    inherited.extend(spec.inherit.values())
    env |= {name: str(fd) for name, fd in spec.inherit.items()}
    scope = "group" if spec.signal_group else "main"
    return subprocess.Popen(
        # Isolated and without site-packages: a fast start, and nothing of the child's environment is meant for it.
        [sys.executable, "-I", "-S", str(_SHIM), str(control), str(report), scope, "-", *spec.argv],
        stdin=subprocess.DEVNULL,
        stdout=pipes.open("stdout", child_writes=True),
        stderr=pipes.open("stderr", child_writes=True),
        cwd=spec.cwd,
        env=env,
        pass_fds=inherited,
        start_new_session=True,
        umask=spec.umask,
    )


def _no_such_program(spec: ChildSpec, number: int) -> StartRefusal:
    if number == errno.ENOENT:
        return StartRefusal(
            f"the command {shown(spec.argv[0])!r} was not found",
            "install it, or give its path; paths are relative to the pipeline file's folder",
        )
    return StartRefusal(f"the command {shown(spec.argv[0])!r} cannot be run: {os.strerror(number)}")


def _sweep(session: int) -> None:
    """Somebody killed the shim: kill what is left of its session, which nothing else can be in."""
    import psutil

    for pid in psutil.pids():
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if pid != session and os.getsid(pid) == session:
                os.kill(pid, signal.SIGKILL)

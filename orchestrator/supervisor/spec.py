"""What the supervisor is told about a child: argv, pipes, how it becomes ready, how it is stopped.

Nothing here knows what the child does; `up/child_specs.py` turns a pipeline into these values.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

#: Names of the inherited pipes' file descriptors in a child's environment.
CONFIG_FD = "KPIPE_CONFIG_FD"
STATUS_FD = "KPIPE_STATUS_FD"


class ChildExit(NamedTuple):
    """How a process ended: by its own `code`, or by a `signal`. Both None: nobody saw it (its shim was killed)."""

    code: int | None = None
    signal: int | None = None

    @property
    def text(self) -> str:
        if self.signal is not None:
            return f"killed by {_signal_name(self.signal)}"
        return "ended unseen" if self.code is None else f"exit code {self.code}"

    @property
    def orderly(self) -> bool:
        """Whether this is how a program that was sent SIGTERM ends: 0, or that signal (143 as a shell says it)."""
        return self.code in (0, 128 + signal.SIGTERM) or self.signal == signal.SIGTERM


class StartRefusal(NamedTuple):
    """Why a child could not start, and what to do about it."""

    message: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Probe:
    """How to find out that a child without a status pipe is ready.

    `check` is called in a thread until it says yes; with `port` and `path`, GET answers 2xx; with `port` alone
    it accepts a connection; with nothing, a child is ready when it has run for a moment.
    """

    port: int | None = None
    path: str | None = None
    check: Callable[[], bool] | None = None


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """One process to keep running.

    `group` is the handler that the child is a replica (`slot`) of. `env` is the whole environment. `config` goes
    through a pipe whose file descriptor is named in KPIPE_CONFIG_FD; `reports` gives the child a pipe to report on
    (KPIPE_STATUS_FD), else `probe` tells when it is ready. `inherit` are open file descriptors that the child
    gets as well, by the variables that tell it their numbers. `port` must be free before each start. Children start in
    ascending order of `stage` and stop in descending order, a stage after the other. `stop_timeout` is in seconds;
    SIGTERM goes to the whole process group, or, without `signal_group`, to the child alone. `must_start`: an end
    before it was ready for the first time means that it could not start. `failure_code` is what `kpipe up` ends with
    when this child decides its end. `umask` -1 is the supervisor's own.
    """

    name: str
    argv: tuple[str, ...]
    cwd: Path
    env: Mapping[str, str] = field(repr=False)
    group: str = ""
    slot: int = 0
    config: bytes | None = field(default=None, repr=False)
    reports: bool = False
    inherit: Mapping[str, int] = field(default_factory=dict)
    probe: Probe = field(default_factory=Probe)
    port: int | None = None
    stage: int = 0
    stop_timeout: float = 30.0
    signal_group: bool = True
    restart: bool = True
    must_start: bool = False
    essential: bool = False
    failure_code: int = 5
    umask: int = -1

    @property
    def readiness(self) -> str:
        """What it is that makes it ready, to end the words "waiting until"."""
        if self.reports:
            return "it has joined its consumer group"
        if self.probe.port is None:
            return "it has run for a moment" if self.probe.check is None else "it answers"
        if self.probe.path is None:
            return f"it accepts connections on port {self.probe.port}"
        return f"http://localhost:{self.probe.port}{self.probe.path} answers 2xx"

    @property
    def handler(self) -> str:
        """The name users know: that of the handler, without the replica's number."""
        return self.group or self.name


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"

"""Processes that are measured: started in a group of their own, halted, let run, ended."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import psutil

from orchestrator.targets import Target

_KILL_SECONDS = 15.0
_WORKER = Target.WORKER.value


class Usage(NamedTuple):
    """Processor time in seconds (all threads, user and system), memory in bytes: now and at most."""

    cpu: float
    rss: int
    peak: int


def usage(*pids: int) -> Usage:
    """Of these processes together."""
    return Usage(*(sum(one) for one in zip(*map(_usage, pids), strict=True)))


def _usage(pid: int) -> tuple[float, int, int]:
    times = psutil.Process(pid).cpu_times()
    said = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line)
    rss, peak = (int(said[name].split()[0]) * 1024 if name in said else 0 for name in ("VmRSS", "VmHWM"))
    return times.user + times.system, rss, peak


class Started:
    """A program in its own process group, its output in a file; ends with the `with` block."""

    def __init__(self, argv: Sequence[str], cwd: Path, env: Mapping[str, str], log: Path) -> None:
        self.log = log
        with log.open("wb") as out:
            self.process = subprocess.Popen(
                argv, cwd=cwd, env=dict(env), stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
            )

    def __enter__(self) -> Started:
        return self

    def __exit__(self, *_: object) -> None:
        self._signal(signal.SIGCONT)
        self._signal(signal.SIGTERM)
        try:
            self.process.wait(_KILL_SECONDS)
        except subprocess.TimeoutExpired:
            self._signal(signal.SIGKILL)
            self.process.wait()

    def workers(self) -> list[int]:
        """The processes that do the work: the last of each line below the one that was started."""
        below = psutil.Process(self.process.pid).children(recursive=True)
        named = [p for p in below if _WORKER in p.cmdline()]
        # Its shim has the same words; a worker may have a program below it, which has not.
        leaves = [p for p in named if not any(_WORKER in child.cmdline() for child in p.children())]
        return [leaf.pid for leaf in leaves] or [self.process.pid]

    def halt(self) -> None:
        for pid in self.workers():
            os.kill(pid, signal.SIGSTOP)

    def go_on(self) -> None:
        for pid in self.workers():
            os.kill(pid, signal.SIGCONT)

    def check(self) -> None:
        """Raises RuntimeError when it has ended."""
        if self.process.poll() is not None:
            raise RuntimeError(f"it ended with {self.process.returncode}:\n{self.log.read_text()[-2000:]}")

    def _signal(self, number: int) -> None:
        try:
            os.kill(self.process.pid, number)
        except ProcessLookupError:
            pass


def wait_for(what: str, done: Callable[[], bool], seconds: float, pause: float = 0.01) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {seconds:g} s")
        time.sleep(pause)

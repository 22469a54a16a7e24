"""Fake children under a real supervisor, in this process or (to be killed) in one of its own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from orchestrator.supervisor.events import Fact
from orchestrator.supervisor.logs.lines import Line
from orchestrator.supervisor.policy import Rules
from orchestrator.supervisor.spec import ChildSpec, Probe
from orchestrator.supervisor.supervisor import Supervisor

#: Everything of kpipe's policy, but in a hundredth of the time.
FAST = Rules(first_delay=0.01, longest_delay=0.2, healthy_after=60, refusal_grace=1.0)


def python(code: str) -> tuple[str, ...]:
    """The argv of a program that starts fast."""
    return (sys.executable, "-I", "-S", "-u", "-c", code)


def spec(name: str, argv: Sequence[str], cwd: Path, **more: Any) -> ChildSpec:
    given: dict[str, Any] = {"env": dict(os.environ), "stage": 1, "stop_timeout": 5.0, **more}
    return ChildSpec(name, tuple(argv), cwd, **given)


@dataclass
class Heard:
    """A supervisor's facts and lines, as they came."""

    facts: list[Fact] = field(default_factory=list)
    lines: list[tuple[str, str, Line]] = field(default_factory=list)

    def show(self, name: str, stream: str, lines: Sequence[Line]) -> None:
        self.lines += [(name, stream, line) for line in lines]

    def of(self, name: str, kind: type) -> list[Any]:
        return [fact for fact in self.facts if fact.name == name and isinstance(fact, kind)]

    def text(self, name: str) -> list[str]:
        return [line.text for child, _, line in self.lines if child == name]


def supervise(
    folder: Path, story: Callable[[Supervisor, Heard], Awaitable[None]], rules: Rules = FAST, seconds: float = 30.0
) -> tuple[Supervisor, Heard]:
    """Run `story` with a supervisor, which must be over when it ends."""
    heard = Heard()

    async def run() -> Supervisor:
        supervisor = Supervisor(folder / "logs", hear=heard.facts.append, show=heard.show, rules=rules)
        try:
            await asyncio.wait_for(story(supervisor, heard), seconds)
        finally:
            from orchestrator.supervisor.ending import Ending

            supervisor.kill(Ending(99, "the test is over"))
            await asyncio.wait_for(supervisor.over(), 10)
        return supervisor

    return asyncio.run(run()), heard


async def until(what: str, condition: Callable[[], Any], seconds: float = 15.0) -> Any:
    """Poll `condition` until it holds; its value. Fails with `what` at the deadline."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:g} s: {what}")
        await asyncio.sleep(0.01)
    return value


def wait_until(what: str, condition: Callable[[], Any], seconds: float = 15.0) -> Any:
    """The same without an event loop."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:g} s: {what}")
        time.sleep(0.01)
    return value


def marked(mark: str) -> list[psutil.Process]:
    """The processes that have `mark` in their command line, this one and zombies excepted."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.pid == os.getpid() or process.status() == psutil.STATUS_ZOMBIE:
                continue
            if any(mark in word for word in process.cmdline()):
                found.append(process)
    return found


@contextlib.contextmanager
def separate(folder: Path, specs: Sequence[ChildSpec]) -> Iterator[subprocess.Popen[str]]:
    """A supervisor of `specs` in a process of its own, to be killed."""
    document = [
        {
            "name": s.name,
            "argv": s.argv,
            "stage": s.stage,
            "signal_group": s.signal_group,
            "stop_timeout": s.stop_timeout,
        }
        for s in specs
    ]
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.support.supervised", str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(json.dumps(document))
    process.stdin.close()
    try:
        yield process
    finally:
        process.kill()
        process.stdout.close()
        process.wait()


def main() -> None:
    folder = Path(sys.argv[1])
    specs = [
        ChildSpec(cwd=folder, env=dict(os.environ), probe=Probe(), **{**s, "argv": tuple(s["argv"])})
        for s in json.load(sys.stdin)
    ]

    async def run() -> None:
        def show(name: str, _stream: str, lines: Sequence[Line]) -> None:
            for line in lines:
                print(f"{name} {line.text}", flush=True)

        supervisor = Supervisor(folder / "logs", hear=lambda _: None, show=show)
        supervisor.start(specs)
        await supervisor.over()

    asyncio.run(run())


if __name__ == "__main__":
    main()

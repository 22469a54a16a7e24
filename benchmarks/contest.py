"""The main table: the same events through kpipe and the others, in turns; what they cost.

A run: the contestant works off a few thousand events first, so that all is loaded and connected. Then it is halted
(SIGSTOP) while the events are written, let run, and timed until its last output is in Kafka. So neither start-up nor
prefetching nor the writing counts, and nobody else uses a processor meanwhile save Kafka and, a hundred times a second,
the question how far it is.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

from benchmarks.cluster import KPIPE, Cluster
from benchmarks.process import Started, Usage, usage, wait_for
from benchmarks.project.workload import event
from orchestrator.brokers.ports import free_ports

HERE = Path(__file__).parent
PROJECT = HERE / "project"
PEERS = HERE.parent / ".venv-bench" / "bin" / "python"
WARM_UP = 3_000
START_SECONDS = 60.0
RUN_SECONDS = 300.0


@dataclass(frozen=True)
class Contestant:
    """`argv` gets bootstrap, source, target, group. `share` of the events is enough for the slow ones."""

    name: str
    title: str
    argv: Callable[[str, str, str, str], list[str]]
    share: float = 1.0
    transactional: bool = False
    #: Whose consumer group it is in kpipe's pipeline, and how many processes share the work.
    handler: str = "kpipe"
    members: int = 1


class Result(NamedTuple):
    """One run: events a second, processor time an event (seconds), memory (bytes)."""

    rate: float
    cpu: float
    rss: int
    peak: int


def script(name: str, *more: str, python: str = sys.executable) -> Callable[[str, str, str, str], list[str]]:
    return lambda *where: [python, str(HERE / "contestants" / name), *where, *more]


def peer(name: str, *more: str) -> Callable[[str, str, str, str], list[str]]:
    return script(name, *more, python=str(PEERS))


def kpipe(*handlers: str) -> Callable[[str, str, str, str], list[str]]:
    return lambda *where: [*KPIPE, "up", *handlers]


LOOP = Contestant("loop", "hand-written loop", script("loop.py", "patient"))
ALL = (
    Contestant("kpipe", "kpipe", kpipe("kpipe")),
    LOOP,
    Contestant(
        "exactly-once", "kpipe, exactly-once", kpipe("exactly-once"), transactional=True, handler="exactly-once"
    ),
    Contestant("exec-node", "kpipe, a program in JavaScript", kpipe("exec-node"), share=0.5, handler="exec-node"),
    Contestant("exec-python", "kpipe, a program in Python", kpipe("exec-python"), share=0.5, handler="exec-python"),
    Contestant("two", "kpipe, two workers", kpipe("two"), handler="two", members=2),
    Contestant("http", "kpipe, an HTTP endpoint", kpipe("http", "endpoint"), share=0.1, handler="http"),
    Contestant("transactional", "hand-written loop, transactions", script("transactional.py"), transactional=True),
    Contestant("aiokafka", "aiokafka loop", peer("aiokafka_loop.py"), share=0.5),
    Contestant("quix", "Quix Streams", peer("quix.py"), share=0.25),
    Contestant("faststream-batch", "FastStream, batches", peer("faststream_app.py", "batch"), share=0.1),
    Contestant("faststream-each", "FastStream, single events", peer("faststream_app.py", "each"), share=0.02),
)


class Stage:
    """One run's own topics and the process in it. `run` keeps its names apart from all others."""

    def __init__(self, cluster: Cluster, folder: Path, contestant: Contestant, run: str) -> None:
        self.cluster = cluster
        self.contestant = contestant
        self.source, self.target, self.dlq = f"{run}.orders", f"{run}.payments", f"{run}.orders.dlq"
        self.group = f"{run}.bench.{contestant.handler}"
        self._folder = folder
        self._run = run

    def __enter__(self) -> Stage:
        self.cluster.create([self.source, self.target, self.dlq])
        return self

    def __exit__(self, *_: object) -> None:
        self.cluster.delete([self.source, self.target, self.dlq])

    def start(self) -> Started:
        where = (self.cluster.bootstrap, self.source, self.target, self.group)
        env = {
            **os.environ,
            "KAFKA_BOOTSTRAP": self.cluster.bootstrap,
            "BENCH_RUN": self._run,
            "BENCH_PORT": str(free_ports(1)[0]),
            "PYTHONPATH": str(self._folder),
        }
        return Started(self.contestant.argv(*where), self._folder, env, self._folder / f"{self._run}.log")

    def done(self) -> int:
        """How many events have come through."""
        if self.contestant.transactional:
            return self.cluster.committed(self.group, self.source)
        return self.cluster.count(self.target)

    def wait(self, started: Started, events: int, seconds: float) -> None:
        def arrived() -> bool:
            started.check()
            return self.done() >= events

        wait_for(f"{events} events through {self.contestant.name}", arrived, seconds)


def run(cluster: Cluster, folder: Path, contestant: Contestant, name: str, events: int) -> Result:
    """One contestant's one run of `events` events."""
    with Stage(cluster, folder, contestant, name) as stage:
        cluster.fill(stage.source, WARM_UP, salt=1)
        with stage.start() as started:
            stage.wait(started, WARM_UP, START_SECONDS)
            shared = partial(cluster.shared_by, stage.group, contestant.members)
            if contestant.members > 1:
                wait_for(f"{contestant.members} members of {stage.group}", shared, START_SECONDS)
            time.sleep(0.5)
            workers = started.workers()
            started.halt()
            cluster.fill(stage.source, events, salt=2)
            if contestant.members > 1 and not shared():
                raise RuntimeError("the group went on without who was halted")
            before = usage(*workers)
            begun = time.perf_counter()
            started.go_on()
            stage.wait(started, WARM_UP + events, RUN_SECONDS)
            seconds = time.perf_counter() - begun
            after = usage(*workers)
    return _result(events, seconds, before, after)


def sample() -> bytes:
    """The value of one event."""
    return event(0, 2)[1]


def _result(events: int, seconds: float, before: Usage, after: Usage) -> Result:
    return Result(events / seconds, (after.cpu - before.cpu) / events, after.rss, after.peak)

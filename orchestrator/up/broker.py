"""The Kafka that `kpipe up` runs on: one that exists, or one that it starts and takes down again.

Each kind does the same steps: `prepare` before anything runs (may fetch, may be interrupted), `start` beside the event
loop, `started` whenever a child has a process, `finish` when everything else has stopped.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, Protocol

from orchestrator.brokers import (
    AlreadyRunning,
    BrokerRecord,
    DockerBroker,
    ExternalBroker,
    LaunchSpec,
    LocalBroker,
    Notify,
    Ping,
    Progress,
    recorded,
)
from orchestrator.config.model import Pipeline
from orchestrator.errors import EXIT_BROKER, BrokerError, UsageError
from orchestrator.outside import shown
from orchestrator.supervisor.background import in_background
from orchestrator.supervisor.ending import GROUND
from orchestrator.supervisor.spec import ChildSpec, Probe
from orchestrator.supervisor.supervisor import Supervisor

START_SECONDS = 90.0
DOCKER_SECONDS = 120.0
STOP_SECONDS = 30.0
#: A broker whose `up` was killed is killed by its shim within this time.
_DYING_SECONDS = 5.0


class BrokerSource(Protocol):
    """The Kafka under a pipeline. `names` are those of its children."""

    names: tuple[str, ...]

    def prepare(self) -> None:
        """Blocks. Leaves nothing behind when it is interrupted. Raises `BrokerError`."""
        ...

    async def start(self, supervisor: Supervisor) -> str:
        """Kafka answers: its address. Raises `BrokerError`."""
        ...

    def started(self, name: str, pid: int) -> None:
        """A child of the supervisor runs now."""
        ...

    def finish(self) -> None:
        """Blocks. Every child has ended: leave nothing that only this `up` needed."""
        ...


def ground_for(
    pipeline: Pipeline,
    kind: Literal["local", "docker"] | None,
    ping: Ping,
    environ: Mapping[str, str],
    notify: Notify,
) -> BrokerSource:
    """By the file, `--kafka`, and what runs already. Raises `UsageError` when they contradict each other."""
    state = pipeline.state_dir
    if pipeline.kafka.bootstrap:
        if kind is not None:
            raise UsageError(
                f"--kafka {kind} and kafka.bootstrap ({shown(pipeline.kafka.bootstrap)}) contradict each other",
                "leave kafka.bootstrap empty for a Kafka that kpipe runs",
            )
        return ExternalSource(ExternalBroker(pipeline.kafka.bootstrap, ping))
    known = recorded(state)
    if (kind or (known.kind if known else "local")) == "docker":
        return DockerSource(DockerBroker(state, ping, environ=environ, notify=notify, started_by="up"), known)
    name = "kafka" if "kafka" not in pipeline.handlers else "kafka_"
    return LocalSource(LocalBroker(state, ping, environ=environ, notify=notify), name, notify)


class ExternalSource:
    """A cluster that is there, or is not."""

    names: tuple[str, ...] = ()

    def __init__(self, broker: ExternalBroker) -> None:
        self._broker = broker

    def prepare(self) -> None:
        pass

    async def start(self, supervisor: Supervisor) -> str:
        return await in_background(self._broker.start)

    def started(self, name: str, pid: int) -> None:
        pass

    def finish(self) -> None:
        pass


class DockerSource:
    """A container: no child of ours, so it has to be stopped by hand, unless `kpipe broker start` started it."""

    names: tuple[str, ...] = ()

    def __init__(self, broker: DockerBroker, known: BrokerRecord | None) -> None:
        self._broker = broker
        self._adopted = known is not None and known.kind == "docker" and known.started_by == "broker"
        self._address = ""

    def prepare(self) -> None:
        if self._adopted and self._broker.status().state == "running":
            status = self._broker.status()
            self._address = status.address or ""
            return
        self._adopted = False
        try:
            self._address = self._broker.start(DOCKER_SECONDS)
        except BaseException:
            with contextlib.suppress(BrokerError):  # without a Docker engine there is nothing to stop either
                self.finish()
            raise

    async def start(self, supervisor: Supervisor) -> str:
        return self._address

    def started(self, name: str, pid: int) -> None:
        pass

    def finish(self) -> None:
        if not self._adopted:
            self._broker.stop(STOP_SECONDS)


class LocalSource:
    """This project's own Kafka: a child of the supervisor, unless `kpipe broker start` already runs it."""

    def __init__(self, broker: LocalBroker, name: str, notify: Notify) -> None:
        self._broker = broker
        self._notify = notify
        self._name = name
        self.names: tuple[str, ...] = (name,)
        self._launch: LaunchSpec | None = None
        self._orphan = False

    def prepare(self) -> None:
        found = self._broker.running()
        if found is not None and found.started_by == "up":
            # Nobody else can be `up` here: its own was killed, and its shim is about to end it.
            found = self._after_it_is_gone(found)
            self._orphan = found is not None
        if found is None:
            try:
                self._launch = self._broker.prepare()
            except AlreadyRunning:  # `kpipe broker start` was faster
                return
            self._notify(Progress(f"Starting Kafka {self._launch.version} at {self._launch.address}"))

    async def start(self, supervisor: Supervisor) -> str:
        if self._launch is None:
            return await in_background(lambda: self._broker.start(START_SECONDS))
        try:
            return await self._start(self._launch, supervisor)
        finally:
            self._broker.release()

    def started(self, name: str, pid: int) -> None:
        if self._launch is not None and name == self._name:
            self._broker.record(self._launch, pid, "up")

    def finish(self) -> None:
        self._broker.release()
        if self._launch is not None:
            self._broker.forget()
        elif self._orphan:
            self._broker.stop(STOP_SECONDS)

    async def _start(self, launch: LaunchSpec, supervisor: Supervisor) -> str:
        supervisor.start([self._spec(launch)])
        try:
            ready = await asyncio.wait_for(supervisor.settled(), START_SECONDS)
        except TimeoutError as error:
            raise BrokerError(
                f"Kafka did not answer at {launch.address} within {START_SECONDS:g} s", f"its log: {launch.log}"
            ) from error
        if not ready:
            # It ended, and what it printed or its own log says why: this raises.
            printed = "\n".join(line for keeper in supervisor.keepers for line in keeper.output.tail)
            await in_background(lambda: self._broker.wait_ready(launch, 0.0, lambda: False, lambda: printed))
            raise BrokerError(f"Kafka did not stay at {launch.address}", f"its log: {launch.log}")
        return launch.address

    def _spec(self, launch: LaunchSpec) -> ChildSpec:
        return ChildSpec(
            self._name, launch.argv, launch.cwd, launch.env, probe=Probe(check=lambda: self._broker.answers(launch)),
            stage=GROUND, stop_timeout=STOP_SECONDS, must_start=True, essential=True, failure_code=EXIT_BROKER,
            umask=launch.umask,
        )  # fmt: skip

    def _after_it_is_gone(self, found: BrokerRecord) -> BrokerRecord | None:
        deadline = time.monotonic() + _DYING_SECONDS
        left: BrokerRecord | None = found
        while left is not None and time.monotonic() < deadline:
            time.sleep(0.05)
            left = self._broker.running()
        return left


def stop_left_over(state_dir: Path, environ: Mapping[str, str], ping: Ping) -> bool:
    """Stop a broker that an `up` started which is gone itself. True when there was one. Raises `BrokerError`."""
    known = recorded(state_dir)
    if known is None or known.started_by != "up":
        return False
    kind = DockerBroker if known.kind == "docker" else LocalBroker
    return kind(state_dir, ping, environ=environ).stop(STOP_SECONDS)

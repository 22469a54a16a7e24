"""Kafka in Docker, by `compose.yaml` and its health check.

Each project folder is a compose project of its own with its own port and volume, so two projects do not meet.
The folder's compose.yaml is used when it declares a service `kafka`, else the same file that kpipe brings along.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Mapping
from pathlib import Path

from orchestrator.brokers import compose, process
from orchestrator.brokers import record as records
from orchestrator.brokers.install import pins
from orchestrator.brokers.lock import locked_in
from orchestrator.brokers.model import (
    BrokerKind,
    BrokerRecord,
    BrokerState,
    BrokerStatus,
    Notify,
    Ping,
    Progress,
    StartedBy,
    quiet,
)
from orchestrator.brokers.ports import LOOPBACK, choose_ports, remembered_ports
from orchestrator.errors import BrokerError, UsageError
from orchestrator.state import check_own, claimed

_OURS = Path(__file__).with_name("compose.yaml")
_PORTS = "docker-ports.json"
_POLL_SECONDS = 0.2
_PULL_SECONDS = 1800.0
#: Docker kills a container only after compose.yaml's stop_grace_period.
_BESIDES_STOPPING = 30.0


class DockerBroker:
    """The broker of the project whose state is in `state_dir` and whose folder is above that."""

    kind: BrokerKind = "docker"

    def __init__(
        self,
        state_dir: Path,
        ping: Ping,
        *,
        environ: Mapping[str, str] | None = None,
        notify: Notify = quiet,
        started_by: StartedBy = "broker",
    ) -> None:
        self._state = state_dir
        self._ping = ping
        self._environ = dict(os.environ if environ is None else environ)
        self._notify = notify
        self._started_by = started_by

    @property
    def project(self) -> str:
        """The compose project's name: the same for the same folder, another for any other one."""
        folder = str(self._state.resolve()).encode("utf-8", "surrogateescape")
        return f"kpipe-{hashlib.sha256(folder).hexdigest()[:12]}"

    def start(self, timeout: float = 120.0) -> str:
        """Pull the image if need be, start, wait for the health check. Raises `BrokerError`."""
        compose.check_engine(self._environ)
        waiting = Progress("Another kpipe is starting this broker: waiting")
        with claimed(self._state) as folder, locked_in(folder, records.LOCK, lambda: self._notify(waiting)):
            check_own(folder)
            self._refuse_a_second_kafka()
            return self._start(timeout)

    def stop(self, timeout: float = 30.0) -> bool:
        """Stop and remove the container; its volume, and so the data, stays. False when nothing ran."""
        found = records.read(self._state)
        if found and found.owner_pid and found.owner_pid != os.getpid() and process.alive(found.owner_pid):
            raise UsageError(
                f"the broker belongs to the running `kpipe up` (process {found.owner_pid})", "`kpipe down` stops both"
            )
        compose.check_engine(self._environ)
        project = self._compose()
        ran = project.running()
        project.run("down", "--timeout", f"{timeout:.0f}", timeout=timeout + _BESIDES_STOPPING)
        self._forget()
        return ran

    def status(self) -> BrokerStatus:
        """Docker is asked only when the address does not answer: it may be away itself."""
        found = records.read(self._state)
        if found is None or found.kind != "docker":
            return BrokerStatus("docker", "stopped")
        state: BrokerState = "running"
        if not self._ping(found.address):
            compose.check_engine(self._environ)
            state = "unreachable" if self._compose().running() else "stopped"
        return BrokerStatus("docker", state, found.address, None, found.started_by, found.version or None)

    def fetch(self) -> bool:
        """Pull the image; False when it is there already. Raises `BrokerError`."""
        compose.check_engine(self._environ)
        project = self._compose()
        if project.has_images():
            return False
        self._notify(Progress(f"Pulling {', '.join(project.images())}"))
        project.run("pull", "--quiet", compose.SERVICE, timeout=_PULL_SECONDS)
        return True

    def wipe(self) -> None:
        """Stop it if it runs and delete its volume, which is all of its data.

        Only where Docker has something of this project: otherwise a compose.yaml that came with a checkout, and never
        ran here, would say what is deleted.
        """
        compose.check_engine(self._environ)
        if compose.has_objects(self.project, self._environ):
            self._compose().run("down", "--volumes", timeout=_BESIDES_STOPPING * 2)
        self._forget()

    def _start(self, timeout: float) -> str:
        deadline = time.monotonic() + timeout
        project = self._compose()
        known = remembered_ports(self._state / _PORTS)
        # Its own port is not free while it runs: another one would make compose replace the container.
        ports = known if known and project.running() else choose_ports(self._state / _PORTS)
        address = f"{LOOPBACK}:{ports.broker}"
        self._notify(Progress(f"Starting Kafka {pins.VERSION} in Docker at {address}"))
        project = self._compose({"KPIPE_KAFKA_PORT": str(ports.broker)})
        project.run(
            "up", "--detach", "--wait", "--wait-timeout", f"{timeout:.0f}", compose.SERVICE, timeout=timeout + 30
        )
        owner = os.getpid() if self._started_by == "up" else None
        made = BrokerRecord(address, "docker", None, self._started_by, version=pins.VERSION, owner_pid=owner)
        records.write(self._state, made)
        while not self._ping(address):
            if time.monotonic() > deadline:
                raise BrokerError(
                    f"the container is healthy, but no Kafka answers at {address}",
                    f"`docker compose --project-name {self.project} logs kafka` shows its log",
                )
            time.sleep(_POLL_SECONDS)
        return address

    def _compose(self, more: Mapping[str, str] | None = None) -> compose.Compose:
        environ = {**self._environ, **(more or {})}
        own = self._state.resolve().parent / "compose.yaml"
        if own.is_file():
            project = compose.Compose(own, self.project, environ)
            if project.has_service():
                return project
        return compose.Compose(_OURS, self.project, environ)

    def _refuse_a_second_kafka(self) -> None:
        known = records.recorded(self._state)
        if known and known.kind == "local":
            raise UsageError(
                f"this project's local Kafka runs already (at {known.address})",
                "leave out `--kafka docker`, or stop that one with `kpipe broker stop`",
            )

    def _forget(self) -> None:
        found = records.read(self._state)
        if found and found.kind == "docker":
            records.remove(self._state)

"""What all brokers have in common: their records, their states, and how they report progress."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from orchestrator.errors import BrokerError

BrokerKind = Literal["local", "docker", "external"]
StartedBy = Literal["up", "broker"]
#: running: Kafka answers; unreachable: it should be there and does not answer (yet); stopped: nothing runs.
BrokerState = Literal["running", "unreachable", "stopped"]

#: Whether Kafka answers at a bootstrap address. Must return within a few seconds and must not raise for a
#: broker that is away. An argument, because this package imports no Kafka client.
Ping = Callable[[str], bool]


@dataclass(frozen=True, slots=True)
class Progress:
    """One step of something slow. `done` of `total` bytes while something is downloaded, else None."""

    text: str
    done: int | None = None
    total: int | None = None


#: The umask of programs whose files nobody else is to read.
PRIVATE = 0o077

Notify = Callable[[Progress], None]


def quiet(_progress: Progress) -> None:
    """A `Notify` for callers that show nothing."""


@dataclass(frozen=True, slots=True)
class BrokerRecord:
    """What `.kpipe/broker.json` says about the broker that kpipe started for this folder.

    `pid` is the process that runs Kafka (None for Docker), `owner_pid` the `kpipe up` whose end is also the
    broker's end (None when it was started alone).
    """

    address: str
    kind: Literal["local", "docker"]
    pid: int | None
    started_by: StartedBy
    cluster_id: str = ""
    version: str = ""
    owner_pid: int | None = None


@dataclass(frozen=True, slots=True)
class BrokerStatus:
    """How a broker is right now; what does not apply is None."""

    kind: BrokerKind
    state: BrokerState
    address: str | None = None
    pid: int | None = None
    started_by: StartedBy | None = None
    version: str | None = None
    cluster_id: str | None = None
    data: Path | None = None
    log: Path | None = None


@dataclass(frozen=True, slots=True)
class LaunchSpec:
    """How to start the local broker: everything a runner needs, and where to look afterwards.

    `log_start` is the length of `log` before this start: what stands behind it is this run's. `umask` keeps what Kafka
    writes from other users: its data are the events.
    """

    argv: tuple[str, ...]
    env: Mapping[str, str]
    cwd: Path
    address: str
    log: Path
    log_start: int
    version: str
    cluster_id: str
    umask: int = PRIVATE


class Broker(Protocol):
    """What `kpipe up` and `kpipe broker` ask of a broker. Times are in seconds."""

    @property
    def kind(self) -> BrokerKind: ...

    def start(self, timeout: float) -> str:
        """Make Kafka answer and return its address; fine when it already does. Raises `BrokerError`."""
        ...

    def stop(self, timeout: float) -> bool:
        """Stop what kpipe started; False when there was nothing to stop. Raises `BrokerError`."""
        ...

    def status(self) -> BrokerStatus: ...


class PortTaken(BrokerError):
    """Another program took the port between choosing it and listening on it."""


class AlreadyRunning(BrokerError):
    """Another command started this project's broker in the meantime; `record` is that broker."""

    def __init__(self, record: BrokerRecord) -> None:
        super().__init__(
            f"this project's broker already runs at {record.address}", "run the command again: it will use it"
        )
        self.record = record

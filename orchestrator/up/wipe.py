"""`kpipe down -v`: what kpipe keeps for a project, deleted. Never anything of a cluster that kpipe does not run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

from orchestrator.brokers import DockerBroker, LocalBroker, Ping, recorded
from orchestrator.config.model import Pipeline
from orchestrator.errors import KpipeError, UsageError
from orchestrator.state import MARKER, Folder, existing, require_marker, require_own
from orchestrator.supervisor.control.lock import Lock

#: Commands that lock one of these must all find the same file. The marker says that the folder is kpipe's.
_STAY = frozenset({"up.lock", "broker.lock", MARKER})
#: All that is deleted where Kafka is somebody else's. What handlers keep under .kpipe was made from events that stay.
_OURS = frozenset({"logs", "broker", "broker.json", "docker-ports.json", "control.sock", "control.path"})
_DOCKER = "docker-ports.json"


def check_wipe(pipeline: Pipeline) -> None:
    """Raise `UsageError` while a Kafka runs that `kpipe down` does not stop, and for a folder that is not kpipe's."""
    folder = existing(pipeline.state_dir)
    if folder is not None:
        with folder:
            require_own(folder)
    known = recorded(pipeline.state_dir)
    if known is not None and known.started_by == "broker" and not pipeline.kafka.bootstrap:
        raise UsageError(
            f"the Kafka of `kpipe broker start` runs at {known.address}: its data cannot be deleted",
            "`kpipe broker stop` first; nothing was stopped or deleted",
        )


def wipe(pipeline: Pipeline, environ: Mapping[str, str], ping: Ping) -> None:
    """Nothing of it may run. Raises `BrokerError`, or `KpipeError` when something cannot be deleted."""
    state = pipeline.state_dir
    folder = existing(state)
    if folder is None:
        return
    folder.close()
    lock = Lock(state, datetime.now(UTC))
    try:
        # The lock has marked the folder if it was kpipe's, and holds it open: nothing else is emptied.
        require_marker(lock.folder)
        if not pipeline.kafka.bootstrap:
            if lock.folder.stat(_DOCKER) is not None:
                DockerBroker(state, ping, environ=environ).wipe()
            LocalBroker(state, ping, environ=environ).wipe()
        for name in _doomed(lock.folder, everything=not pipeline.kafka.bootstrap):
            _delete(lock.folder, name)
    finally:
        lock.close()


def _doomed(folder: Folder, *, everything: bool) -> Iterator[str]:
    for name in folder.names():
        if name not in _STAY and (everything or name in _OURS):
            yield name


def _delete(folder: Folder, name: str) -> None:
    try:
        folder.delete(name)
    except OSError as problem:
        path = folder.path / name
        raise KpipeError(f"{path} cannot be deleted: {problem.strerror or problem}") from problem

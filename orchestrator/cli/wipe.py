"""`kpipe down -v`: what kpipe keeps for a project, deleted. Never anything of a cluster that kpipe does not run."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

from orchestrator.brokers import DockerBroker, LocalBroker, Ping, recorded
from orchestrator.config.model import Pipeline
from orchestrator.errors import KpipeError, UsageError
from orchestrator.supervisor.place import Lock

#: Whoever is about to lock one of these must find the same file as everybody else.
_LOCKS = frozenset({"up.lock", "broker.lock"})
#: All that is deleted where Kafka is somebody else's. What handlers keep under .kpipe was made from events that stay.
_OURS = frozenset({"logs", "broker", "broker.json", "docker-ports.json", "control.sock", "control.path"})
_DOCKER = "docker-ports.json"


def check_wipe(pipeline: Pipeline) -> None:
    """Raise `UsageError` while a Kafka runs that `kpipe down` does not stop."""
    known = recorded(pipeline.state_dir)
    if known is not None and known.started_by == "broker" and not pipeline.kafka.bootstrap:
        raise UsageError(
            f"the Kafka of `kpipe broker start` runs at {known.address}: its data cannot be deleted",
            "`kpipe broker stop` first; nothing was stopped or deleted",
        )


def wipe(pipeline: Pipeline, environ: Mapping[str, str], ping: Ping) -> None:
    """Nothing of it may run. Raises `BrokerError`, or `KpipeError` when something cannot be deleted."""
    state = pipeline.state_dir
    if not state.is_dir():
        return
    lock = Lock(state, datetime.now(UTC))
    try:
        if not pipeline.kafka.bootstrap:
            if (state / _DOCKER).exists():
                DockerBroker(state, ping, environ=environ).wipe()
            LocalBroker(state, ping, environ=environ).wipe()
        for path in _doomed(state, everything=not pipeline.kafka.bootstrap):
            _delete(path)
    finally:
        lock.close()


def _doomed(state: Path, *, everything: bool) -> Iterator[Path]:
    for path in sorted(state.iterdir()):
        if path.name not in _LOCKS and (everything or path.name in _OURS):
            yield path


def _delete(path: Path) -> None:
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    except OSError as problem:
        raise KpipeError(f"{path} cannot be deleted: {problem.strerror or problem}") from problem

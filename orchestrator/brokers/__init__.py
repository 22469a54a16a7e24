"""Where Kafka comes from: a local one that kpipe runs, one in Docker, or one that exists (docs/brokers.md).

The brokers themselves are imported when they are first used: most commands only ask where one is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from orchestrator.brokers.model import (
    AlreadyRunning,
    Broker,
    BrokerKind,
    BrokerRecord,
    BrokerState,
    BrokerStatus,
    LaunchSpec,
    Notify,
    Ping,
    PortTaken,
    Progress,
    StartedBy,
    quiet,
)
from orchestrator.brokers.record import recorded

if TYPE_CHECKING:
    from orchestrator.brokers.docker import DockerBroker
    from orchestrator.brokers.external import ExternalBroker
    from orchestrator.brokers.local import LocalBroker

__all__ = [
    "AlreadyRunning",
    "Broker",
    "BrokerKind",
    "BrokerRecord",
    "BrokerState",
    "BrokerStatus",
    "DockerBroker",
    "ExternalBroker",
    "LaunchSpec",
    "LocalBroker",
    "Notify",
    "Ping",
    "PortTaken",
    "Progress",
    "StartedBy",
    "quiet",
    "recorded",
]


def __getattr__(name: str) -> Any:
    if name not in ("DockerBroker", "ExternalBroker", "LocalBroker"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from orchestrator.brokers import docker, external, local

    made: dict[str, Any] = {
        "DockerBroker": docker.DockerBroker,
        "ExternalBroker": external.ExternalBroker,
        "LocalBroker": local.LocalBroker,
    }
    return made[name]

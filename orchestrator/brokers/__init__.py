"""Where Kafka comes from: a local one that kpipe runs, one in Docker, or one that exists (docs/brokers.md)."""

from __future__ import annotations

from orchestrator.brokers.docker import DockerBroker
from orchestrator.brokers.external import ExternalBroker
from orchestrator.brokers.local import LocalBroker
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

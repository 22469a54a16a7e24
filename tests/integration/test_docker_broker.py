"""Kafka in a real Docker, where an engine answers; what `docker` is told is in tests/unit/brokers/test_docker.py."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient, ConfigResource

from orchestrator.brokers import DockerBroker, recorded
from orchestrator.brokers.compose import check_engine
from orchestrator.brokers.settings import SHARED
from orchestrator.errors import BrokerError
from orchestrator.kafka.ping import ping

pytestmark = pytest.mark.kafka


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[DockerBroker]:
    try:
        check_engine(os.environ)
    except BrokerError as problem:
        pytest.skip(problem.message)
    made = DockerBroker(tmp_path / ".kpipe", ping)
    yield made
    made.wipe()


def test_from_start_to_wipe(broker: DockerBroker, tmp_path: Path) -> None:
    address = broker.start(180)
    assert ping(address) and broker.status().state == "running"
    found = recorded(tmp_path / ".kpipe")
    assert found is not None and (found.address, found.kind) == (address, "docker")
    assert broker.start(60) == address

    admin = AdminClient({"bootstrap.servers": address, "log_level": 0})
    (future,) = admin.describe_configs([ConfigResource(ConfigResource.Type.BROKER, "1")]).values()
    settings = {name: entry.value for name, entry in future.result(20).items()}
    assert {name: settings[name] for name in SHARED} == dict(SHARED)

    assert broker.stop(30) and not broker.stop(30)
    assert broker.status().state == "stopped"
    assert broker.start(60) == address

"""A cluster that cannot be used: one error within seconds that names the address, the reason and the next step."""

from __future__ import annotations

import socket
import time
from collections.abc import Mapping

import pytest

from orchestrator.config.model import KafkaSettings
from orchestrator.errors import BrokerError, UsageError
from orchestrator.kafka.admin import ClusterAdmin, ping
from orchestrator.kafka.properties import client_properties


def admin(bootstrap: str, client: Mapping[str, str] | None = None, timeout: float = 2.0) -> ClusterAdmin:
    return ClusterAdmin(client_properties(KafkaSettings(client=client or {}), "admin", bootstrap), timeout=timeout)


@pytest.fixture
def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def test_a_refused_connection_names_address_and_reason(closed_port: int, capfd: pytest.CaptureFixture[str]) -> None:
    began = time.monotonic()
    with pytest.raises(BrokerError) as caught:
        admin(f"127.0.0.1:{closed_port}").describe(["orders"])
    assert time.monotonic() - began < 5
    assert f"127.0.0.1:{closed_port}" in caught.value.message
    assert "Connection refused" in caught.value.message
    assert "in state" not in caught.value.message
    assert caught.value.hint
    assert caught.value.exit_code == 4
    assert capfd.readouterr() == ("", "")


def test_the_default_patience_is_within_ten_seconds(closed_port: int) -> None:
    began = time.monotonic()
    with pytest.raises(BrokerError):
        ClusterAdmin(client_properties(KafkaSettings(), "admin", f"127.0.0.1:{closed_port}")).cluster()
    assert time.monotonic() - began < 10


def test_listing_topics_of_an_unreachable_cluster_gives_the_same_error(closed_port: int) -> None:
    with pytest.raises(BrokerError, match="cannot reach Kafka") as caught:
        admin(f"127.0.0.1:{closed_port}", timeout=1).topic_names()
    assert "Connection refused" in caught.value.message


def test_a_name_that_does_not_resolve_says_so() -> None:
    with pytest.raises(BrokerError, match="resolve"):
        admin("no-such-host.invalid:9092").cluster()


def test_a_server_that_never_answers_is_unreachable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(BrokerError, match="cannot reach"):
        admin(f"127.0.0.1:{silent.getsockname()[1]}").cluster()


@pytest.mark.parametrize(
    "client",
    [{"no.such.property": "1"}, {"security.protocol": "carrier-pigeon"}, {"socket.keepalive.enable": "perhaps"}],
)
def test_a_wrong_property_is_the_users_error(client: Mapping[str, str]) -> None:
    with pytest.raises(UsageError, match=next(iter(client))) as caught:
        admin("127.0.0.1:1", client)
    assert "CONFIGURATION.md" in caught.value.hint


def test_ping_of_nothing_is_false(closed_port: int) -> None:
    assert ping(f"127.0.0.1:{closed_port}", timeout=0.5) is False

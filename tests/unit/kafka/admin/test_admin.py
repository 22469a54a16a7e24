"""What a cluster answers, as values; one that cannot be used, as one error with address, reason and next step."""

from __future__ import annotations

import socket
import time
from collections.abc import Mapping
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import ConfigEntry, ConfigResource

from orchestrator.config.model import KafkaSettings
from orchestrator.errors import BrokerError, UsageError
from orchestrator.kafka.admin.admin import ClusterAdmin
from orchestrator.kafka.properties import client_properties
from orchestrator.records import ClusterState


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
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(BrokerError, match="no answer in time"):
        admin(f"127.0.0.1:{silent.getsockname()[1]}").cluster()


@pytest.mark.parametrize(
    "client",
    [{"no.such.property": "1"}, {"security.protocol": "carrier-pigeon"}, {"socket.keepalive.enable": "perhaps"}],
)
def test_a_wrong_property_is_the_users_error(client: Mapping[str, str]) -> None:
    with pytest.raises(UsageError, match=next(iter(client))) as caught:
        admin("127.0.0.1:1", client)
    assert "CONFIGURATION.md" in caught.value.hint


class Answers:
    """Stands for an AdminClient whose answers were seen on a cluster with an authorizer."""

    def __init__(self, topics: Mapping[str, Any], configs: Mapping[str, Any]) -> None:
        self.topics, self.configs = topics, configs

    def describe_topics(self, *_: object, **__: object) -> dict[str, Future[Any]]:
        return {name: answered(answer) for name, answer in self.topics.items()}

    def describe_configs(self, *_: object, **__: object) -> dict[ConfigResource, Future[Any]]:
        return {ConfigResource("topic", name): answered(answer) for name, answer in self.configs.items()}

    def poll(self, _timeout: float) -> int:
        return 0


def answered(answer: Any) -> Future[Any]:
    future: Future[Any] = Future()
    if isinstance(answer, KafkaError):
        future.set_exception(KafkaException(answer))
    else:
        future.set_result(answer)
    return future


def partition(replicas: int, isr: int, leader: int) -> SimpleNamespace:
    return SimpleNamespace(replicas=[None] * replicas, isr=[None] * isr, leader=SimpleNamespace(id=leader))


def topic_of(*partitions: SimpleNamespace) -> SimpleNamespace:
    return SimpleNamespace(partitions=list(partitions), topic_id="iSlR91W2RiWflkQ+no3aCQ", is_internal=False)


def described(topic: Any, configs: Any) -> ClusterState:
    client = admin("127.0.0.1:1")
    client._client = Answers({"t": topic}, {"t": configs})
    return client.describe(["t"])


FORBIDDEN, NO_SUCH_TOPIC = KafkaError(29), KafkaError(3)
CONFIGS = {
    "retention.ms": ConfigEntry("retention.ms", "5", source=1),
    "flush.ms": ConfigEntry("flush.ms", "7", source=4),
    "segment.ms": ConfigEntry("segment.ms", "9", source=5),
}


def test_a_topic_that_does_not_exist_is_in_neither_mapping() -> None:
    assert described(NO_SUCH_TOPIC, NO_SUCH_TOPIC) == ClusterState()


def test_a_missing_permission_is_unknown_never_absent() -> None:
    assert described(FORBIDDEN, FORBIDDEN) == ClusterState(
        unknown={"t": "Topic authorization failed"}, forbidden=frozenset({"t"})
    )


def test_configs_that_may_not_be_read_leave_the_topic_known() -> None:
    state = described(topic_of(partition(1, 1, 1)), FORBIDDEN)
    assert state.topics["t"].overrides is None
    assert state.unknown == {}


def test_a_topic_deleted_between_the_two_questions_is_absent() -> None:
    assert described(topic_of(partition(1, 1, 1)), NO_SUCH_TOPIC) == ClusterState()


def test_replication_is_counted_from_replica_lists_and_only_dynamic_topic_configs_are_overrides() -> None:
    topic = topic_of(partition(3, 1, 1), partition(3, 3, -1), partition(4, 3, 2))
    state = described(topic, CONFIGS).topics["t"]
    assert (state.partitions, state.replication, state.leaderless) == (3, 3, 1)
    assert state.overrides == {"retention.ms": "5"}
    assert state.topic_id == "iSlR91W2RiWflkQ+no3aCQ"
    assert state.defaults == {"flush.ms": "7", "segment.ms": "9"}

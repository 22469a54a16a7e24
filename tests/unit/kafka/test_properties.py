"""client_properties: defaults by kind, what users may override, what they may not."""

from __future__ import annotations

import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient

from orchestrator.config.model import KafkaSettings
from orchestrator.config.owned import ALIASES, OWNED, owned_reason
from orchestrator.kafka.properties import ClientKind, client_properties, denser

NOWHERE = "127.0.0.1:1"


def test_producer_carries_the_guarantees() -> None:
    properties = client_properties(KafkaSettings(), "producer", NOWHERE)
    assert properties["acks"] == "all"
    assert properties["enable.idempotence"] == "true"
    assert properties["partitioner"] == "murmur2_random"
    assert properties["message.timeout.ms"] == "0"
    assert properties["bootstrap.servers"] == NOWHERE


def test_consumer_carries_the_guarantees() -> None:
    properties = client_properties(KafkaSettings(), "consumer", NOWHERE)
    assert properties["enable.auto.commit"] == "false"
    assert properties["enable.auto.offset.store"] == "false"
    assert properties["allow.auto.create.topics"] == "false"
    assert properties["partition.assignment.strategy"] == "cooperative-sticky"
    assert properties["enable.partition.eof"] == "true"


def test_librdkafka_accepts_every_default() -> None:
    settings = KafkaSettings()
    Producer(client_properties(settings, "producer", NOWHERE))
    Consumer(client_properties(settings, "consumer", NOWHERE) | {"group.id": "any"}).close()
    AdminClient(client_properties(settings, "admin", NOWHERE))


def test_users_properties_win_and_the_kind_wins_over_client() -> None:
    settings = KafkaSettings(client={"client.id": "all", "linger.ms": "1"}, producer={"client.id": "mine"})
    properties = client_properties(settings, "producer", NOWHERE)
    assert (properties["client.id"], properties["linger.ms"]) == ("mine", "1")
    assert client_properties(settings, "consumer", NOWHERE)["client.id"] == "all"


@pytest.mark.parametrize(
    ("user", "smallest", "batch"),
    [
        ({}, None, None),
        ({}, 20_000, "19744"),
        ({"batch.size": "500"}, 20_000, "500"),
        ({"batch.size": "900000"}, 1, "1"),
    ],
)
def test_a_batch_fits_into_the_smallest_topic(user: dict[str, str], smallest: int | None, batch: str | None) -> None:
    properties = client_properties(KafkaSettings(producer=user), "producer", NOWHERE, smallest=smallest)
    assert properties.get("batch.size") == batch


def test_no_client_is_narrower_than_kafka() -> None:
    producer = client_properties(KafkaSettings(), "producer", NOWHERE)
    assert producer["message.max.bytes"] == "1000000000"
    assert int(producer["queue.buffering.max.kbytes"]) * 1024 > 1_000_000_000, "a record fits into an empty queue"
    assert client_properties(KafkaSettings(), "consumer", NOWHERE)["receive.message.max.bytes"] == str(2**31 - 1)


def test_zstd_is_no_option_where_the_user_says_how_to_compress() -> None:
    assert denser(KafkaSettings()) == {"compression.type": "zstd"}
    assert denser(KafkaSettings(client={"compression.codec": "gzip"})) == {}


def test_an_alias_replaces_the_default_of_its_first_name() -> None:
    properties = client_properties(KafkaSettings(producer={"compression.codec": "zstd"}), "producer", NOWHERE)
    assert properties["compression.type"] == "zstd"
    assert "compression.codec" not in properties


@pytest.mark.parametrize("kind", ["consumer", "producer", "admin"])
def test_defaults_have_first_names_for_an_alias_to_replace(kind: ClientKind) -> None:
    assert not set(client_properties(KafkaSettings(), kind, "k:1")) & set(ALIASES)


@pytest.mark.parametrize("name", [*OWNED, *(alias for alias, first in ALIASES.items() if first in OWNED)])
def test_owned_properties_are_never_taken_from_the_user(name: str) -> None:
    for kind in ("consumer", "producer", "admin"):
        given = KafkaSettings(client={name: "sabotage"})
        assert "sabotage" not in client_properties(given, kind, NOWHERE).values()
    assert owned_reason(name)


def test_a_property_that_is_not_owned_has_no_reason() -> None:
    assert owned_reason("linger.ms") is None
    assert owned_reason("queue.buffering.max.ms") is None


def test_the_new_consumer_protocol_drops_what_librdkafka_refuses_next_to_it() -> None:
    settings = KafkaSettings(consumer={"group.protocol": "consumer"})
    properties = client_properties(settings, "consumer", NOWHERE) | {"group.id": "any"}
    assert "session.timeout.ms" not in properties
    Consumer(properties).close()

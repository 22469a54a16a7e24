"""Which errors mean a missing permission, and how it is named.

Kafka does not tell a topic that may not be described from one that does not exist: what is refused is unknown, never
absent.
"""

from __future__ import annotations

from collections.abc import Iterable

from confluent_kafka import KafkaError

from orchestrator.records import Permission

#: Kafka understood who asks, and does not let that user do it.
REFUSED = frozenset(
    {
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
        KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
    }
)


def on_topics(operation: str, topics: Iterable[str]) -> list[Permission]:
    return [Permission(operation, "topic", name) for name in dict.fromkeys(topics)]

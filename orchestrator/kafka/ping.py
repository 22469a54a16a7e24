"""Whether a Kafka answers at an address."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from orchestrator.kafka.properties import LIBRDKAFKA_LOG


def ping(bootstrap: str, properties: Mapping[str, Any] | None = None, timeout: float = 2.0) -> bool:
    """True when a broker at `bootstrap` ("host:port[,…]") tells its metadata within `timeout` seconds.

    `properties` are librdkafka's (for clusters with TLS or SASL). A broker that is away is False, not an
    error, and leaves nothing on stderr.
    """
    quiet = {"log_level": "0", "logger": LIBRDKAFKA_LOG}
    client = AdminClient({**(properties or {}), **quiet, "bootstrap.servers": bootstrap})
    try:
        return bool(client.list_topics(timeout=timeout).brokers)
    except KafkaException:
        return False

"""Whether a Kafka answers at an address."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from orchestrator.kafka.checked import checked
from orchestrator.kafka.errors import NOT_TRUSTED, cannot_use, wrong_property
from orchestrator.kafka.properties import LIBRDKAFKA_LOG


def ping(bootstrap: str, properties: Mapping[str, Any] | None = None, timeout: float = 2.0) -> bool:
    """True when a broker at `bootstrap` ("host:port[,…]") tells its metadata within `timeout` seconds.

    `properties` are librdkafka's (for clusters with TLS or SASL). A broker that is away is False, not an
    error, and leaves nothing on stderr. Raises BrokerError for one that answers and does not let these `properties` in,
    and UsageError for those that no client can have.
    """
    quiet = {"log_level": "0", "logger": LIBRDKAFKA_LOG}
    told: list[KafkaError] = []
    settled = {**(properties or {}), **quiet, "bootstrap.servers": bootstrap}
    try:
        client = AdminClient({**settled, "error_cb": told.append})
    except (KafkaException, TypeError, ValueError) as problem:
        raise wrong_property(problem, settled) from problem
    try:
        return bool(checked(client.list_topics, timeout=timeout).brokers)
    except KafkaException:
        client.poll(0)
        refused = next((error for error in told if error.code() in NOT_TRUSTED), None)
        if refused is not None and properties:
            raise cannot_use(settled, refused) from None
        return False

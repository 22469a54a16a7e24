"""The librdkafka properties that kpipe's guarantees rest on: setting one under `kafka` is a finding.

Every other property may be set; it then wins over kpipe's default. One table for the check and for the docs.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

#: librdkafka's second names of properties that kpipe owns or sets, by its own CONFIGURATION.md.
ALIASES: Mapping[str, str] = MappingProxyType(
    {
        "auto.commit.enable": "enable.auto.commit",
        "compression.codec": "compression.type",
        "delivery.timeout.ms": "message.timeout.ms",
        "max.partition.fetch.bytes": "fetch.message.max.bytes",
        "metadata.broker.list": "bootstrap.servers",
        "queue.buffering.max.ms": "linger.ms",
        "request.required.acks": "acks",
        "sasl.mechanisms": "sasl.mechanism",
    }
)

#: Property name (never an alias) -> why it is kpipe's, and where to say it instead if anywhere.
OWNED: Mapping[str, str] = MappingProxyType(
    {
        "acks": "an event is settled only when every in-sync replica has its outputs",
        "auto.offset.reset": "a new group starts at its handler's `from`; a later jump must never be silent",
        "bootstrap.servers": "the cluster is named by `kafka.bootstrap`",
        "client.software.name": "brokers are told which client really connects",
        "client.software.version": "brokers are told which client really connects",
        "delivery.report.only.error": "kpipe settles an event on the delivery reports of its outputs",
        "enable.auto.commit": "kpipe commits only the frontier, so that no event in flight is lost",
        "enable.auto.offset.store": "kpipe commits only the frontier, so that no event in flight is lost",
        "enable.idempotence": "without it a retried send could be doubled or overtake another",
        "enable.partition.eof": "a drained partition's frontier reaches its end by this signal",
        "enable_sasl_queue": "it takes a handler of events, which kpipe does not have",
        "enabled_events": "kpipe serves librdkafka's events itself",
        "group.id": "groups are named <pipeline>.<handler>; say `group` on the handler to adopt another",
        "group.instance.id": "replicas of one handler would share it and fence each other off",
        "internal.termination.signal": "it sends a signal to kpipe's own process",
        "isolation.level": "records of an aborted transaction never were events",
        "offset.store.method": "offsets are kept in Kafka, never in a file",
        "offset.store.path": "offsets are kept in Kafka, never in a file",
        "offset.store.sync.interval.ms": "offsets are kept in Kafka, never in a file",
        "test.mock.broker.rtt": "it is for tests of librdkafka",
        "test.mock.num.brokers": "it replaces the cluster by a mock, for tests of librdkafka",
        "transactional.id": "kpipe derives it from group, instance and replica; another one breaks fencing",
    }
)


#: librdkafka's and confluent_kafka's properties that are no text: callbacks, objects, and what others set for them.
OBJECTS = frozenset(
    (
        "default.topic.config", "default_topic_conf", "interceptors", "logger", "msg_order_cmp", "on_commit",
        "on_delivery", "opaque", "ssl_ca", "ssl_certificate", "ssl_engine_callback_data", "ssl_key",
    )
)  # fmt: skip

#: Properties of all clients whose names begin like librdkafka's prefix for those of topics.
_NO_PREFIX = ("topic.metadata.refresh.", "topic.metadata.propagation.", "topic.blacklist")


def canonical(name: str) -> str:
    """The first name of a property: librdkafka also takes aliases, and `topic.` before the properties of topics."""
    bare = name if name.startswith(_NO_PREFIX) else name.removeprefix("topic.")
    return ALIASES.get(bare, bare)


def owned_reason(name: str) -> str | None:
    """Why `name`, under whichever of its names, is kpipe's to set; None when a user may set it."""
    first = canonical(name)
    if first.endswith("_cb") or first in OBJECTS:
        return "it takes a function or an object, not a value"
    return OWNED.get(first)

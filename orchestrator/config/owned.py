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
    }
)

#: Property name (never an alias) -> why it is kpipe's, and where to say it instead if anywhere.
OWNED: Mapping[str, str] = MappingProxyType(
    {
        "acks": "an event is settled only when every in-sync replica has its outputs",
        "auto.offset.reset": "a new group starts at its handler's `from`; a later jump must never be silent",
        "bootstrap.servers": "the cluster is named by `kafka.bootstrap`",
        "delivery.report.only.error": "kpipe settles an event on the delivery reports of its outputs",
        "enable.auto.commit": "kpipe commits only the frontier, so that no event in flight is lost",
        "enable.auto.offset.store": "kpipe commits only the frontier, so that no event in flight is lost",
        "enable.idempotence": "without it a retried send could be doubled or overtake another",
        "enable.partition.eof": "a drained partition's frontier reaches its end by this signal",
        "group.id": "groups are named <pipeline>.<handler>; say `group` on the handler to adopt another",
        "group.instance.id": "replicas of one handler would share it and fence each other off",
        "isolation.level": "records of an aborted transaction never were events",
        "transactional.id": "kpipe derives it from group, instance and replica; another one breaks fencing",
    }
)


def owned_reason(name: str) -> str | None:
    """Why `name` (or what it is an alias of) is kpipe's to set; None when a user may set it."""
    return OWNED.get(ALIASES.get(name, name))

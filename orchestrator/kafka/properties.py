"""What kpipe tells librdkafka: a table per kind of client, then the user's properties, then what kpipe owns.

Sources: librdkafka's CONFIGURATION.md for names and defaults; DESIGN section 5, "Clients" and "Sizes", for the values.

Sizes: a topic's `max.message.bytes` is about batches as they are stored, compressed. librdkafka's limits are about
single records before compression, so each of them is as wide as it can be, and the broker alone decides. Only
`batch.size` follows the topics: a broker refuses a batch that is too large with all the records in it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from orchestrator.config.model import KafkaSettings
from orchestrator.config.owned import OWNED, canonical
from orchestrator.outside import masked

ClientKind = Literal["consumer", "producer", "admin"]

#: librdkafka's own log. Without a handler on it or on the root logger it says nothing: terminals stay clean.
LIBRDKAFKA_LOG = logging.getLogger("kpipe.librdkafka")
LIBRDKAFKA_LOG.addHandler(logging.NullHandler())


class MaskedLog:
    """librdkafka's log of one client, without the values of its properties that came from outside of the pipeline file.

    librdkafka redacts passwords only. It says addresses, names of users and of files, and the URL of a token.
    """

    def __init__(self, values: Sequence[str]) -> None:
        self._values = values

    def log(self, level: int, message: str, *args: object) -> None:
        LIBRDKAFKA_LOG.log(level, "%s", masked(message % args, self._values))


_COMMON: Mapping[str, str] = {
    "client.id": "kpipe",
    "log_level": "4",
    # A broker that comes back is found within 2 s, not 10.
    "reconnect.backoff.max.ms": "2000",
    "socket.keepalive.enable": "true",
    # Added partitions are noticed after half a minute instead of five.
    "topic.metadata.refresh.interval.ms": "30000",
}

_BY_KIND: Mapping[ClientKind, Mapping[str, str]] = {
    "consumer": {
        "allow.auto.create.topics": "false",
        "auto.offset.reset": "error",
        "enable.auto.commit": "false",
        "enable.auto.offset.store": "false",
        "enable.partition.eof": "true",
        "fetch.error.backoff.ms": "100",
        # A full queue is looked at again after a moment, where librdkafka would ask for nothing more in a whole second.
        "fetch.queue.backoff.ms": "10",
        # Of a partition, or one batch if that is larger. What is fetched comes to us one partition after the other:
        # with librdkafka's 1 MB, the others' events wait behind ten thousand of the first one's.
        "fetch.message.max.bytes": "262144",
        # Also the most that a batch may have once it is decompressed with zstd; beyond it (librdkafka: 100 MB) the
        # partition could never be read on. This is the most that it takes.
        "receive.message.max.bytes": "2147483647",
        # Where one partition has nothing new, the broker lets a fetch wait for it; the others' next events wait, too.
        "fetch.wait.max.ms": "100",
        "heartbeat.interval.ms": "3000",
        "isolation.level": "read_committed",
        "partition.assignment.strategy": "cooperative-sticky",
        # Of all partitions; librdkafka would fetch 100,000 ahead, and of a partition that is paused throws them away.
        "queued.min.messages": "10000",
        "session.timeout.ms": "10000",
        # A topic of redriven letters is found within 5 s.
        "topic.metadata.refresh.interval.ms": "5000",
    },
    "producer": {
        "acks": "all",
        # lz4 rather than zstd: next to no processor time at both ends, read by every client since Kafka 0.10
        # (zstd needs 2.1), and zstd's better ratio shows on larger batches than a 5 ms linger collects.
        "compression.type": "lz4",
        "enable.idempotence": "true",
        "linger.ms": "5",
        # Never give up on a queued record: an expired one would let later ones of its key overtake it.
        "message.timeout.ms": "0",
        # Java's default partitioner, so that Java clients and kpipe agree on a key's partition.
        "partitioner": "murmur2_random",
        # The most that librdkafka takes, before compression.
        "message.max.bytes": "1000000000",
        # A record has to fit into an empty queue, or it could never be sent. What bounds a worker's memory is that it
        # waits for its receipts several times a second.
        "queue.buffering.max.kbytes": "1048576",
        "queue.buffering.max.messages": "100000",
    },
    "admin": {
        # A broker that accepts and never answers is told within seconds.
        "socket.connection.setup.timeout.ms": "5000",
        "socket.timeout.ms": "10000",
    },
}

#: librdkafka's `batch.size` (bytes, before compression).
_BATCH_BYTES = 1_000_000
#: Bytes of a batch's header (61 in format version 2, KIP-98) and more.
_BATCH_OVERHEAD = 256

#: The new consumer protocol (KIP-848) decides these on the broker; librdkafka refuses them next to it.
_CLASSIC_PROTOCOL_ONLY = ("heartbeat.interval.ms", "partition.assignment.strategy", "session.timeout.ms")


def client_properties(
    settings: KafkaSettings,
    kind: ClientKind,
    bootstrap: str,
    *,
    smallest: int | None = None,
) -> dict[str, Any]:
    """Properties for one confluent_kafka client of `kind` at `bootstrap` ("host:port[,host:port]").

    Later wins: kpipe's defaults, `kafka.client`, `kafka.<kind>`; what kpipe owns is never taken from the user. All
    values are strings save `logger`, which routes librdkafka's log to `LIBRDKAFKA_LOG`. Group and transactional ids are
    the caller's. `smallest` (producers) is the least record limit of the topics that are written to, in bytes: a batch
    never exceeds it, whatever the user says.
    """
    defaults = {**_COMMON, **_BY_KIND[kind]}
    given = _canonical(settings.client) | _canonical(getattr(settings, kind))
    if kind == "consumer" and given.get("group.protocol", "classic").lower() == "consumer":
        defaults = {name: value for name, value in defaults.items() if name not in _CLASSIC_PROTOCOL_ONLY}
    allowed = {name: value for name, value in given.items() if name not in OWNED}
    merged: dict[str, Any] = {**defaults, **allowed, "bootstrap.servers": bootstrap}
    if smallest is not None and kind == "producer":
        wanted = int(merged.get("batch.size", _BATCH_BYTES))
        merged["batch.size"] = str(max(1, min(wanted, smallest - _BATCH_OVERHEAD)))
    return {**merged, "logger": MaskedLog([*merged.values()])}


def denser(settings: KafkaSettings) -> dict[str, str]:
    """What makes a producer's batches as small as other clients': lz4 may not fit where zstd did.

    Empty where the user says how to compress.
    """
    given = _canonical(settings.client) | _canonical(settings.producer)
    return {} if "compression.type" in given else {"compression.type": "zstd"}


def _canonical(properties: Mapping[str, str]) -> dict[str, str]:
    """Under their first names: of two names of one property librdkafka would apply the one that comes last."""
    return {canonical(name): value for name, value in properties.items()}

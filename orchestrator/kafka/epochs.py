"""Where a log parted from what a client had read of it: by the leader epochs of its records (KIP-101, KIP-320).

Leader epochs never go down along a log. A leader that was elected without all of the log cuts it off, and what it
writes has a higher epoch: so the first record of a higher epoch than the client knows of stands where the log parted.
confluent-kafka has no OffsetForLeaderEpoch request; the records themselves say the same.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException
from confluent_kafka import TopicPartition as RdPartition

from orchestrator.errors import BrokerError
from orchestrator.kafka.errors import cannot_use, wrong_property
from orchestrator.records import TopicPartition

_WAIT = 0.1


def first_above(
    properties: Mapping[str, Any], tp: TopicPartition, low: int, high: int, epoch: int, *, timeout: float = 5.0
) -> int:
    """The first offset in [`low`, `high`) whose record has a leader epoch above `epoch`; `high` when none has.

    `properties` come from `client_properties(settings, "consumer", …)`. Reads about log2(high - low) records. Raises
    BrokerError when they cannot be read within `timeout` seconds, and UsageError.
    """
    try:
        consumer = Consumer({**properties, "group.id": "kpipe-reader", "enable.partition.eof": "true"})
    except (KafkaException, TypeError, ValueError) as problem:
        raise wrong_property(problem, properties) from problem
    deadline = time.monotonic() + timeout
    try:
        middle = high - 1  # mostly nothing was cut: the last record says so
        while low < high:
            offset, record_epoch = _at(consumer, properties, RdPartition(tp.topic, tp.partition, middle), deadline)
            if offset >= high or record_epoch > epoch:
                high = middle
            else:
                low = offset + 1
            middle = (low + high) // 2
        return high
    finally:
        consumer.close()


def _at(consumer: Consumer, properties: Mapping[str, Any], place: RdPartition, deadline: float) -> tuple[int, int]:
    """Offset and leader epoch (-1: none) of the first record at or after `place`; the log's end counts as a record."""
    consumer.assign([place])
    while time.monotonic() < deadline:
        message = consumer.poll(_WAIT)
        if message is None:
            continue
        error = message.error()
        if error is None or error.code() == KafkaError._PARTITION_EOF:
            epoch = message.leader_epoch()
            return int(message.offset() or 0), -1 if epoch is None else epoch
        if not error.retriable():
            raise cannot_use(properties, error)
    raise BrokerError(f"{place.topic}[{place.partition}] was not read within its time")

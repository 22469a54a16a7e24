"""What one consumer group has committed in some partitions, asked without joining it.

By a consumer of that group, which never subscribes, and not by the admin client's ListConsumerGroupOffsets: there
librdkafka 2.16 crashes the process when the coordinator still loads, as it does for a moment after a broker's start
(rd_kafka_handle_OffsetFetch takes a consumer for granted).
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException
from confluent_kafka import TopicPartition as RdPartition

from orchestrator.errors import ForbiddenError
from orchestrator.kafka.checked import checked
from orchestrator.kafka.errors import REFUSED, UNREACHABLE, cannot_use, on_topics, wrong_property
from orchestrator.kafka.interrupt import uninterrupted
from orchestrator.records import Permission, TopicPartition

#: Seconds of one question, so that Ctrl-C is heard.
_ASK = 1.0


def committed(
    properties: Mapping[str, Any], group: str, partitions: Iterable[TopicPartition], *, timeout: float = 15.0
) -> dict[TopicPartition, int]:
    """The committed offset of each partition that has one; as `commits`."""
    return {tp: offset for tp, (offset, _) in commits(properties, group, partitions, timeout=timeout).items()}


def commits(
    properties: Mapping[str, Any], group: str, partitions: Iterable[TopicPartition], *, timeout: float = 15.0
) -> dict[TopicPartition, tuple[int, str]]:
    """The committed offset of each partition that has one, and the metadata of that commit.

    `properties` come from `client_properties(settings, "consumer", ...)`. `timeout` (seconds) is long
    enough for a broker that has just started and creates its offsets topic. Raises BrokerError and UsageError.
    """
    told: list[KafkaError] = []
    try:
        consumer = Consumer({**properties, "group.id": group, "error_cb": told.append})
    except (KafkaException, TypeError, ValueError) as problem:
        raise wrong_property(problem, properties) from problem
    try:
        found = _ask(consumer, properties, [RdPartition(*tp) for tp in partitions], time.monotonic() + timeout, told)
    except _GroupRefused:
        raise ForbiddenError([Permission("DESCRIBE", "group", group)]) from None
    finally:
        with uninterrupted():
            consumer.close()
    return {TopicPartition(p.topic, p.partition): (p.offset, p.metadata or "") for p in found if p.offset >= 0}


def _ask(
    consumer: Consumer,
    properties: Mapping[str, Any],
    wanted: list[RdPartition],
    deadline: float,
    told: list[KafkaError],
) -> list[RdPartition]:
    while True:
        try:
            with uninterrupted():
                found = checked(consumer.committed, wanted, timeout=_ASK)
            error = next((partition.error for partition in found if partition.error is not None), None)
            if error is None:
                return found
        except KafkaException as problem:
            error = problem.args[0]
        # A coordinator that may not be asked for looks like one that is not found: the reason comes as a message.
        with uninterrupted():
            message = consumer.poll(0)
        if message is not None and (reason := message.error()) is not None:
            told.append(reason)
        if KafkaError.GROUP_AUTHORIZATION_FAILED in (error.code(), *(one.code() for one in told)):
            raise _GroupRefused
        if error.code() in REFUSED:
            raise ForbiddenError(on_topics("DESCRIBE", [partition.topic for partition in wanted]))
        if time.monotonic() >= deadline or not _may_pass(error):
            raise cannot_use(properties, error)


class _GroupRefused(Exception):
    """This user may not describe the group."""


def _may_pass(error: KafkaError) -> bool:
    """Whether asking again can help: the group's coordinator is being found, or loads."""
    return error.code() in UNREACHABLE or error.retriable() or error.code() in _COORDINATOR


_COORDINATOR = frozenset(
    {
        KafkaError._WAIT_COORD,
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.NOT_COORDINATOR,
    }
)

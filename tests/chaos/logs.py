"""Whole topics, and a group's commits as Kafka keeps them, read with a plain client; nothing of kpipe."""

from __future__ import annotations

import base64
import json
import struct
import uuid
from collections.abc import Iterator
from typing import Any, NamedTuple

from confluent_kafka import Consumer, TopicPartition

OFFSETS = "__consumer_offsets"


class Commit(NamedTuple):
    """One commit of one partition: when (broker's clock, seconds), and what it covers."""

    at: float
    offset: int
    settled: list[tuple[int, int]]

    def covers(self, offset: int) -> bool:
        return offset < self.offset or any(a <= offset < b for a, b in self.settled)


def whole(bootstrap: str, topic: str, isolation: str = "read_committed") -> Iterator[Any]:
    """Every record of the topic up to its present end, per partition in order."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap, "group.id": f"witness-{uuid.uuid4()}", "enable.auto.commit": False,
            "auto.offset.reset": "earliest", "isolation.level": isolation, "enable.partition.eof": True,
        }
    )  # fmt: skip
    try:
        partitions = consumer.list_topics(topic, timeout=30).topics[topic].partitions
        open_ = set(partitions)
        consumer.assign([TopicPartition(topic, p, 0) for p in partitions])
        while open_:
            for message in consumer.consume(5_000, 1.0):
                if message.error() is None:
                    yield message
                elif message.error().name() == "_PARTITION_EOF":
                    open_.discard(message.partition())
    finally:
        consumer.close()


def commits(bootstrap: str, group: str, topic: str) -> dict[int, list[Commit]]:
    """Every commit that the group ever made in the topic, by partition, oldest first."""
    found: dict[int, list[Commit]] = {}
    for message in whole(bootstrap, OFFSETS):
        at = _place(message.key())
        if at is None or at[:2] != (group, topic) or message.value() is None:
            continue
        offset, metadata, when = _committed(message.value())
        found.setdefault(at[2], []).append(Commit(when / 1000, offset, _settled(offset, metadata)))
    for of_partition in found.values():
        of_partition.sort()
    return found


def _place(key: bytes) -> tuple[str, str, int] | None:
    """OffsetCommitKey: version 0 or 1, group, topic, partition."""
    (version,) = struct.unpack_from(">h", key)
    if version not in (0, 1):
        return None
    group, at = _string(key, 2)
    topic, at = _string(key, at)
    return group, topic, struct.unpack_from(">i", key, at)[0]


def _committed(value: bytes) -> tuple[int, str, int]:
    """OffsetCommitValue: offset, metadata, time of the commit in ms."""
    version, offset = struct.unpack_from(">hq", value)
    at = 10 + (4 if version >= 3 else 0)
    if version >= 4:
        size, at = _varint(value, at)
        metadata, at = value[at : at + size - 1].decode(), at + size - 1
    else:
        metadata, at = _string(value, at)
    # confluent-kafka commits the string with the zero byte that ends it.
    return offset, metadata.rstrip("\0"), struct.unpack_from(">q", value, at)[0]


def _string(data: bytes, at: int) -> tuple[str, int]:
    (size,) = struct.unpack_from(">h", data, at)
    return data[at + 2 : at + 2 + size].decode(), at + 2 + size


def _settled(offset: int, metadata: str) -> list[tuple[int, int]]:
    """What kpipe's metadata (docs/delivery.md) says is settled above the offset: gaps and lengths, in LEB128."""
    if not metadata:
        return []
    packed = base64.b64decode(json.loads(metadata)["s"])
    ranges, at, position = [], offset, 0
    while position < len(packed):
        gap, position = _varint(packed, position)
        length, position = _varint(packed, position)
        ranges.append((at + gap, at + gap + length))
        at += gap + length
    return ranges


def _varint(data: bytes, at: int) -> tuple[int, int]:
    n = shift = 0
    while True:
        byte = data[at]
        n |= (byte & 0x7F) << shift
        shift, at = shift + 7, at + 1
        if byte < 0x80:
            return n, at

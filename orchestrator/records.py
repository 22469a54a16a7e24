"""Frozen values that every layer shares. No behaviour beyond what their own fields say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

#: Kafka headers in order; names may repeat; a value may be null (Kafka allows it).
Headers = tuple[tuple[str, bytes | None], ...]


class TopicPartition(NamedTuple):
    """One partition, by the name the topic has on the cluster."""

    topic: str
    partition: int


class Record(NamedTuple):
    """One Kafka record as it was read: bytes, nothing decoded.

    `timestamp` is milliseconds since the epoch (Kafka's record time), -1 when the broker gave none.
    """

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Headers


class Outgoing(NamedTuple):
    """One record to be produced. `topic` is the cluster's name; `partition` None lets the key decide."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers = ()
    partition: int | None = None


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """A topic as it should be or as it is: `configs` holds dynamic overrides only, as the broker's strings."""

    name: str
    partitions: int
    replication: int
    configs: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing wrong with a file. `line` and `column` count from 1; 0 means the file as a whole."""

    severity: Literal["error", "warning"]
    code: str
    file: str
    line: int
    column: int
    message: str
    hint: str = ""

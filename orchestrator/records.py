"""Frozen values that every layer shares. No behaviour beyond what their own fields say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from orchestrator.text import safe

#: Kafka headers in order; names may repeat; a value may be null (Kafka allows it).
Headers = tuple[tuple[str, bytes | None], ...]
#: As an author writes them: by name, or as pairs where a name occurs twice.
EmitHeaders = Mapping[str, str | bytes | None] | Sequence[tuple[str, str | bytes | None]]


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
    """One record to be produced. `topic` is the cluster's name; `partition` None lets the key decide.

    `timestamp` is milliseconds since the epoch; None lets the client take the time.
    """

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers = ()
    partition: int | None = None
    timestamp: int | None = None


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """A topic as it should be: `configs` are what is set on the topic itself, as the broker's strings.

    `keyed` says whether its records have keys, whose order more partitions would break.
    """

    name: str
    partitions: int
    replication: int
    configs: Mapping[str, str] = field(default_factory=dict)
    keyed: bool = True


@dataclass(frozen=True, slots=True)
class TopicState:
    """A topic as the cluster has it.

    `replication` is the fewest replicas of any partition, counted from the replica lists: an ISR shrinks
    while a broker is away, a replica list does not. `overrides` are the topic's own configs, None when the
    cluster does not let us see them; `defaults` are what applies for every other key, and, where the cluster says
    it, what would apply without an override. `leaderless` counts the partitions that nobody leads right now.
    `topic_id` tells one topic from a later one of the same name ("" from brokers before Kafka 2.8).
    """

    name: str
    partitions: int
    replication: int
    overrides: Mapping[str, str] | None = field(default_factory=dict)
    defaults: Mapping[str, str] = field(default_factory=dict)
    leaderless: int = 0
    topic_id: str = ""
    internal: bool = False

    @property
    def record_limit(self) -> int | None:
        """`max.message.bytes` as it applies (bytes), whoever set it; None when the cluster does not let us see it."""
        text = (self.overrides or {}).get("max.message.bytes") or self.defaults.get("max.message.bytes", "")
        return int(text) if text.isdecimal() else None


@dataclass(frozen=True, slots=True)
class ClusterState:
    """What the cluster says about the topics it was asked about: a name in neither mapping does not exist.

    `unknown` are topics that it would not describe, with its reason: never take one of them for absent. `forbidden`
    are those among them for which a permission is missing.
    """

    topics: Mapping[str, TopicState] = field(default_factory=dict)
    unknown: Mapping[str, str] = field(default_factory=dict)
    forbidden: frozenset[str] = frozenset()


#: Where claims are kept on the cluster.
CLAIMS_TOPIC = "kpipe.claims"


class Claim(NamedTuple):
    """One pipeline's word about one topic, as it stands on the cluster.

    `owner` is the pipeline's name with its namespace. `created`: it made this topic (the one with this `topic_id`).
    `declared`: its file still names it. `configs` are the keys that it set.
    """

    topic: str
    owner: str
    topic_id: str
    created: bool
    declared: bool
    configs: tuple[str, ...] = ()


class GroupUse(NamedTuple):
    """A consumer group on one topic: whether it has members that read it, and the records it has not read yet."""

    group: str
    active: bool
    lag: int


class TopicUse(NamedTuple):
    """Who reads a topic, and how many records a change of it puts at stake.

    `groups` is None where the cluster does not say; `records` is None where a partition did not answer. `hidden`: there
    may be groups besides that this user may not see.
    """

    groups: tuple[GroupUse, ...] | None
    records: int | None
    hidden: bool = False


class Permission(NamedTuple):
    """`READ` on the `topic` `orders`, as an ACL has it."""

    operation: str
    kind: str
    name: str
    #: On everything of this kind whose name begins so.
    prefixed: bool = False

    def __str__(self) -> str:
        kind = f"{self.kind}s that begin with" if self.prefixed else self.kind
        return f"{self.operation} on the {kind} {self.name}".rstrip()


class Refusal(NamedTuple):
    """Why the broker did not do one item of a request: Kafka's error name and the broker's own words."""

    code: str
    message: str


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

    @property
    def place(self) -> str:
        """`file:line:column`, as far as it is known."""
        if not self.line:
            return self.file
        return f"{self.file}:{self.line}" + (f":{self.column}" if self.column else "")

    def text(self) -> str:
        """`file:line:column: error: message`, and its hint on a line of its own. Safe to show on a terminal."""
        text = f"{safe(self.place)}: {self.severity}: {safe(self.message)}"
        return text + (f"\n  hint: {safe(self.hint)}" if self.hint else "")

    def as_json(self) -> dict[str, object]:
        """The finding in the shape of docs/json.md."""
        names = ("severity", "code", "file", "line", "column", "message", "hint")
        return {name: getattr(self, name) for name in names}

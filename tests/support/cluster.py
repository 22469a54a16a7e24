"""A cluster in memory that answers like `ClusterAdmin`: for provisioning's pure tests, never for Kafka's behaviour."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from orchestrator.records import Claim, ClusterState, Refusal, TopicPartition, TopicSpec, TopicState, TopicUse

#: What a broker applies to a topic that sets nothing (Apache Kafka's defaults).
DEFAULTS = {
    "cleanup.policy": "delete",
    "max.message.bytes": "1048588",
    "min.insync.replicas": "1",
    "retention.bytes": "-1",
    "retention.ms": "604800000",
    "unclean.leader.election.enable": "false",
}
Results = dict[str, Refusal | None]


class Info(NamedTuple):
    cluster_id: str


class FakeClaims:
    """Claims in memory; `forbidden` is why they cannot be read."""

    def __init__(self, *claims: Claim, forbidden: str = "") -> None:
        self.all = {(claim.topic, claim.owner): claim for claim in claims}
        self.forbidden = forbidden
        self.writes = 0

    def read(self) -> tuple[dict[tuple[str, str], Claim], str]:
        return ({}, self.forbidden) if self.forbidden else (dict(self.all), "")

    def write(self, claims: Mapping[tuple[str, str], Claim | None]) -> str:
        self.writes += 1
        self.all |= {key: claim for key, claim in claims.items() if claim is not None}
        for key in [key for key, claim in claims.items() if claim is None]:
            self.all.pop(key, None)
        return ""


class FakeCluster:
    """`refuse` maps a topic to what its writes are refused with, `late` does so only for real writes.

    `before` runs before every write (a race).
    """

    def __init__(
        self,
        topics: Sequence[TopicState] = (),
        *,
        unknown: Mapping[str, str] | None = None,
        refuse: Mapping[str, Refusal] | None = None,
        late: Mapping[str, Refusal] | None = None,
        before: Callable[[FakeCluster], None] | None = None,
    ) -> None:
        self.topics = {topic.name: topic for topic in topics}
        self.unknown = dict(unknown or {})
        self.refuse = dict(refuse or {})
        self.late = {**(late or {}), **self.refuse}
        self.before = before
        self.writes: list[tuple[str, tuple[str, ...]]] = []
        self.looks = 0
        self.silent: set[TopicPartition] = set()
        self.uses: dict[str, TopicUse] = {}
        self.asked: list[tuple[str, tuple[str, ...]]] = []
        self.id = "cluster-1"
        #: The broker's `message.max.bytes`.
        self.limit: int | None = int(DEFAULTS["max.message.bytes"])
        self._made = 0

    def cluster(self) -> Info:
        return Info(self.id)

    def record_limit(self) -> int | None:
        self.looks += 1
        return self.limit

    def use(self, partitions: Mapping[str, int], kept_from: Mapping[str, int]) -> dict[str, TopicUse]:
        return {name: self.uses.get(name, TopicUse((), 0)) for name in partitions}

    def describe(self, names: Sequence[str]) -> ClusterState:
        self.looks += 1
        known = {n: self.topics[n] for n in names if n in self.topics and n not in self.unknown}
        return ClusterState(known, {n: self.unknown[n] for n in names if n in self.unknown})

    def serving(self, partitions: Sequence[TopicPartition]) -> Sequence[TopicPartition]:
        return [where for where in partitions if where not in self.silent]

    def create(self, topics: Sequence[TopicSpec], *, validate: bool = False) -> Results:
        names = [topic.name for topic in topics]
        if validate:
            return self._validate("create", names)
        self._note("create", names)
        return {topic.name: self._create(topic) for topic in topics}

    def grow(self, totals: Mapping[str, int], *, validate: bool = False) -> Results:
        if validate:
            return self._validate("grow", list(totals))
        self._note("grow", list(totals))
        return {name: self._grow(name, total) for name, total in totals.items()}

    def alter(self, configs: Mapping[str, Mapping[str, str | None]], *, validate: bool = False) -> Results:
        if validate:
            return self._validate("alter", list(configs))
        self._note("alter", list(configs))
        return {name: self._alter(name, values) for name, values in configs.items()}

    def delete(self, names: Sequence[str]) -> Results:
        self._note("delete", list(names))
        return {name: self.late.get(name) or self._delete(name) for name in names}

    def _validate(self, what: str, names: list[str]) -> Results:
        self.asked.append((what, tuple(names)))
        return {name: self.refuse.get(name) for name in names}

    def _delete(self, name: str) -> None:
        del self.topics[name]

    def _note(self, what: str, names: list[str]) -> None:
        self.writes.append((what, tuple(names)))
        if self.before is not None:
            self.before(self)

    def _create(self, topic: TopicSpec) -> Refusal | None:
        if topic.name in self.late:
            return self.late[topic.name]
        if topic.name in self.topics:
            return Refusal("TOPIC_ALREADY_EXISTS", f"Topic '{topic.name}' already exists.")
        self._made += 1
        self.topics[topic.name] = replace(state(topic), topic_id=f"made-{self._made}")
        return None

    def _grow(self, name: str, total: int) -> Refusal | None:
        if name in self.late:
            return self.late[name]
        old = self.topics[name]
        if total <= old.partitions:
            return Refusal("INVALID_PARTITIONS", f"The topic {name} currently has {old.partitions} partition(s)")
        self.topics[name] = replace(old, partitions=total)
        return None

    def _alter(self, name: str, values: Mapping[str, str | None]) -> Refusal | None:
        if name in self.late:
            return self.late[name]
        old = self.topics[name]
        changed = {**(old.overrides or {}), **values}
        self.topics[name] = replace(old, overrides={key: text for key, text in changed.items() if text is not None})
        return None


def state(topic: TopicSpec) -> TopicState:
    """The topic right after it was created as `topic` says."""
    return TopicState(topic.name, topic.partitions, topic.replication, dict(topic.configs), DEFAULTS)

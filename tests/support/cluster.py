"""A cluster in memory that answers like `ClusterAdmin`: for provisioning's pure tests, never for Kafka's behaviour."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from orchestrator.records import ClusterState, Refusal, TopicPartition, TopicSpec, TopicState

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


class FakeCluster:
    """`refuse` maps a topic to what its writes are refused with; `before` runs before every write (a race)."""

    def __init__(
        self,
        topics: Sequence[TopicState] = (),
        *,
        unknown: Mapping[str, str] | None = None,
        refuse: Mapping[str, Refusal] | None = None,
        before: Callable[[FakeCluster], None] | None = None,
    ) -> None:
        self.topics = {topic.name: topic for topic in topics}
        self.unknown = dict(unknown or {})
        self.refuse = dict(refuse or {})
        self.before = before
        self.writes: list[tuple[str, tuple[str, ...]]] = []
        self.looks = 0
        self.silent: set[TopicPartition] = set()

    def describe(self, names: Sequence[str]) -> ClusterState:
        self.looks += 1
        known = {n: self.topics[n] for n in names if n in self.topics and n not in self.unknown}
        return ClusterState(known, {n: self.unknown[n] for n in names if n in self.unknown})

    def serving(self, partitions: Sequence[TopicPartition]) -> Sequence[TopicPartition]:
        return [where for where in partitions if where not in self.silent]

    def create(self, topics: Sequence[TopicSpec]) -> Results:
        self._note("create", [topic.name for topic in topics])
        return {topic.name: self._create(topic) for topic in topics}

    def grow(self, totals: Mapping[str, int]) -> Results:
        self._note("grow", list(totals))
        return {name: self._grow(name, total) for name, total in totals.items()}

    def alter(self, configs: Mapping[str, Mapping[str, str]]) -> Results:
        self._note("alter", list(configs))
        return {name: self._alter(name, values) for name, values in configs.items()}

    def _note(self, what: str, names: Sequence[str]) -> None:
        self.writes.append((what, tuple(names)))
        if self.before is not None:
            self.before(self)

    def _create(self, topic: TopicSpec) -> Refusal | None:
        if topic.name in self.refuse:
            return self.refuse[topic.name]
        if topic.name in self.topics:
            return Refusal("TOPIC_ALREADY_EXISTS", f"Topic '{topic.name}' already exists.")
        self.topics[topic.name] = state(topic)
        return None

    def _grow(self, name: str, total: int) -> Refusal | None:
        if name in self.refuse:
            return self.refuse[name]
        old = self.topics[name]
        if total <= old.partitions:
            return Refusal("INVALID_PARTITIONS", f"The topic {name} currently has {old.partitions} partition(s)")
        self.topics[name] = TopicState(name, total, old.replication, old.overrides, old.defaults)
        return None

    def _alter(self, name: str, values: Mapping[str, str]) -> Refusal | None:
        if name in self.refuse:
            return self.refuse[name]
        old = self.topics[name]
        overrides = {**(old.overrides or {}), **values}
        self.topics[name] = TopicState(name, old.partitions, old.replication, overrides, old.defaults)
        return None


def state(topic: TopicSpec) -> TopicState:
    """The topic right after it was created as `topic` says."""
    return TopicState(topic.name, topic.partitions, topic.replication, dict(topic.configs), DEFAULTS)

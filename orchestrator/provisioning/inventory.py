"""The pipeline's topics as they are on the cluster, next to what was declared."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from orchestrator.config.model import Topic
from orchestrator.provisioning.configs import typed
from orchestrator.provisioning.plan import plan
from orchestrator.provisioning.render import human
from orchestrator.records import ClusterState, TopicSpec

#: `in sync`: as declared. `drift`: `kpipe topics sync` would change it. `absent`: it would create it. `unknown`: the
#: cluster does not let us see all of it.
Status = Literal["in sync", "drift", "absent", "unknown"]


@dataclass(frozen=True, slots=True)
class Row:
    """One declared topic. What the cluster does not say is None; an absent topic has its declared values.

    `retention_ms` is -1 where records are kept for ever. `records` counts offsets: what compaction removed and
    the markers of transactions are in it.
    """

    name: str
    kafka_name: str
    partitions: int | None
    replication: int | None
    cleanup: str | None
    retention_ms: int | None
    records: int | None
    state: Status

    @property
    def retention(self) -> str | None:
        """For people; a topic that is compacted only keeps every key's last record, whatever its retention."""
        if self.cleanup is not None and "delete" not in self.cleanup:
            return "last per key"
        return None if self.retention_ms is None else human("retention.ms", self.retention_ms)

    def as_json(self) -> dict[str, object]:
        """The shape of docs/json.md."""
        return {
            "name": self.name,
            "kafka_name": self.kafka_name,
            "partitions": self.partitions,
            "replication": self.replication,
            "cleanup": self.cleanup,
            "retention_ms": self.retention_ms,
            "records": self.records,
            "state": self.state,
        }


def inventory(topics: Iterable[Topic], actual: ClusterState, records: Mapping[str, int | None]) -> tuple[Row, ...]:
    """A row for each declared topic, in order. `records` is by the cluster's name."""
    return tuple(_row(topic, actual, records.get(topic.kafka_name)) for topic in topics)


def _row(topic: Topic, actual: ClusterState, records: int | None) -> Row:
    spec = TopicSpec(topic.kafka_name, topic.partitions, topic.replication, topic.configs)
    status = _status(spec, actual)
    if spec.name in actual.unknown:
        return Row(topic.name, spec.name, None, None, None, None, None, status)
    state = actual.topics.get(spec.name)
    if state is None:
        return _filled(topic, topic.partitions, topic.replication, topic.configs, 0, status)
    configs = {} if state.overrides is None else {**state.defaults, **state.overrides}
    return _filled(topic, state.partitions, state.replication, configs, records, status)


def _filled(
    topic: Topic,
    partitions: int,
    replication: int,
    configs: Mapping[str, str],
    records: int | None,
    status: Status,
) -> Row:
    retention = typed("retention.ms", configs.get("retention.ms", ""))
    return Row(
        topic.name,
        topic.kafka_name,
        partitions,
        replication,
        configs.get("cleanup.policy"),
        retention if isinstance(retention, int) else None,
        records,
        status,
    )


def _status(spec: TopicSpec, actual: ClusterState) -> Status:
    made = plan([spec], actual)
    if made.of("create"):
        return "absent"
    if made.changes:
        return "drift"
    return "unknown" if made.unknown else "in sync"

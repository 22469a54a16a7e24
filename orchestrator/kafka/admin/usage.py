"""Who reads topics and what is in them: asked only when a change of a topic can hurt somebody.

A request for every consumer group of the cluster (Kafka's OffsetFetch takes one group in librdkafka's API), one after
the other. The broker does not even list a group that this user may not describe: whether there may be such groups is
asked as well.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping

from confluent_kafka import ConsumerGroupState, KafkaError

from orchestrator.errors import BrokerError
from orchestrator.kafka.admin.committed import committed
from orchestrator.kafka.admin.offsets import OffsetAdmin, Offsets
from orchestrator.kafka.errors import REFUSED
from orchestrator.records import GroupUse, TopicPartition, TopicUse

_WITHOUT_MEMBERS = frozenset({ConsumerGroupState.EMPTY, ConsumerGroupState.DEAD})


class UsageAdmin(OffsetAdmin):
    """Questions about consumer groups."""

    def use(self, partitions: Mapping[str, int], kept_from: Mapping[str, int]) -> dict[str, TopicUse]:
        """`partitions`: topic -> how many it has. Everything in a topic is at stake, unless `kept_from` (topic ->
        milliseconds since the epoch) says that only older records are."""
        where = [TopicPartition(topic, number) for topic, count in partitions.items() for number in range(count)]
        ends = self.offsets(where)
        kept = self.offsets_at({p: kept_from[p.topic] for p in where if p.topic in kept_from})
        groups = self._groups(partitions, ends)
        hidden = not self._sees_all_groups()
        return {
            topic: TopicUse(
                None if groups is None else tuple(groups[topic]),
                _at_stake([TopicPartition(topic, number) for number in range(count)], ends, kept),
                hidden,
            )
            for topic, count in partitions.items()
        }

    def _groups(
        self, topics: Mapping[str, int], ends: Mapping[TopicPartition, Offsets]
    ) -> dict[str, list[GroupUse]] | None:
        """The groups of each topic; None when the cluster does not tell."""
        listed = self._all({"": self._client.list_consumer_groups(request_timeout=self._timeout)})[""]
        if isinstance(listed, KafkaError) or listed.errors:
            return None
        names = sorted(group.group_id for group in listed.valid)
        busy = [group.group_id for group in listed.valid if group.state not in _WITHOUT_MEMBERS]
        reading = self._reading(busy)
        found: dict[str, list[GroupUse]] = {topic: [] for topic in topics}
        where = [TopicPartition(topic, number) for topic, count in topics.items() for number in range(count)]
        for name, offsets in self._committed(names, where):
            if offsets is None:
                return None
            lags: dict[str, int] = {}
            for tp, offset in offsets.items():
                left = ends[tp].end - max(offset, ends[tp].begin) if tp in ends else 0
                lags[tp.topic] = lags.get(tp.topic, 0) + max(0, left)
            for topic in topics:
                active = topic in reading.get(name, ())
                if active or topic in lags:
                    found[topic].append(GroupUse(name, active, lags.get(topic, 0)))
        return found

    def _sees_all_groups(self) -> bool:
        """Whether this user may list every group: with DESCRIBE on the cluster, or on whatever group there may be."""
        asked = self._client.describe_cluster(include_authorized_operations=True, request_timeout=self._timeout)
        cluster = self._all({"": asked})[""]
        # Nothing at all for somebody without DESCRIBE, as from a broker that does not know the question.
        allowed = () if isinstance(cluster, KafkaError) else cluster.authorized_operations or ()
        if any(operation.name in ("DESCRIBE", "ALL") for operation in allowed):
            return True
        nobodys = uuid.uuid4().hex
        asked = self._client.describe_consumer_groups([nobodys], request_timeout=self._timeout)[nobodys]
        answer = self._all({"": asked})[""]
        return not (isinstance(answer, KafkaError) and answer.code() in REFUSED)

    def _reading(self, groups: list[str]) -> dict[str, frozenset[str]]:
        """The topics that each group's members have partitions of."""
        if not groups:
            return {}
        futures = self._client.describe_consumer_groups(groups, request_timeout=self._timeout)
        return {
            name: frozenset(p.topic for member in answer.members for p in member.assignment.topic_partitions)
            for name, answer in self._all(futures).items()
            if not isinstance(answer, KafkaError)
        }

    def _committed(
        self, groups: list[str], where: list[TopicPartition]
    ) -> Iterator[tuple[str, dict[TopicPartition, int] | None]]:
        """Each group's offsets; None for one whose offsets may not be read."""
        for name in groups:
            try:
                yield name, committed(self._properties, name, where)
            except BrokerError:
                yield name, None


def _at_stake(
    partitions: list[TopicPartition], ends: Mapping[TopicPartition, Offsets], kept: Mapping[TopicPartition, int]
) -> int | None:
    if any(where not in ends for where in partitions):
        return None
    total = 0
    for where in partitions:
        begin, end = ends[where]
        total += (end if (until := kept.get(where, end)) < 0 else until) - begin
    return total

"""Who reads topics and what is in them: asked only when a change of a topic can hurt somebody.

A request for every consumer group of the cluster (Kafka's OffsetFetch takes one group in librdkafka's API), sent
together. A group that we may not describe is not listed at all by the broker.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from confluent_kafka import ConsumerGroupState, ConsumerGroupTopicPartitions, KafkaError

from orchestrator.kafka.offsets import OffsetAdmin, Offsets
from orchestrator.records import GroupUse, TopicPartition, TopicUse

_AT_ONCE = 200
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
        return {
            topic: TopicUse(
                None if groups is None else tuple(groups[topic]),
                _at_stake([TopicPartition(topic, number) for number in range(count)], ends, kept),
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
        for name, committed in self._committed(names):
            if committed is None:
                return None
            lags: dict[str, int] = {}
            for where, offset in committed.items():
                if where.topic in topics and offset >= 0:
                    left = ends[where].end - max(offset, ends[where].begin) if where in ends else 0
                    lags[where.topic] = lags.get(where.topic, 0) + max(0, left)
            for topic in topics:
                active = topic in reading.get(name, ())
                if active or topic in lags:
                    found[topic].append(GroupUse(name, active, lags.get(topic, 0)))
        return found

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

    def _committed(self, groups: list[str]) -> Iterator[tuple[str, dict[TopicPartition, int] | None]]:
        """Each group's offsets; None for one whose offsets may not be read."""
        for first in range(0, len(groups), _AT_ONCE):
            futures: dict[str, Any] = {}
            for name in groups[first : first + _AT_ONCE]:
                asked = [ConsumerGroupTopicPartitions(name)]
                futures |= self._client.list_consumer_group_offsets(asked, request_timeout=self._timeout)
            for name, answer in self._all(futures).items():
                if not isinstance(answer, KafkaError):
                    yield name, {TopicPartition(p.topic, p.partition): p.offset for p in answer.topic_partitions}
                elif answer.code() != KafkaError.GROUP_ID_NOT_FOUND:  # which means it ended meanwhile
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

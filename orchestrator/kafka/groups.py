"""What consumer groups have committed, asked from outside: no group is joined."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException
from confluent_kafka.admin import AdminClient

from orchestrator.kafka.trouble import cannot_use, wrong_property
from orchestrator.records import TopicPartition


class GroupOffsets:
    """One connection. `timeout` (seconds) bounds each question."""

    def __init__(self, properties: Mapping[str, Any], *, timeout: float = 6.0) -> None:
        """`properties` come from `client_properties(settings, "admin", …)`. Raises UsageError for a wrong one."""
        self._bootstrap = str(properties["bootstrap.servers"])
        self._timeout = timeout
        try:
            self._client = AdminClient(dict(properties))
        except (KafkaException, TypeError, ValueError) as problem:
            raise wrong_property(problem) from problem

    def committed(self, groups: Sequence[str]) -> dict[str, dict[TopicPartition, int]]:
        """The committed offsets of each group; none for a group that does not exist. Raises BrokerError."""
        # One request takes one group.
        futures = {
            group: self._client.list_consumer_group_offsets(
                [ConsumerGroupTopicPartitions(group)], request_timeout=self._timeout
            )[group]
            for group in groups
        }
        return {group: self._offsets(future) for group, future in futures.items()}

    def _offsets(self, future: Any) -> dict[TopicPartition, int]:
        try:
            found = future.result(self._timeout + 1)
        except KafkaException as problem:
            raise cannot_use(self._bootstrap, problem.args[0]) from problem
        for partition in found.topic_partitions:
            if partition.error is not None:
                raise cannot_use(self._bootstrap, partition.error)
        return {TopicPartition(p.topic, p.partition): p.offset for p in found.topic_partitions if p.offset >= 0}

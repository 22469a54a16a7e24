"""Where partitions begin and end: one request to each broker, however many partitions there are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from confluent_kafka import KafkaError
from confluent_kafka import TopicPartition as RdTopicPartition
from confluent_kafka.admin import OffsetSpec

from orchestrator.kafka.admin.admin_client import Asking
from orchestrator.records import TopicPartition


class Offsets(NamedTuple):
    """A partition's first offset and the one its next record will get."""

    begin: int
    end: int


class OffsetAdmin(Asking):
    """Questions about offsets."""

    def serving(self, partitions: Iterable[TopicPartition]) -> frozenset[TopicPartition]:
        """Those whose leader answers for them: one request to each broker.

        A new partition has a leader in the metadata before that broker has made it one, and until then it
        answers NOT_LEADER_OR_FOLLOWER.
        """
        latest = OffsetSpec.latest()
        return frozenset(self._list_offsets(dict.fromkeys(partitions, latest)))

    def offsets(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, Offsets]:
        """First and next offsets; a partition whose leader does not answer is left out."""
        begin = self._list_offsets(dict.fromkeys(partitions, OffsetSpec.earliest()))
        end = self._list_offsets(dict.fromkeys(partitions, OffsetSpec.latest()))
        return {where: Offsets(begin[where], end[where]) for where in begin.keys() & end.keys()}

    def offsets_at(self, times: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
        """The offset of the first record at or after a time (milliseconds since the epoch); -1 where there is none."""
        return self._list_offsets({where: OffsetSpec.for_timestamp(at) for where, at in times.items()})

    def _list_offsets(self, asked: Mapping[TopicPartition, OffsetSpec]) -> dict[TopicPartition, int]:
        wanted = {RdTopicPartition(where.topic, where.partition): at for where, at in asked.items()}
        if not wanted:
            return {}
        futures = self._client.list_offsets(wanted, request_timeout=self._timeout + len(wanted) / 500)
        answers = self._all({TopicPartition(p.topic, p.partition): future for p, future in futures.items()})
        return {where: a.offset for where, a in answers.items() if not isinstance(a, KafkaError)}

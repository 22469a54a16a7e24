"""Where newly assigned partitions start: asks Kafka what `delivery/offsets/start.py` has to know.

Every question is asked from within the assignment's callback, before anything of these partitions is read.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple, Protocol

from orchestrator.config.model import Handler
from orchestrator.delivery.offsets.checkpoint import Birth, read_checkpoint
from orchestrator.delivery.offsets.start import (
    Group,
    Log,
    Start,
    birth_of,
    is_remade,
    start_from,
    start_without_commit,
)
from orchestrator.kafka.consumer import Committed
from orchestrator.records import TopicPartition
from orchestrator.worker.consume.inputs import Input
from orchestrator.worker.consume.topic_identity import TopicIdentities


class Member(Protocol):
    """What is asked of the group's member (`kafka.consumer.GroupConsumer`)."""

    def ends_of(self, tp: TopicPartition, /) -> tuple[int, int]: ...

    def end_epochs(self, partitions: Sequence[TopicPartition], /) -> dict[TopicPartition, int]: ...

    def partitions(self) -> list[TopicPartition]: ...

    def committed(self, partitions: Sequence[TopicPartition], /) -> list[Committed]: ...


class _Latest(NamedTuple):
    """With `from: latest`: what the group's commits say of it, and its birth, which is now if it has none."""

    group: Group
    birth: Birth | None


class StartOffsets:
    """For the thread that polls. Raises BrokerError when the cluster does not answer."""

    def __init__(self, handler: Handler, sources: Mapping[str, Input], topics: TopicIdentities, member: Member) -> None:
        self._from_latest = handler.start_from == "latest"
        self._sources = sources
        self._topics = topics
        self._member = member

    def of(self, committed: Sequence[Committed]) -> list[Start]:
        """The starts of these partitions, in order."""
        answered = self._topics.look()
        latest = self._latest(committed)
        # Since such a commit there was another leader, which may not have had all of the log.
        epochs = self._member.end_epochs([one.tp for one in committed if one.epoch >= 0])
        led_anew = {one.tp for one in committed if epochs.get(one.tp, -1) > one.epoch >= 0}
        starts = []
        for one in committed:
            if one.offset is not None:
                starts.append(self._with_commit(one, one.offset, led_anew=one.tp in led_anew))
            else:
                # Whether a topic that was seen before is the same is not known now: its events may be new ones.
                doubtful = not answered and bool(self._topics.first_id_of(one.tp.topic))
                starts.append(self._without_commit(one.tp, None if doubtful else latest))
        return starts

    def _with_commit(self, one: Committed, offset: int, *, led_anew: bool) -> Start:
        """`led_anew`: the partition's leader has changed since the commit."""
        log = self._log(one.tp)
        committed = read_checkpoint(offset, one.metadata, one.epoch)
        doubtful = offset > log.high or (led_anew and offset > log.low)
        if not doubtful or is_remade(log.topic_id, committed.topic_id):
            return start_from(committed, log)
        return start_from(committed, log, self._topics.parted(one.tp, log.low, min(offset, log.high), one.epoch))

    def _without_commit(self, tp: TopicPartition, latest: _Latest | None) -> Start:
        # Letters that were sent back before anybody looked were sent back to be handled, whatever `from` says.
        if latest is None or self._sources[tp.topic].origins is not None:
            return start_without_commit(self._log(tp))
        start = start_without_commit(self._log(tp), latest=latest.group, now=time.time())
        return start._replace(checkpoint=replace(start.checkpoint, birth=latest.birth))

    def _log(self, tp: TopicPartition) -> Log:
        low, high = self._member.ends_of(tp)
        return Log(tp, low, high, self._topics.id_of(tp.topic), self._topics.first_id_of(tp.topic))

    def _latest(self, committed: Sequence[Committed]) -> _Latest | None:
        """None where no partition needs it."""
        if not self._from_latest or all(one.offset is not None for one in committed):
            return None
        there = [tp for tp in self._member.partitions() if self._sources[tp.topic].origins is None]
        made = [one for one in self._member.committed(there) if one.offset is not None]
        if not made:
            return _Latest(Group(), birth_of(Counter(tp.topic for tp in there), time.time()))
        births = [b for one in made if (b := read_checkpoint(one.offset or 0, one.metadata).birth) is not None]
        return _Latest(Group(len(made), births), min(births, key=lambda birth: birth.at, default=None))

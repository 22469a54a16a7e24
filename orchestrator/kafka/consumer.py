"""A member of a consumer group: polls batches, tells of assignments, pauses, commits explicit offsets.

Rules (PITFALLS, "Commit, pause, rebalance"; DESIGN section 5, steps 1, 2 and 12):
- Offsets are never committed or stored by librdkafka; `commit` names them.
- Every call is made from the one thread that polls; the callbacks of `AssignmentListener` run in `poll` and `close`.
  confluent-kafka 2.16 would let another thread's call wait until a poll ends, and poll again before it.
- An offset that no longer exists never moves silently: it is reported, and the caller says where to go on.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from operator import itemgetter
from typing import Any, NamedTuple, Protocol

from confluent_kafka import OFFSET_END, OFFSET_INVALID, Consumer, KafkaError, KafkaException, Message
from confluent_kafka import TopicPartition as RdPartition

from orchestrator.errors import BrokerError, ForbiddenError
from orchestrator.kafka.checked import checked
from orchestrator.kafka.errors import on_topics
from orchestrator.kafka.header_names import headers_of
from orchestrator.outside import masked
from orchestrator.records import Permission, Record, TopicPartition

log = logging.getLogger("kpipe.consumer")

_ABSENT = frozenset({KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION})
#: Answers about committed offsets and the ends of a log are waited for so long (seconds), then asked again.
_ASK_TIMEOUT = 5.0
#: A rebalance that began is over within a heartbeat's interval (3 s) and a little more.
_CALM_SECONDS = 4.0
#: After so many seconds without an answer the assignment is given up: the worker ends and its successor asks again.
_ASK_DEADLINE = 30.0


class Committed(NamedTuple):
    """A group's committed offset of one partition (None: there is none), its metadata and leader epoch (-1: none)."""

    tp: TopicPartition
    offset: int | None
    metadata: str | None
    epoch: int = -1


class CommitRequest(NamedTuple):
    """An offset to be committed; `epoch` is the leader epoch of the record before it or of a later one, -1 for none."""

    tp: TopicPartition
    offset: int
    metadata: str
    epoch: int = -1

    def as_rd(self) -> RdPartition:
        if self.epoch < 0:
            return RdPartition(self.tp.topic, self.tp.partition, self.offset, self.metadata)
        return RdPartition(self.tp.topic, self.tp.partition, self.offset, self.metadata, self.epoch)


class Membership(NamedTuple):
    """Who this consumer is in its group right now, for the producer of a transaction."""

    group: Any


class EndOfLog(NamedTuple):
    """The poll reached the end of a partition: every record before `offset` has been delivered."""

    tp: TopicPartition
    offset: int


class OffsetLost(NamedTuple):
    """The offset to read next does not exist: retention removed it, the topic was made anew, or the log was cut.

    `parted`: the log has other records than those that were read before that offset (KIP-320).
    """

    tp: TopicPartition
    message: str
    parted: bool = False


class Trouble(NamedTuple):
    """An error that librdkafka goes on from by itself (an unknown topic, a broker away)."""

    code: str
    message: str


class Polled(NamedTuple):
    """What one poll brought, records in order of arrival per partition."""

    records: list[Record]
    ends: list[EndOfLog]
    lost: list[OffsetLost]
    troubles: list[Trouble]


class AssignmentListener(Protocol):
    """What a group member does when its partitions change."""

    def assigned(self, committed: Sequence[Committed]) -> Mapping[TopicPartition, int]:
        """New partitions came: where to start reading each."""
        ...

    def revoked(self, partitions: Sequence[TopicPartition]) -> None:
        """The group takes partitions away: the last moment to commit for them."""
        ...

    def lost(self, partitions: Sequence[TopicPartition]) -> None:
        """The group took partitions away long ago: committing for them is forbidden."""
        ...


class GroupConsumer:
    """One member of `properties["group.id"]`, subscribed to `topics` (the cluster's names).

    Those that are `optional` need not exist: nothing is said about them until they do. librdkafka looks for them
    every `topic.metadata.refresh.interval.ms`.
    """

    def __init__(
        self,
        properties: Mapping[str, Any],
        topics: Sequence[str],
        assignments: AssignmentListener,
        optional: Collection[str] = (),
    ) -> None:
        self._assignments = assignments
        self._optional = frozenset(optional)
        #: An asynchronous commit is on its way. A second one beside it could be overtaken by it when it is repeated.
        self.committing = False
        self._closing = False
        self._topics = list(topics)
        #: When the group last told of a change, and how often it gave an assignment.
        self._told_at = time.monotonic()
        self.assignments_told = 0
        self._commit_failed: Callable[[Sequence[TopicPartition], str], None] = lambda tps, why: None
        self._properties = properties
        self._group = str(properties.get("group.id", ""))
        strategy = str(properties.get("partition.assignment.strategy", "cooperative-sticky"))
        self._incremental = "cooperative" in strategy or properties.get("group.protocol") == "consumer"
        try:
            self._rd = Consumer({**properties, "on_commit": self._on_commit})
        except KafkaException as e:
            raise BrokerError(
                f"the Kafka consumer refused its settings: {self._text(e.args[0])}",
                "see `kafka:` in the pipeline file",
            ) from e
        self._rd.subscribe(list(topics), on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost)

    def _text(self, error: KafkaError) -> str:
        """What librdkafka says, without what the pipeline file has from outside."""
        return masked(error.str(), self._properties.values())

    def on_commit_failure(self, told: Callable[[Sequence[TopicPartition], str], None]) -> None:
        """Call `told` from within `poll` with the partitions of an asynchronous commit that failed, and why."""
        self._commit_failed = told

    def poll(self, most: int, timeout: float) -> Polled:
        """Wait up to `timeout` seconds for the first message, then take what is there, at most `most`.

        Filling a batch by waiting (`consume(most, timeout)`) would delay every quiet topic by the timeout.
        """
        first = self._rd.poll(timeout)
        polled = Polled([], [], [], [])
        if first is None:
            return polled
        messages = [first, *self._rd.consume(most - 1, 0)] if most > 1 else [first]
        if any(map(Message.error, messages)):
            messages = [m for m in messages if not self._is_error(m, polled)]
        polled.records.extend(_records(messages))
        return polled

    def _is_error(self, message: Message, polled: Polled) -> bool:
        """Whether `message` is no record but something to be told, which is then in `polled`."""
        error = message.error()
        if error is None:
            return False
        if error.code() not in _ABSENT or message.topic() not in self._optional:
            _sort_error(message, polled, self._group, self._properties)
        return True

    def pause(self, partitions: Sequence[TopicPartition]) -> None:
        if partitions:
            self._rd.pause(_rd(partitions))

    def resume(self, partitions: Sequence[TopicPartition]) -> None:
        if partitions:
            self._rd.resume(_rd(partitions))

    def go_on_at(self, tp: TopicPartition, offset: int) -> None:
        """Read `tp` from `offset` on, after its offset was lost. A retry never comes here (librdkafka #3471).

        librdkafka stops a partition whose offset it could not reset; a seek finds it in no state for that, so it is
        assigned anew.
        """
        partition = RdPartition(tp.topic, tp.partition, offset)
        try:
            checked(self._rd.seek, partition)
        except KafkaException as e:
            log.info("%s[%d] is assigned anew at %d: %s", *tp, offset, self._text(e.args[0]))
            if self._incremental:
                self._rd.incremental_unassign([partition])
                self._rd.incremental_assign([partition])
            else:
                others = [p for p in self._rd.assignment() if (p.topic, p.partition) != tp]
                self._rd.assign([*self._rd.position(others), partition])

    def ends_of(self, tp: TopicPartition) -> tuple[int, int]:
        """The first and the next offset of the partition's log, asked of its leader; retried for 30 s."""
        ends = self._ask(lambda: self._rd.get_watermark_offsets(RdPartition(*tp), timeout=_ASK_TIMEOUT))
        return int(ends[0]), int(ends[1])

    def known_end(self, tp: TopicPartition) -> int | None:
        """The next offset of the log as the last fetch told it; None before the first fetch. Asks nobody."""
        try:
            _, high = checked(self._rd.get_watermark_offsets, RdPartition(*tp), cached=True)
        except KafkaException:
            return None
        return int(high) if high >= 0 else None

    def committed(self, partitions: Sequence[TopicPartition]) -> list[Committed]:
        """What the group has committed in these partitions, whoever has them; asked again for 30 s."""
        wanted = _rd(partitions)
        if not wanted:
            return []
        answers = self._ask(lambda: [_committed(a) for a in self._rd.committed(wanted, timeout=_ASK_TIMEOUT)])
        return list(answers)

    def epochs(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        """The leader epoch of the newest record that was polled of each, where it is known. Asks nobody."""
        positions = self._rd.position(_rd(partitions)) if partitions else []
        return {
            TopicPartition(p.topic, p.partition): int(p.leader_epoch)
            for p in positions
            if p.error is None and p.leader_epoch is not None
        }

    def end_epochs(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        """The leader epoch at the end of each log, where the cluster says it; asked again for 30 s."""
        wanted = [RdPartition(*tp, OFFSET_END) for tp in partitions]
        if not wanted:
            return {}
        answers = self._ask(lambda: self._rd.offsets_for_times(wanted, timeout=_ASK_TIMEOUT))
        return {
            TopicPartition(a.topic, a.partition): int(a.leader_epoch)
            for a in answers
            if a.error is None and a.leader_epoch is not None
        }

    def commit(self, requests: Sequence[CommitRequest], *, wait: bool) -> None:
        """Commit exactly these offsets. Without `wait` a failure is told to `on_commit_failure` in a later poll.

        Raises BrokerError when waiting and the group refuses (a rebalance went past us: what was settled since the
        last commit will be delivered again).
        """
        if not requests:
            return
        offsets = [request.as_rd() for request in requests]
        try:
            if not wait:
                self.committing = True
                checked(self._rd.commit, offsets=offsets, asynchronous=True)
                return
            answers = checked(self._rd.commit, offsets=offsets, asynchronous=False)
        except KafkaException as e:
            self.committing = False
            if wait:
                raise BrokerError(f"the commit was refused: {self._text(e.args[0])}") from e
            self._commit_failed([r.tp for r in requests], self._text(e.args[0]))
            return
        refused = [a for a in answers if a.error is not None]
        if refused:
            raise BrokerError(f"the commit was refused: {refused[0].error}")

    def membership(self) -> Membership | None:
        """This member and the generation of its group; None after `close`."""
        try:
            return Membership(checked(self._rd.consumer_group_metadata))
        except RuntimeError:
            return None

    def turbulent(self, told: int) -> bool:
        """Whether a JoinGroup of ours may be on its way, `told` assignments having been told when it was asked first.

        A broker reads one request of a connection at a time, and answers a JoinGroup when every member has sent one:
        those who hear of it by their heartbeat do so within its interval. A LeaveGroup behind it is lost with the
        connection, and the group waits for us until our session ends.
        """
        return self.assignments_told == told and time.monotonic() - self._told_at < _CALM_SECONDS

    def alone(self) -> bool:
        """Whether every partition is ours: then nobody else can have called for a rebalance."""
        try:
            there: list[TopicPartition] = checked(self._there)
        except KafkaException:
            return True  # nobody would hear us
        return len(self._rd.assignment()) >= len(there)

    def partitions(self) -> list[TopicPartition]:
        """All partitions of the subscribed topics that exist; asked again for 30 s."""
        there: list[TopicPartition] = self._ask(self._there)
        return there

    def _there(self) -> list[TopicPartition]:
        topics = self._rd.list_topics(timeout=_ASK_TIMEOUT).topics
        return [
            TopicPartition(name, number)
            for name in self._topics
            if name in topics
            for number in topics[name].partitions
        ]

    def close(self) -> None:
        """Leave the group. `revoked` runs first, for all that is still assigned."""
        self._closing = True
        # A cooperative member without partitions closes without a word (librdkafka 2.16), and the group's next
        # rebalance waits for it until its session ends; unsubscribing says it.
        if not self._rd.assignment():
            self._rd.unsubscribe()
        self._rd.close()

    def _on_assign(self, _: Any, partitions: list[RdPartition]) -> None:
        self._told_at = time.monotonic()
        self.assignments_told += 1
        if self._closing:
            # Too late to begin anything, and librdkafka answers no question about offsets any more.
            self._rd.incremental_assign(partitions) if self._incremental else self._rd.assign(partitions)
            return
        tps = _ours(partitions)
        committed: Sequence[Committed] = ()
        if partitions:
            committed = self.committed(tps)
        starts = self._assignments.assigned(committed)
        chosen = [RdPartition(tp.topic, tp.partition, starts[tp]) for tp in tps]
        if self._incremental:
            self._rd.incremental_assign(chosen)
        else:
            self._rd.assign(chosen)
        # A paused state can survive a revoke and reassign: say it anew.
        self.resume(tps)

    def _on_revoke(self, _: Any, partitions: list[RdPartition]) -> None:
        self._told_at = time.monotonic()
        self._assignments.revoked(_ours(partitions))
        self._let_go(partitions)

    def _on_lost(self, _: Any, partitions: list[RdPartition]) -> None:
        self._assignments.lost(_ours(partitions))
        self._let_go(partitions)

    def _let_go(self, partitions: list[RdPartition]) -> None:
        if self._incremental:
            self._rd.incremental_unassign(partitions)
        else:
            self._rd.unassign()

    def _on_commit(self, error: KafkaError | None, partitions: list[RdPartition]) -> None:
        self.committing = False
        failed = [p for p in partitions if p.error is not None]
        if error is not None and error.code() != KafkaError._NO_OFFSET:
            self._commit_failed(_ours(partitions), self._text(error))
        elif failed:
            self._commit_failed(_ours(failed), str(failed[0].error))

    def _ask(self, question: Callable[[], Any]) -> Any:
        """The answer of the cluster, asked again while it is away."""
        deadline = time.monotonic() + _ASK_DEADLINE
        while True:
            try:
                return checked(question)
            except KafkaException as e:
                if time.monotonic() > deadline:
                    raise BrokerError(
                        f"no answer about this group's offsets: {self._text(e.args[0])}",
                        "a transaction that Kafka forgot to end holds them back, too: `kafka-transactions.sh"
                        " find-hanging` finds it, `abort` ends it",
                    ) from e
                log.warning("waiting for the cluster's answer about offsets: %s", self._text(e.args[0]))
                time.sleep(0.2)


#: Not `Record(…)`: that takes twice as long, and every event comes by here.
_new_record: Any = partial(tuple.__new__, Record)
_SECOND: Any = itemgetter(1)
_FIELDS = (Message.topic, Message.partition, Message.offset, Message.timestamp, Message.key, Message.value)


def _records(messages: Sequence[Message]) -> Iterator[Record]:
    """Field by field for all of them: a method called by `map` costs half of what it costs in a loop."""
    topics, partitions, offsets, times, keys, values = (map(field, messages) for field in _FIELDS)
    headers = headers_of(messages)
    return map(_new_record, zip(topics, partitions, offsets, map(_SECOND, times), keys, values, headers, strict=True))


def _sort_error(message: Any, polled: Polled, group: str, properties: Mapping[str, Any]) -> None:
    error = message.error()
    code = error.code()
    tp = TopicPartition(message.topic() or "", message.partition() if message.partition() is not None else -1)
    if code == KafkaError._PARTITION_EOF:
        polled.ends.append(EndOfLog(tp, message.offset()))
        return
    text = masked(error.str(), properties.values())
    if code in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
        polled.lost.append(OffsetLost(tp, text))
    elif code == KafkaError._LOG_TRUNCATION:
        polled.lost.append(OffsetLost(tp, text, parted=True))
    elif code == KafkaError.TOPIC_AUTHORIZATION_FAILED and tp.topic:
        raise ForbiddenError(on_topics("READ", [tp.topic]))
    elif code == KafkaError.GROUP_AUTHORIZATION_FAILED:
        raise ForbiddenError([Permission("READ", "group", group)])
    elif error.fatal():
        raise BrokerError(f"the Kafka consumer failed for good: {text}")
    else:
        polled.troubles.append(Trouble(error.name(), f"{tp.topic}: {text}" if tp.topic else text))


def _committed(answer: RdPartition) -> Committed:
    if answer.error is not None:
        raise KafkaException(answer.error)
    offset = None if answer.offset == OFFSET_INVALID else answer.offset
    epoch = -1 if answer.leader_epoch is None else int(answer.leader_epoch)
    return Committed(TopicPartition(answer.topic, answer.partition), offset, answer.metadata, epoch)


def _rd(partitions: Sequence[TopicPartition]) -> list[RdPartition]:
    return [RdPartition(tp.topic, tp.partition) for tp in partitions]


def _ours(partitions: Sequence[RdPartition]) -> list[TopicPartition]:
    return [TopicPartition(p.topic, p.partition) for p in partitions]

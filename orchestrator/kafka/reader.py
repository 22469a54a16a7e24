"""Reading topics without a consumer group: for looking, not for handling.

Partitions are assigned by hand and nothing is ever committed, so no group sees a rebalance and none is left
behind on the cluster. Positions are offsets per partition; where to start and to stop is worked out first
(`beginnings`, `ends`, `at_time`), then `read` walks from one to the other.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Self, TypeVar

from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, Consumer, KafkaError, KafkaException, Message
from confluent_kafka import TopicPartition as RdPartition

from orchestrator.errors import BrokerError, ForbiddenError
from orchestrator.kafka.checked import checked
from orchestrator.kafka.errors import NOT_TRUSTED, REFUSED, UNREACHABLE, cannot_use, on_topics, wrong_property
from orchestrator.kafka.header_names import headers_of
from orchestrator.kafka.interrupt import uninterrupted
from orchestrator.records import Headers, Record, TopicPartition

T = TypeVar("T")
Offsets = Mapping[TopicPartition, int]
#: The offsets to stop at, by topic and partition.
_Limits = dict[tuple[str, int], int]

#: Seconds that one call into librdkafka may take, so that Ctrl-C is heard: asking the cluster, and waiting for
#: records.
_ASK = 1.0
_WAIT = 0.1
_BATCH = 500
_TUPLE = tuple.__new__
#: No offset is as large as this (they are 64 bits, with a sign).
_NEVER = 2**63

_OWN: Mapping[str, str] = {
    # librdkafka wants a name even where no group is joined.
    "group.id": "kpipe-reader",
    # A start that retention has meanwhile removed goes on at the oldest record there is.
    "auto.offset.reset": "earliest",
    "enable.partition.eof": "true",
    # The end of a partition whose last offsets are transaction markers shows only after this wait (librdkafka
    # reports it when a fetch comes back empty); its default of 500 ms would be felt.
    "fetch.wait.max.ms": "100",
    # A topic that is deleted while it is read is noticed within so long; librdkafka waits 30 s for one that it
    # does not know to appear.
    "topic.metadata.refresh.interval.ms": "5000",
    "topic.metadata.propagation.max.ms": "5000",
    # Bounded memory, however slowly the records are taken. A full queue is looked at again after a moment, where
    # librdkafka would not ask for more during a whole second.
    "queued.max.messages.kbytes": "16384",
    "fetch.queue.backoff.ms": "10",
}
#: No group is used, so being refused one does not matter.
_IGNORED = frozenset({KafkaError.GROUP_AUTHORIZATION_FAILED, KafkaError.COORDINATOR_NOT_AVAILABLE})
#: A partition that is new, or moves to another leader.
_MOVING = frozenset(
    {
        KafkaError.FENCED_LEADER_EPOCH,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.OFFSET_NOT_AVAILABLE,
        KafkaError.UNKNOWN_LEADER_EPOCH,
    }
)
_GONE = frozenset({KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION})
_FATAL = _GONE | NOT_TRUSTED | {KafkaError.TOPIC_AUTHORIZATION_FAILED}


class Reader:
    """One connection to a cluster for looking at its topics. Use it as a context manager.

    `timeout` (seconds) bounds every question, and how long `read` waits for a broker that went away while there
    is an end to reach; following waits for ever. Everything raises `BrokerError` when the cluster does not
    answer in time or refuses, and `UsageError` for a property that no client can have.
    """

    def __init__(self, properties: Mapping[str, Any], timeout: float = 6.0, *, needs: str = "READ") -> None:
        """`needs` is the permission on topics that whoever uses it cannot do without, for errors that name it."""
        self._needs = needs
        self._topics: list[str] = []
        self._properties = properties
        self._timeout = timeout
        self._last_error: KafkaError | None = None
        self._fatal: KafkaError | None = None
        #: Whether every broker is away at the moment, as far as is known; `read` goes on when one is back.
        self.away = False
        try:
            self._rd = Consumer({**properties, **_OWN, "error_cb": self._on_error})
        except (KafkaException, TypeError, ValueError) as problem:
            raise wrong_property(problem, properties) from problem

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with uninterrupted():
            self._rd.close()

    def topics(self) -> dict[str, int]:
        """Every topic that may be seen, with the number of its partitions."""
        metadata = self._ask(lambda: self._rd.list_topics(timeout=_ASK))
        return {name: len(topic.partitions) for name, topic in metadata.topics.items() if topic.error is None}

    def partitions(self, topic: str) -> int:
        """How many partitions `topic` has; 0 when there is no such topic."""
        found = self._ask(lambda: self._rd.list_topics(topic, timeout=_ASK)).topics[topic]
        if found.error is None:
            return len(found.partitions)
        if found.error.code() in _GONE:
            return 0
        if found.error.code() in REFUSED:
            raise ForbiddenError(on_topics(self._needs, [topic]))
        raise BrokerError(f"{topic} cannot be read: {found.error.str()}")

    def there(self, names: Iterable[str]) -> dict[str, int]:
        """Those of these topics that exist, with the number of their partitions.

        Raises ForbiddenError for one that may not be seen: it is not known to be absent.
        """
        seen = self.topics()
        counts = {name: seen.get(name) or self.partitions(name) for name in dict.fromkeys(names)}
        return {name: count for name, count in counts.items() if count}

    def beginnings(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """The offset of each partition's oldest record."""
        return self._offsets(partitions, OFFSET_BEGINNING)

    def ends(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """The offset after each partition's newest record that is committed."""
        return self._offsets(partitions, OFFSET_END)

    def at_time(self, partitions: Iterable[TopicPartition], timestamp: int) -> dict[TopicPartition, int]:
        """The offset of each partition's first record at or after `timestamp` (milliseconds since the epoch).

        A partition without one is at its end.
        """
        found = self._offsets(partitions, max(0, timestamp))
        late = [tp for tp, offset in found.items() if offset < 0]
        return {**found, **self.ends(late)}

    def read(self, starts: Offsets, stops: Offsets | None = None) -> Iterator[list[Record]]:
        """Batches of records from `starts`, in offset order within each partition.

        With `stops` (offsets after the last record) it ends once every partition got there; without, it never
        does. An empty batch means that nothing came for a moment. Partitions added later are not seen.
        """
        wanted = [tp for tp in starts if stops is None or starts[tp] < stops[tp]]
        if not wanted:
            return
        assigned = [RdPartition(tp.topic, tp.partition, starts[tp]) for tp in wanted]
        self._topics = sorted({tp.topic for tp in wanted})
        self._rd.assign(assigned)
        # A partition that an earlier `read` paused at its stop stays paused over an assignment.
        self._rd.resume(assigned)
        open_: _Limits = {tp: _NEVER if stops is None else stops[tp] for tp in wanted}
        heard = time.monotonic()
        self._fatal = None
        while open_:
            messages = self._take()
            if self._fatal is not None:
                raise self._refused(self._fatal)
            if messages:
                heard, self.away = time.monotonic(), False
            elif stops is not None and time.monotonic() - heard > self._timeout:
                raise self._silent(KafkaError(KafkaError._TIMED_OUT))
            yield self._records(messages, open_)
            if messages:
                heard = time.monotonic()  # what the caller did with them took its time, not the cluster's
        self._rd.unassign()

    def _take(self) -> list[Message]:
        # `consume` waits until it has as many as it is asked for: wait for one, then take what else is there.
        with uninterrupted():
            first = self._rd.poll(_WAIT)
            return [] if first is None else [first, *self._rd.consume(_BATCH - 1, 0)]

    def _records(self, messages: list[Message], open_: _Limits) -> list[Record]:
        """The records among `messages`; partitions that reached their limit are taken out of `open_`.

        Millions come through here. So a partition is looked up as a plain tuple, and nothing is looked at twice.
        """
        records = []
        for message, headers in zip(messages, headers_of(messages), strict=True):
            error, offset = message.error(), message.offset() or 0
            place = (message.topic() or "", message.partition() or 0)
            limit = open_.get(place)
            if error is not None:
                self._judge(error)
                position = offset if error.code() == KafkaError._PARTITION_EOF else -1
            else:
                position = offset + 1
                if limit is not None and offset < limit:
                    records.append(_record(message, *place, offset, headers))
            if limit is not None and position >= limit:
                del open_[place]
                self._rd.pause([RdPartition(*place)])
        return records

    def _judge(self, error: KafkaError) -> None:
        """Raise for what waiting cannot cure."""
        if error.code() == KafkaError._PARTITION_EOF or error.code() in _IGNORED:
            return
        if error.code() not in UNREACHABLE and not error.retriable():
            raise self._refused(error)
        self._last_error = error

    def _refused(self, error: KafkaError) -> BrokerError:
        if error.code() in REFUSED:
            return ForbiddenError(on_topics("READ", self._topics))
        if error.code() in _GONE:
            return BrokerError(f"cannot read on: {error.str()}", "was the topic deleted on the cluster?")
        return cannot_use(self._properties, error)

    def _offsets(self, partitions: Iterable[TopicPartition], when: int) -> dict[TopicPartition, int]:
        # In a ListOffsets request -1 asks for the end and -2 for the beginning, as timestamps that no record
        # has; all partitions go in one round trip to each leader.
        wanted = [RdPartition(tp.topic, tp.partition, when) for tp in partitions]
        if not wanted:
            return {}

        def ask() -> list[RdPartition]:
            answers = self._rd.offsets_for_times(wanted, timeout=_ASK)
            refused = [a.topic for a in answers if a.error is not None and a.error.code() in REFUSED]
            if refused:
                raise ForbiddenError(on_topics(self._needs, refused))
            failed = next((answer.error for answer in answers if answer.error is not None), None)
            if failed is not None:
                raise KafkaException(failed)
            return answers

        return {TopicPartition(a.topic, a.partition): a.offset for a in self._ask(ask, [tp.topic for tp in wanted])}

    def _ask(self, question: Callable[[], T], topics: Sequence[str] = ()) -> T:
        """Ask until there is an answer, in short calls, for up to the timeout. `topics`: what it is about."""
        deadline = time.monotonic() + self._timeout
        while True:
            try:
                with uninterrupted():
                    return checked(question)
            except KafkaException as problem:
                error: KafkaError = problem.args[0]
                with uninterrupted():
                    self._rd.poll(0)  # serves the callback that knows why
                if error.code() in REFUSED and topics:
                    raise ForbiddenError(on_topics(self._needs, topics)) from problem
                if not (error.code() in UNREACHABLE | _MOVING or error.retriable()):
                    raise cannot_use(self._properties, error) from problem
                if time.monotonic() >= deadline or self._is_refused():
                    raise self._silent(error) from problem
                if error.code() in _MOVING:
                    time.sleep(_WAIT)

    def _is_refused(self) -> bool:
        return self._last_error is not None and self._last_error.code() in NOT_TRUSTED

    def _silent(self, error: KafkaError) -> BrokerError:
        return cannot_use(self._properties, self._last_error or error)

    def _on_error(self, error: KafkaError) -> None:
        # confluent-kafka hands nearly all errors to this callback, those of single partitions included.
        if error.code() == KafkaError._ALL_BROKERS_DOWN:
            self.away = True  # which says less than the refused connection or login before it
        elif error.code() in _FATAL:
            self._fatal = self._last_error = error
        elif error.code() not in _IGNORED:
            self._last_error = error


def _record(message: Message, topic: str, partition: int, offset: int, headers: Headers) -> Record:
    kind, timestamp = message.timestamp()
    if not kind:
        timestamp = -1
    # The constructor of a named tuple does the same in twice the time.
    return _TUPLE(Record, (topic, partition, offset, timestamp, message.key(), message.value(), headers))
